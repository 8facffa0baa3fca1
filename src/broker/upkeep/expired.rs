//! Records that were deleted before a consumer group had read them: counted and told, once for each loss.
//!
//! A partition remembers up to where its deletions were told; whoever moves the log start (retention, `DeleteRecords`)
//! takes what is not told yet and brings it here. Only groups that have committed an offset in the partition are looked
//! at: what a group that never committed has read, nobody knows.

use crate::group::{GroupCoordinator, LogPlace};
use crate::metrics::Metrics;
use crate::planted::{Bug, is_planted};
use crate::types::{Offset, TopicId, TopicPartition};
use std::ops::Range;
use std::sync::Arc;

/// Asked of the coordinator at a time, so that commits do not wait long behind it.
const PLACES_MAX: usize = 256;

/// Offsets of a partition that were deleted.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Expired {
    pub(in crate::broker) at: TopicPartition,
    pub(in crate::broker) topic_id: TopicId,
    pub(in crate::broker) offsets: Range<Offset>,
}

/// Tells which groups lost something by it.
pub(in crate::broker) async fn tell_of_unread(
    groups: Option<GroupCoordinator>,
    metrics: Arc<Metrics>,
    expired: Vec<Expired>,
) {
    if is_planted(Bug::ExpiredUnreadNotCounted) {
        return;
    }
    let Some(groups) = groups else {
        if !expired.is_empty() {
            tracing::warn!(
                "records were deleted while groups are offline; which groups had not read them is not known"
            );
        }
        return;
    };
    for expired in expired.chunks(PLACES_MAX) {
        let place = |expired: &Expired| LogPlace {
            topic_id: expired.topic_id,
            partition: expired.at.partition,
            offset: expired.offsets.end,
        };
        let behind = match groups.behind(expired.iter().map(place).collect()).await {
            Ok(behind) => behind,
            Err(error) => {
                tracing::warn!(%error, "it is not known which groups had not read what retention deleted");
                return;
            }
        };
        for (expired, groups) in expired.iter().zip(behind) {
            for (group, committed) in groups {
                let Range { start, end } = expired.offsets;
                let first_offset = committed.max(start);
                let records = end.records_since(first_offset);
                let (topic, partition) = (&expired.at.topic, expired.at.partition);
                tracing::warn!(
                    %group, %topic, partition, %first_offset, next_offset = %end, records,
                    "records were deleted before the group had read them"
                );
                metrics.expired_unread(group.as_str(), &expired.at, records);
            }
        }
    }
}
