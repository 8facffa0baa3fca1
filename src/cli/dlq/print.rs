//! Dead letters as people and scripts read them.

use crate::cli::exit::CliError;
use crate::cli::json::record_json;
use crate::cli::time::format_time;
use crate::cli::{json, table};
use crate::client::admin::{DeadLetter, DeadLetterTopic, RedrivenLetter};
use crate::types::TimestampMs;
use crate::units::{format_count, format_duration_ms};
use serde_json::{Value, json};
use std::io::Write;

/// Characters of a key, value or detail in a table.
const CELL_CHARS: usize = 40;

pub(super) fn list(topics: &[DeadLetterTopic], now: TimestampMs, json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(topics.iter().map(|topic| {
            let counts = |counts: &[(String, u64)]| -> Value {
                Value::Object(counts.iter().map(|(name, letters)| (name.clone(), (*letters).into())).collect())
            };
            json!({
                "topic": topic.topic, "queues": topic.queues, "open": topic.open, "kept": topic.kept,
                "oldest_open_ms": topic.oldest_open, "counted": topic.counted,
                "by_reason": counts(&topic.by_reason), "by_queue": counts(&topic.by_queue), "missing": topic.missing,
            })
        }));
    }
    let rows = topics.iter().map(|topic| {
        let counts = |counts: &[(String, u64)]| {
            let name = |name: &str| if name.is_empty() { "unknown".to_owned() } else { cell(name) };
            let counts: Vec<_> = counts.iter().map(|(of, letters)| format!("{} {letters}", name(of))).collect();
            if counts.is_empty() { "-".to_owned() } else { counts.join(", ") }
        };
        let age_ms = topic.oldest_open.map(|oldest| u64::try_from(now.saturating_sub(oldest)).unwrap_or(0));
        // Whole seconds: nobody reads an age to the millisecond.
        let oldest = age_ms.map_or("-".to_owned(), |ms| format_duration_ms(ms - ms % 1_000));
        let queues = if topic.queues.is_empty() { "-".to_owned() } else { topic.queues.join(" ") };
        let name = if topic.missing { format!("{} (missing)", topic.topic) } else { topic.topic.clone() };
        let [open, kept] = [topic.open, topic.kept].map(format_count);
        [name, open, kept, oldest, queues, counts(&topic.by_reason), counts(&topic.by_queue)]
    });
    table::print(["TOPIC", ">OPEN", ">KEPT", ">OLDEST", "QUEUES", "REASONS", "FROM"], rows)
}

/// A letter as a line of a table.
pub(super) type Row = [String; 9];

pub(super) fn row(letter: &DeadLetter) -> Row {
    let record = &letter.record;
    let text = |bytes: &Option<bytes::Bytes>| cell(&String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()));
    let reason = match (letter.reason.as_str(), letter.resolved) {
        ("", false) => "unknown".to_owned(),
        (reason, false) => cell(reason),
        (reason, true) => format!("{} (resolved)", cell(reason)),
    };
    let origin = letter.origin.as_ref().map_or("-".to_owned(), |(at, offset)| format!("{at}/{offset}"));
    [
        format!("{}/{}", record.partition.partition, record.offset),
        format_time(record.append_time),
        cell(&letter.queue),
        reason,
        letter.attempts.to_string(),
        origin,
        text(&record.key),
        text(&record.value),
        cell(&letter.detail),
    ]
}

pub(super) fn peeked(rows: Vec<Row>) -> Result<(), CliError> {
    let columns = ["LETTER", "DIED", "QUEUE", "REASON", ">ATTEMPTS", "ORIGIN", "KEY", "VALUE", "DETAIL"];
    table::print(columns, rows)
}

/// Letters that a dry run has named first, of so many.
pub(super) fn would_go(letters: &[RedrivenLetter], count: u64) -> Result<(), CliError> {
    let rows = letters.iter().map(|letter| [format!("{}/{}", letter.partition, letter.offset), letter.to.to_string()]);
    table::print(["LETTER", "TO"], rows)?;
    let more = count - letters.len() as u64;
    if more > 0 {
        println(&format!("and {} more; --json names all of them", format_count(more)))?;
    }
    Ok(())
}

pub(super) fn redriven(letters: &[RedrivenLetter]) -> Result<(), CliError> {
    json::print_lines(letters.iter().map(|letter| {
        json!({
            "partition": letter.partition, "offset": letter.offset, "to_topic": letter.to.topic.as_str(),
            "to_partition": letter.to.partition, "to_offset": letter.to_offset,
        })
    }))
}

/// A letter as a line of JSON: its record in the shape that `consume --json` prints, with what is known of its death.
pub(super) fn write_letter(out: &mut impl Write, letter: &DeadLetter) -> std::io::Result<()> {
    let mut object = record_json(&letter.record);
    let origin = letter.origin.as_ref();
    object["dead_letter"] = json!({
        "reason": letter.reason, "detail": letter.detail, "attempts": letter.attempts, "queue": letter.queue,
        "origin_topic": origin.map(|(at, _)| at.topic.as_str()), "origin_partition": origin.map(|(at, _)| at.partition),
        "origin_offset": origin.map(|(_, offset)| offset), "first_delivered_ms": letter.first_delivered,
        "last_delivered_ms": letter.last_delivered, "redriven_count": letter.redriven_count,
        "resolved": letter.resolved,
    });
    writeln!(out, "{object}")
}

/// What records say is shown so that it cannot move the cursor, and not at length.
fn cell(text: &str) -> String {
    let mut shown: String = text.chars().take(CELL_CHARS).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown.escape_debug().to_string()
}

fn println(line: &str) -> Result<(), CliError> {
    writeln!(std::io::stdout(), "{line}").map_err(CliError::output)
}
