//! Queues and their messages as people and scripts read them.

use crate::cli::exit::CliError;
use crate::cli::json::record_json;
use crate::cli::{json, table};
use crate::client::ConsumedRecord;
use crate::client::admin::{BlockedKey, BreakerState, QueueDescription, QueueListing};
use crate::client::queue::PeekedMessage;
use crate::types::{Durability, TopicName};
use crate::units::{format_count, format_duration_ms};
use serde_json::{Value, json};
use std::io::Write;

pub(super) fn changed(what: &str, queue: &QueueListing, json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines([listing_json(queue)]);
    }
    eprintln!("{what} queue {} on {}: {}", queue.name, topics_of(queue).join(", "), summary(queue));
    Ok(())
}

pub(super) fn list(queues: &[QueueListing], json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(queues.iter().map(listing_json));
    }
    let rows = queues.iter().map(|queue| {
        let state = if queue.paused { "paused" } else { "active" };
        [queue.name.clone(), state.to_owned(), topics_of(queue).join(" "), summary(queue)]
    });
    table::print(["NAME", "STATE", "TOPICS", "DELIVERY"], rows)
}

fn topics_of(queue: &QueueListing) -> Vec<String> {
    queue.topics.iter().map(ToString::to_string).chain(queue.topic_patterns.iter().cloned()).collect()
}

pub(super) fn describe(described: &QueueDescription, json: bool) -> Result<(), CliError> {
    if json {
        let mut object = listing_json(&described.queue);
        object["receiver_count"] = described.receivers.into();
        object["delivered"] = described.delivered.into();
        object["acked"] = described.acked.into();
        object["dead_lettered"] = described.dead_lettered.into();
        object["absent"] = described.absent.into();
        object["failed"] = described.failed.into();
        object["filtered"] = described.filtered.into();
        let (breaker, until) = match described.breaker {
            BreakerState::Closed => ("closed", None),
            BreakerState::OpenUntil(until) => ("open", Some(until)),
            BreakerState::Probing => ("probing", None),
        };
        object["breaker"] = breaker.into();
        object["breaker_open_until_ms"] = until.into();
        let partitions = described.partitions.iter().map(|found| {
            json!({
                "topic": found.partition.topic.as_str(), "partition": found.partition.partition,
                "low_watermark": found.low_watermark, "frontier": found.frontier,
                "high_watermark": found.high_watermark, "backlog": found.backlog, "leased": found.leased,
                "available": found.available, "blocked": found.blocked, "waiting": found.waiting,
                "dying": found.dying,
            })
        });
        object["partitions"] = partitions.collect();
        return json::print_lines([object]);
    }
    let QueueDescription { queue, receivers, delivered, acked, failed, dead_lettered, absent, filtered, .. } =
        described;
    let paused = match (queue.paused, described.breaker) {
        (true, _) => ", paused".to_owned(),
        (false, BreakerState::Closed) => String::new(),
        (false, BreakerState::OpenUntil(until)) => {
            format!(", paused by its breaker until {}", crate::cli::time::format_time(until))
        }
        (false, BreakerState::Probing) => ", trying one message at a time after its breaker's pause".to_owned(),
    };
    let text = format!(
        "queue {}{paused}: {}\n{receivers} streams; since the broker started: {} delivered, {} acked, {} failed, {} dead \
         letters, {} gone from the log{}\n\n",
        queue.name,
        summary(queue),
        format_count(*delivered),
        format_count(*acked),
        format_count(*failed),
        format_count(*dead_lettered),
        format_count(*absent),
        if queue.filter.is_empty() { String::new() } else { format!(", {} filtered out", format_count(*filtered)) },
    );
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)?;
    let rows = described.partitions.iter().map(|found| {
        let counts = [found.backlog, found.available, found.leased, found.waiting, found.blocked, found.dying];
        let [backlog, available, leased, waiting, blocked, dying] = counts.map(format_count);
        let (topic, partition) = (found.partition.topic.to_string(), found.partition.partition.to_string());
        [topic, partition, found.low_watermark.to_string(), backlog, available, leased, waiting, blocked, dying]
    });
    let columns =
        ["TOPIC", ">PARTITION", ">DONE-BELOW", ">BACKLOG", ">AVAILABLE", ">LEASED", ">WAITING", ">BLOCKED", ">DYING"];
    table::print(columns, rows)
}

