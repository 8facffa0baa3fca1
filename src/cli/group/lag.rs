//! `millstream group lag`: how far a group is behind, once or again and again.

use crate::cli::exit::CliError;
use crate::cli::interrupt::Interrupts;
use crate::cli::time::format_time;
use crate::cli::{json, table};
use crate::client::Client;
use crate::client::admin::{GroupDescription, GroupLag, GroupPartition};
use crate::units::{format_bytes, format_count, format_duration_ms};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// How often `--watch` looks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

pub(super) const HELP: &str = "\
BEHIND is the time from the first unread record to the last, AGE how long the first one has waited, DRAIN how long it
takes to catch up at the pace of the last minute (- : not known; never : the lag grows).
With --json: one line for each partition, and one without a topic for the whole group.

Examples:
  millstream group lag billing
  millstream group lag billing --watch";

/// Prints it once.
pub(super) async fn once(client: &Client, group: &str, json: bool) -> Result<(), CliError> {
    let group = client.describe_group(group).await?;
    if json {
        let whole = json!({ "group": group.group.name, "lag": lag_json(&group.lag) });
        return json::print_lines(group.partitions.iter().map(partition_json).chain([whole]));
    }
    print_progress(&group)?;
    let GroupLag { records, .. } = group.lag;
    let [bytes, behind, age, drain] = cells(Some(&group.lag));
    let text = format!(
        "\ntotal lag: {} records, {bytes}, {behind} behind, oldest {age}, drain {drain}\n",
        format_count(records)
    );
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)
}

/// Again and again; on a terminal each time over the last.
pub(super) async fn watch(client: &Client, group: &str, json: bool) -> Result<(), CliError> {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    let mut interrupts = Interrupts::listen();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = interrupts.next() => return Err(CliError::Interrupted),
        }
        if std::io::stdout().is_terminal() && !json {
            std::io::stdout().write_all(b"\x1b[2J\x1b[H").map_err(CliError::output)?;
        }
        once(client, group, json).await?;
    }
}

/// One line for each partition.
pub(super) fn print_progress(group: &GroupDescription) -> Result<(), CliError> {
    let rows = group.partitions.iter().map(|progress| {
        let [bytes, behind, age, drain] = cells(progress.lag.as_ref());
        [
            progress.partition.topic.to_string(),
            progress.partition.partition.to_string(),
            progress.committed_offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            progress.high_watermark.to_string(),
            format_count(progress.lag_records),
            bytes,
            behind,
            age,
            drain,
            progress.committed_at.map(format_time).unwrap_or_default(),
            progress.member_id.clone(),
        ]
    });
    let header = [
        "TOPIC",
        ">PARTITION",
        ">COMMITTED",
        ">END",
        ">LAG",
        ">BYTES",
        ">BEHIND",
        ">AGE",
        ">DRAIN",
        "COMMITTED-AT",
        "MEMBER",
    ];
    table::print(header, rows)
}

/// Bytes, behind, age and drain.
fn cells(lag: Option<&GroupLag>) -> [String; 4] {
    let unknown = || "-".to_owned();
    let Some(lag) = lag else { return [unknown(), unknown(), unknown(), unknown()] };
    let grows = lag.records > 0 && lag.consumed_per_second.is_some();
    [
        lag.bytes.map_or_else(unknown, format_bytes),
        lag.span.map_or_else(unknown, rough),
        lag.oldest_unread_age.map_or_else(unknown, rough),
        lag.drain.map_or_else(|| if grows { "never".to_owned() } else { unknown() }, rough),
    ]
}

/// A time as people read it: in its largest unit, with one decimal.
fn rough(time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(unit_ms, _)| ms >= *unit_ms) {
        Some((unit_ms, unit)) => {
            let tenths = ms.saturating_mul(10) / unit_ms;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
        None => format_duration_ms(ms),
    }
}

pub(super) fn partition_json(progress: &GroupPartition) -> Value {
    json!({
        "topic": progress.partition.topic.as_str(), "partition": progress.partition.partition,
        "committed_offset": progress.committed_offset, "log_start_offset": progress.log_start_offset,
        "high_watermark": progress.high_watermark, "lag_records": progress.lag_records,
        "lag": progress.lag.as_ref().map(lag_json),
        "member_id": progress.member_id, "committed_at_ms": progress.committed_at, "metadata": progress.metadata,
    })
}

pub(super) fn lag_json(lag: &GroupLag) -> Value {
    let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!({
        "records": lag.records, "bytes": lag.bytes, "span_ms": ms(lag.span),
        "oldest_unread_age_ms": ms(lag.oldest_unread_age), "consumed_per_second": lag.consumed_per_second,
        "appended_per_second": lag.appended_per_second, "drain_ms": ms(lag.drain),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (ms, text) in [(0, "0ms"), (999, "999ms"), (1_550, "1.5s"), (90_000, "1.5m"), (129_600_000, "1.5d")] {
            assert_eq!(rough(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        let lag = GroupLag { records: 5, ..GroupLag::default() };
        assert_eq!(cells(Some(&lag)), ["-", "-", "-", "-"]);
        let standing = GroupLag { consumed_per_second: Some(0.0), ..lag };
        assert_eq!(cells(Some(&standing))[3], "never");
    }
}
