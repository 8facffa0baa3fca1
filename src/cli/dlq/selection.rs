//! Which letters are meant, in words: the same options at every verb.

use crate::cli::exit::CliError;
use crate::cli::time::parse_time;
use crate::client::admin::LetterSelection;
use crate::types::{Offset, TimestampMs};
use bytes::Bytes;
use clap::Args;
use std::fmt;

/// Conditions on letters; all that are given must be met.
#[derive(Debug, Args)]
pub(super) struct SelectionArgs {
    /// The dead letter topic.
    #[arg(value_name = "TOPIC")]
    topic: Option<String>,
    /// Letters that this queue gave up; without TOPIC, in the topic that it writes to.
    #[arg(long, visible_alias = "origin-queue", value_name = "QUEUE")]
    queue: Option<String>,
    /// Letters that died of this, such as rejected; `dlq list` shows the reasons there are.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Letters with this key.
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// Letters with this header; given more than once, with all of them.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Messages that died at or after this: 2026-01-31T12:00:00Z, milliseconds since 1970, or -15m.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Messages that died before this.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Letters in this partition of the dead letter topic.
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// Letters at or behind this offset of the dead letter topic.
    #[arg(long, value_name = "OFFSET")]
    from_offset: Option<u64>,
    /// Letters before this offset.
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<u64>,
}

impl SelectionArgs {
    /// What the broker is asked for at `now`.
    pub(super) fn selection(&self, now: TimestampMs) -> Result<LetterSelection, CliError> {
        if self.topic.is_none() && self.queue.is_none() {
            return Err(CliError::usage("name a dead letter topic, or a queue with --queue; see: millstream dlq list"));
        }
        let time = |text: &Option<String>| {
            text.as_deref().map(|text| parse_time(text, now)).transpose().map_err(CliError::usage)
        };
        let header = |(name, value): &(String, String)| (name.clone(), Bytes::from(value.clone()));
        Ok(LetterSelection {
            topic: self.topic.clone().unwrap_or_default(),
            queue: self.queue.clone().unwrap_or_default(),
            reason: self.reason.clone().unwrap_or_default(),
            key: self.key.clone().map(Bytes::from),
            headers: self.headers.iter().map(header).collect(),
            partition: self.partition,
            first_offset: Offset(self.from_offset.unwrap_or(0)),
            end_offset: self.to_offset.map(Offset),
            since: time(&self.since)?,
            until: time(&self.until)?,
        })
    }
}

/// The topic, or the queue: what a person calls them.
impl fmt::Display for SelectionArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.topic, &self.queue) {
            (Some(topic), _) => f.write_str(topic),
            (None, queue) => write!(f, "queue {}", queue.as_deref().unwrap_or_default()),
        }
    }
}

/// Says that there were letters nobody could read.
pub(super) fn check_unreadable(unreadable: u64) -> Result<(), CliError> {
    if unreadable == 0 {
        return Ok(());
    }
    eprintln!(
        "millstream: {unreadable} letters could not be read: their bytes are damaged; see: millstream log verify"
    );
    Err(CliError::ProblemsFound(unreadable))
}

fn parse_header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write a header as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
