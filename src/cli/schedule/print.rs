//! Schedules as people and scripts read them.

use crate::cli::exit::CliError;
use crate::cli::time::format_time;
use crate::cli::{json, table};
use crate::client::ConsumedRecord;
use crate::client::admin::{AddedSchedule, Cron, ScheduleListing};
use crate::types::record_set::Record;
use crate::types::{Offset, TimestampMs, TopicPartition};
use serde_json::{Value, json};
use std::io::Write as _;

pub(super) fn added(added: &[AddedSchedule], json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(added.iter().map(|added| json!({ "id": added.id, "due_ms": added.due })));
    }
    let mut out = std::io::stdout().lock();
    for added in added {
        writeln!(out, "{}", added.id).map_err(CliError::output)?;
    }
    if let [only] = added {
        eprintln!("due {}", format_time(only.due));
    }
    Ok(())
}

pub(super) fn rescheduled(id: &str, due: TimestampMs, json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines([json!({ "id": id, "due_ms": due })]);
    }
    eprintln!("schedule {id} is due {}", format_time(due));
    Ok(())
}

/// The first page has a header.
pub(super) fn list(schedules: &[ScheduleListing], has_header: bool, json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(schedules.iter().map(listing_json));
    }
    let rows = schedules.iter().map(|schedule| {
        let cron = schedule.cron.as_ref().map(words_of_cron).unwrap_or_default();
        let error = schedule.last_error.clone().unwrap_or_default();
        let topic = schedule.topic.to_string();
        [format_time(schedule.due), schedule.id.clone(), topic, schedule.state.to_string(), cron, error]
    });
    if has_header {
        return table::print(["DUE", "ID", "TOPIC", "STATE", "CRON", "LAST-ERROR"], rows);
    }
    table::print_rows(rows)
}

pub(super) fn show(schedule: &ScheduleListing, record: &Record, json: bool) -> Result<(), CliError> {
    if json {
        let mut object = listing_json(schedule);
        object["record"] = record_json(schedule, record);
        return json::print_lines([object]);
    }
    let text = |bytes: Option<&bytes::Bytes>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => String::from_utf8_lossy(bytes).escape_debug().to_string(),
    };
    let optional_time = |time: Option<TimestampMs>| time.map_or_else(|| "-".to_owned(), format_time);
    let mut facts = vec![
        ["topic", &schedule.topic.to_string()].map(str::to_owned),
        ["partition".to_owned(), schedule.partition.map_or_else(|| "by key".to_owned(), |number| number.to_string())],
        ["due".to_owned(), format_time(schedule.due)],
        ["cron".to_owned(), schedule.cron.as_ref().map_or_else(|| "-".to_owned(), words_of_cron)],
        ["created".to_owned(), format_time(schedule.created_at)],
        ["delivered".to_owned(), schedule.delivered.to_string()],
        ["last-delivered".to_owned(), optional_time(schedule.last_delivered)],
        ["state".to_owned(), schedule.state.to_string()],
        ["failures".to_owned(), schedule.failures.to_string()],
        ["last-error".to_owned(), schedule.last_error.clone().unwrap_or_else(|| "-".to_owned())],
        ["key".to_owned(), text(record.key.as_ref())],
        ["value".to_owned(), text(record.value.as_ref())],
    ];
    facts.extend(
        record.headers.iter().map(|(name, value)| ["header".to_owned(), format!("{name}={}", text(Some(value)))]),
    );
    table::print(["SCHEDULE", &schedule.id], facts)
}

fn words_of_cron(cron: &Cron) -> String {
    let missed = if cron.skip_missed { ", skips what was missed" } else { "" };
    format!("{} {}{missed}", cron.expression, cron.time_zone)
}

fn listing_json(schedule: &ScheduleListing) -> Value {
    let cron = schedule.cron.as_ref().map(|cron| {
        let missed = if cron.skip_missed { "skip" } else { "once" };
        json!({ "expression": cron.expression, "time_zone": cron.time_zone, "missed": missed })
    });
    json!({
        "id": schedule.id, "topic": schedule.topic.as_str(), "partition": schedule.partition, "due_ms": schedule.due,
        "cron": cron, "created_at_ms": schedule.created_at, "delivered": schedule.delivered,
        "last_delivered_ms": schedule.last_delivered, "state": schedule.state.to_string(),
        "failures": schedule.failures, "last_error": schedule.last_error,
    })
}

/// The record in the shape that `consume --json` prints, without what it gets when it is delivered.
fn record_json(schedule: &ScheduleListing, record: &Record) -> Value {
    let Record { key, value, headers, timestamp, message_id } = record.clone();
    let partition = TopicPartition { topic: schedule.topic.clone(), partition: 0 };
    let (offset, append_time) = (Offset::ZERO, 0);
    let record = ConsumedRecord { partition, offset, key, value, headers, timestamp, message_id, append_time };
    let mut line = Vec::new();
    json::write_record(&mut line, &record).expect("a vector takes every byte");
    let mut object: Value = serde_json::from_slice(&line).expect("it was just written as JSON");
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, _| !["topic", "partition", "offset", "append_time_ms"].contains(&name.as_str()));
    }
    object
}
