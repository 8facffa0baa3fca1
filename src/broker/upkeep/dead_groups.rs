//! Groups that nobody has used for as long as the operator keeps them are deleted, and said so.

use crate::group::GroupCoordinator;
use crate::metrics::Metrics;
use crate::types::TimestampMs;

/// Deletes groups that were dead for `retention_ms` at `now_ms`; what is left over is for the next round.
pub(in crate::broker) async fn forget_dead_groups(
    groups: &GroupCoordinator,
    metrics: &Metrics,
    now_ms: TimestampMs,
    retention_ms: u64,
) {
    match groups.forget_dead(now_ms, retention_ms).await {
        Ok(forgotten) => {
            for group in forgotten {
                tracing::info!(%group, retention_ms, "nobody has used the group for so long: it is deleted");
                metrics.forget_group(group.as_str());
            }
        }
        Err(error) => tracing::warn!(%error, "groups that nobody uses are not deleted"),
    }
}
