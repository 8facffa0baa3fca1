//! Topics and partitions as tables for people and as JSON for programs.

use crate::cli::exit::CliError;
use crate::cli::time::format_time;
use crate::cli::{json, table};
use crate::client::ClientError;
use crate::client::admin::{CompactedPartition, DamagedRange, PartitionDescription, TopicDescription, TopicSettings};
use crate::types::Cleanup;
use crate::units::{format_bytes, format_count, format_duration_ms};
use serde_json::{Value, json};

/// A topic in a few words.
pub(super) fn summary(topic: &TopicDescription) -> String {
    let partitions = if topic.partitions == 1 { "partition" } else { "partitions" };
    format!("{} {partitions}, {}", topic.partitions, cleanup(&topic.settings))
}

/// Many topics, one a line.
pub(super) fn list(topics: &[TopicDescription], json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(topics.iter().map(topic_json));
    }
    let rows = topics.iter().map(|topic| {
        let durability = topic.settings.durability.map(|durability| durability.to_string()).unwrap_or_default();
        let cleanup = topic.settings.cleanup.map(|cleanup| cleanup.to_string()).unwrap_or_default();
        [topic.name.to_string(), topic.partitions.to_string(), retention(&topic.settings), cleanup, durability]
    });
    table::print(["NAME", ">PARTITIONS", "RETENTION", "CLEANUP", "DURABILITY"], rows)
}

/// One topic and its partitions.
pub(super) fn describe(
    topic: &TopicDescription,
    partitions: &[PartitionDescription],
    json: bool,
) -> Result<(), CliError> {
    if json {
        let mut object = topic_json(topic);
        object["partition_states"] = partitions.iter().map(partition_json).collect();
        return json::print_lines([object]);
    }
    let settings = &topic.settings;
    let bytes = |bytes: Option<u64>| bytes.map(format_bytes).unwrap_or_default();
    let facts = [
        ["name", &topic.name.to_string()],
        ["id", &topic.topic_id],
        ["created", &format_time(topic.created_at)],
        ["retention", &retention(settings)],
        ["cleanup", &settings.cleanup.map(|cleanup| cleanup.to_string()).unwrap_or_default()],
        ["tombstone-grace", &settings.tombstone_grace_ms.map(format_duration_ms).unwrap_or_default()],
        ["durability", &settings.durability.map(|durability| durability.to_string()).unwrap_or_default()],
        ["segment-bytes", &bytes(settings.segment_bytes)],
        ["segment-age", &settings.segment_age_ms.map(format_duration_ms).unwrap_or_default()],
        ["record-bytes-max", &bytes(settings.record_bytes_max.map(u64::from))],
        ["batch-bytes-max", &bytes(settings.batch_bytes_max.map(u64::from))],
        ["dedup-window", &settings.dedup_window_ms.map(dedup_window).unwrap_or_default()],
    ];
    table::print(["TOPIC", ""], facts.map(|row| row.map(str::to_owned)))?;
    println_blank()?;
    let compacts = settings.cleanup.is_some_and(Cleanup::compacts);
    let rows = partitions.iter().map(|state| {
        [
            state.partition.to_string(),
            state.log_start_offset.to_string(),
            state.high_watermark.to_string(),
            state.log_end_offset.to_string(),
            records(state.high_watermark.records_since(state.log_start_offset), compacts),
            format_bytes(state.log_bytes),
            state.segments.to_string(),
            state.fencing_token.map(|token| token.to_string()).unwrap_or_default(),
            state.refusal.as_ref().map(|refusal| refusal.message.clone()).unwrap_or_default(),
        ]
    });
    let header = [">PARTITION", ">START", ">HIGH-WATERMARK", ">END", ">RECORDS", ">BYTES", ">SEGMENTS", ">TOKEN", ""];
    table::print(header, rows)?;
    print_damage(partitions)
}

