//! `millstream log segments`: the segments of each partition as a table or as JSON.

use super::{PlaceArgs, warn_if_in_use};
use crate::cli::exit::CliError;
use crate::cli::time::format_time;
use crate::cli::{json, table};
use crate::inspect::segments::{LogSummary, SegmentSummary, summarize};
use crate::units::format_bytes;
use clap::Args;
use serde_json::{Value, json};

pub(super) const HELP: &str = "\
Examples:
  millstream log segments
  millstream log segments orders/0 --json

JSON, one object for each partition: topic (null if found by path), topic_id, partition, directory,
log_start_offset, checkpoint (null, or segment, position, next_offset: where the next start begins to verify),
troubles (what could not be read, in words), segments: path, base_offset, next_offset, bytes (of the file),
first_append_time_ms, last_append_time_ms (null without frames), state (sealed, active),
index (whole, partial, absent, invalid), torn_files.

Exit codes: 0 done, 1 could not run, 3 no such topic or partition.";

#[derive(Debug, Args)]
pub(super) struct SegmentsArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// One JSON object for each partition.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stderr, reason = "this is the command line")]
pub(super) fn run(args: &SegmentsArgs) -> Result<(), CliError> {
    let (directory, selection) = args.place.open()?;
    let places = directory.find(&selection)?;
    warn_if_in_use(&directory, "the ends of its logs may move")?;
    let (mut logs, mut failed) = (Vec::new(), None);
    for place in places {
        match summarize(&directory, place) {
            Ok(log) => logs.push(log),
            // One directory that cannot be read must not hide the others; the last such error ends the command.
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    eprintln!("millstream: {earlier}");
                }
            }
        }
    }
    print(&logs, args.json)?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

#[expect(clippy::print_stderr, reason = "this is the command line")]
fn print(logs: &[LogSummary], json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(logs.iter().map(log_json));
    }
    for log in logs {
        for trouble in &log.troubles {
            eprintln!("millstream: {}: {trouble}", log.place.label());
        }
    }
    let header =
        ["PARTITION", ">START", ">BASE", ">NEXT", ">BYTES", "FIRST", "LAST", "STATE", "INDEX", "CHECKPOINT", "TORN"];
    table::print(header, logs.iter().flat_map(|log| log.segments.iter().map(|segment| row(log, segment))))
}

fn row(log: &LogSummary, segment: &SegmentSummary) -> [String; 11] {
    let time = |pick: fn((i64, i64)) -> i64| segment.append_times_ms.map_or("-".to_owned(), |t| format_time(pick(t)));
    let checkpoint = log.checkpoint.filter(|checkpoint| checkpoint.segment == segment.base_offset);
    [
        log.place.label(),
        log.log_start_offset.to_string(),
        segment.base_offset.to_string(),
        segment.next_offset.to_string(),
        format_bytes(segment.file_bytes),
        time(|(first, _)| first),
        time(|(_, last)| last),
        state(segment).to_owned(),
        segment.index.name().to_owned(),
        checkpoint.map_or("-".to_owned(), |found| format!("{} at byte {}", found.next_offset, found.position)),
        segment.torn.join(" "),
    ]
}

fn state(segment: &SegmentSummary) -> &'static str {
    if segment.is_sealed { "sealed" } else { "active" }
}

fn log_json(log: &LogSummary) -> Value {
    let checkpoint = log.checkpoint.map(|checkpoint| {
        json!({
            "segment": checkpoint.segment, "position": checkpoint.position, "next_offset": checkpoint.next_offset,
        })
    });
    let segments = log.segments.iter().map(|segment| {
        json!({
            "path": segment.path, "base_offset": segment.base_offset, "next_offset": segment.next_offset,
            "bytes": segment.file_bytes, "first_append_time_ms": segment.append_times_ms.map(|times| times.0),
            "last_append_time_ms": segment.append_times_ms.map(|times| times.1), "state": state(segment),
            "index": segment.index.name(), "torn_files": segment.torn,
        })
    });
    json!({
        "topic": log.place.topic, "topic_id": log.place.id.topic, "partition": log.place.id.partition,
        "directory": log.place.directory, "log_start_offset": log.log_start_offset, "checkpoint": checkpoint,
        "troubles": log.troubles, "segments": segments.collect::<Vec<_>>(),
    })
}