pub(super) fn peeked(messages: &[PeekedMessage], json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(messages.iter().map(|message| {
            let mut object = record_json(&message.record);
            object["state"] = message.state.to_string().into();
            object["attempts"] = message.attempts.into();
            object
        }));
    }
    let rows = messages.iter().map(|message| {
        let ConsumedRecord { partition, offset, key, value, .. } = &message.record;
        let place = [partition.to_string(), offset.to_string(), message.state.to_string()];
        let [partition, offset, state] = place;
        [partition, offset, state, message.attempts.to_string(), text(key.as_ref()), text(value.as_ref())]
    });
    table::print(["PARTITION", ">OFFSET", "STATE", ">ATTEMPTS", "KEY", "VALUE"], rows)
}

pub(super) fn blocked(keys: &[BlockedKey], json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(keys.iter().map(|BlockedKey { first, blocked }| {
            let mut object = record_json(&first.record);
            object["state"] = first.state.to_string().into();
            object["attempts"] = first.attempts.into();
            object["blocked"] = (*blocked).into();
            object
        }));
    }
    let rows = keys.iter().map(|BlockedKey { first, blocked }| {
        let ConsumedRecord { partition, offset, key, .. } = &first.record;
        let place = [partition.to_string(), offset.to_string(), first.state.to_string(), first.attempts.to_string()];
        let [partition, offset, state, attempts] = place;
        [text(key.as_ref()), format_count(*blocked), partition, offset, state, attempts]
    });
    table::print(["KEY", ">BLOCKED", ">PARTITION", ">FIRST-OFFSET", "STATE", ">ATTEMPTS"], rows)
}

/// The beginning of a key or a value, in one line.
fn text(bytes: Option<&bytes::Bytes>) -> String {
    let bytes = bytes.map(|bytes| &bytes[..]).unwrap_or_default();
    let shown: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
    shown.escape_debug().to_string()
}

fn summary(QueueListing { settings, filter, .. }: &QueueListing) -> String {
    let mut parts = vec![format!("lease {}", format_duration_ms(settings.lease_ms.unwrap_or_default()))];
    match (settings.attempts_max.unwrap_or_default(), settings.dead_letter_topic.as_deref().unwrap_or_default()) {
        (0, "") => parts.push("retried for ever".to_owned()),
        (0, topic) => parts.push(format!("retried for ever, rejects to {topic}")),
        (attempts, topic) => parts.push(format!("{attempts} attempts, then {topic}")),
    }
    if settings.ordered_by_key == Some(true) {
        parts.push("in order by key".to_owned());
    }
    if settings.durability == Some(Durability::Written) {
        parts.push("settlements confirmed when written".to_owned());
    }
    if let Some(ttl_ms) = settings.message_ttl_ms.filter(|ttl_ms| *ttl_ms > 0) {
        parts.push(format!("messages live {}", format_duration_ms(ttl_ms)));
    }
    if settings.priority_by_partition == Some(true) {
        parts.push("higher partitions first".to_owned());
    }
    if let Some(percent) = settings.breaker_failures_percent.filter(|percent| *percent > 0) {
        let deliveries = settings.breaker_deliveries.unwrap_or_default();
        let pause = format_duration_ms(settings.breaker_pause_ms.unwrap_or_default());
        parts.push(format!("pauses {pause} when {percent}% of {deliveries} deliveries fail"));
    }
    if !filter.is_empty() {
        parts.push(format!("only {filter}"));
    }
    parts.join(", ")
}

fn listing_json(queue: &QueueListing) -> Value {
    let settings = &queue.settings;
    json!({
        "name": queue.name, "filter": queue.filter, "paused": queue.paused, "created_at_ms": queue.created_at,
        "topics": queue.topics.iter().map(TopicName::as_str).collect::<Vec<_>>(),
        "topic_patterns": queue.topic_patterns,
        "lease_ms": settings.lease_ms, "max_lease_ms": settings.max_lease_ms,
        "retry_min_ms": settings.retry_min_ms, "retry_max_ms": settings.retry_max_ms,
        "retry_multiplier_percent": settings.retry_multiplier_percent,
        "retry_jitter_percent": settings.retry_jitter_percent, "attempts_max": settings.attempts_max,
        "dead_letter_topic": settings.dead_letter_topic, "ordered_by_key": settings.ordered_by_key,
        "max_in_flight": settings.max_in_flight,
        "max_in_flight_per_receiver": settings.max_in_flight_per_receiver, "durability": settings.durability,
        "message_ttl_ms": settings.message_ttl_ms, "priority_by_partition": settings.priority_by_partition,
        "breaker_failures_percent": settings.breaker_failures_percent,
        "breaker_deliveries": settings.breaker_deliveries, "breaker_pause_ms": settings.breaker_pause_ms,
    })
}