/// Only if there is any.
fn print_damage(partitions: &[PartitionDescription]) -> Result<(), CliError> {
    let rows = partitions.iter().flat_map(|state| {
        state.damaged.iter().map(|range| {
            let offsets = [range.first_offset, range.next_offset].map(|offset| offset.to_string());
            let [first, next] = offsets;
            let place = [range.file.clone(), range.position.to_string(), range.what.clone()];
            let [file, position, what] = place;
            [state.partition.to_string(), first, next, file, position, what]
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    println_blank()?;
    table::print([">DAMAGED PARTITION", ">FIRST", ">NEXT", "FILE", ">BYTE", "WHAT"], rows)
}

/// What compaction did, one partition a line. A partition that was not compacted is an error at the end.
pub(super) fn compacted(partitions: &[CompactedPartition], json: bool) -> Result<(), CliError> {
    if json {
        json::print_lines(partitions.iter().map(compacted_json))?;
    } else {
        let rows = partitions.iter().map(|done| {
            [
                done.partition.to_string(),
                format_count(done.removed_records),
                format_bytes(done.bytes_before),
                format_bytes(done.bytes_after),
                done.segments_before.to_string(),
                done.segments_after.to_string(),
                done.refusal.as_ref().map(|refusal| refusal.message.clone()).unwrap_or_default(),
            ]
        });
        let header = [">PARTITION", ">REMOVED", ">BYTES-BEFORE", ">AFTER", ">SEGMENTS-BEFORE", ">AFTER", ""];
        table::print(header, rows)?;
    }
    let refusal = partitions.iter().find_map(|done| done.refusal.clone());
    refusal.map_or(Ok(()), |refusal| Err(ClientError::Refused(Box::new(refusal)).into()))
}

fn compacted_json(done: &CompactedPartition) -> Value {
    json!({
        "partition": done.partition, "removed_records": done.removed_records,
        "bytes_before": done.bytes_before, "bytes_after": done.bytes_after,
        "segments_before": done.segments_before, "segments_after": done.segments_after,
        "error": done.refusal.as_ref().map(|refusal| refusal.message.as_str()),
    })
}

/// How many records there are, or may be: offsets say nothing of those that were compacted away.
fn records(offsets: u64, compacts: bool) -> String {
    let count = format_count(offsets);
    if compacts && offsets > 0 { format!("up to {count}") } else { count }
}

/// Which records go, in a few words.
fn cleanup(settings: &TopicSettings) -> String {
    match settings.cleanup {
        Some(Cleanup::Compact) => "compacted".to_owned(),
        Some(Cleanup::CompactAndDelete) => format!("compacted, retention {}", retention(settings)),
        Some(Cleanup::Delete) | None => format!("retention {}", retention(settings)),
    }
}

fn println_blank() -> Result<(), CliError> {
    use std::io::Write as _;
    std::io::stdout().write_all(b"\n").map_err(CliError::output)
}

fn retention(settings: &TopicSettings) -> String {
    if settings.cleanup == Some(Cleanup::Compact) {
        return "forever".to_owned();
    }
    let time = settings.retention_ms.filter(|ms| *ms > 0).map(format_duration_ms);
    let bytes = settings.retention_bytes.filter(|bytes| *bytes > 0).map(format_bytes);
    match (time, bytes) {
        (None, None) => "forever".to_owned(),
        (Some(time), None) => time,
        (None, Some(bytes)) => bytes,
        (Some(time), Some(bytes)) => format!("{time} or {bytes}"),
    }
}

fn dedup_window(window_ms: u64) -> String {
    if window_ms == 0 { "off".to_owned() } else { format_duration_ms(window_ms) }
}

fn topic_json(topic: &TopicDescription) -> Value {
    let settings = &topic.settings;
    json!({
        "name": topic.name.as_str(), "topic_id": topic.topic_id, "partitions": topic.partitions,
        "created_at_ms": topic.created_at, "internal": topic.internal,
        "retention_ms": settings.retention_ms, "retention_bytes": settings.retention_bytes,
        "segment_bytes": settings.segment_bytes, "segment_age_ms": settings.segment_age_ms,
        "durability": settings.durability, "record_bytes_max": settings.record_bytes_max,
        "batch_bytes_max": settings.batch_bytes_max, "dedup_window_ms": settings.dedup_window_ms,
        "batch_bytes_max": settings.batch_bytes_max, "cleanup": settings.cleanup,
        "tombstone_grace_ms": settings.tombstone_grace_ms,
    })
}

fn partition_json(state: &PartitionDescription) -> Value {
    json!({
        "partition": state.partition, "log_start_offset": state.log_start_offset,
        "high_watermark": state.high_watermark, "log_end_offset": state.log_end_offset,
        "log_bytes": state.log_bytes, "segments": state.segments, "fencing_token": state.fencing_token,
        "error": state.refusal.as_ref().map(|refusal| refusal.message.as_str()),
        "damaged": state.damaged.iter().map(damaged_json).collect::<Vec<_>>(),
    })
}

fn damaged_json(range: &DamagedRange) -> Value {
    json!({
        "first_offset": range.first_offset, "next_offset": range.next_offset, "file": range.file,
        "position": range.position, "what": range.what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_said_in_words() {
        let settings = |retention_ms, retention_bytes| TopicSettings {
            retention_ms: Some(retention_ms),
            retention_bytes: Some(retention_bytes),
            ..TopicSettings::default()
        };
        assert_eq!(retention(&settings(0, 0)), "forever");
        assert_eq!(retention(&settings(86_400_000, 1 << 30)), "1d or 1 GiB");
    }
}
