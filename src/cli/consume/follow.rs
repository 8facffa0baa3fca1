//! Reading on as records come, alone or in a group.
//!
//! Output is flushed whenever no more records are at hand, so a person sees each at once and a flood is written in
//! large pieces. In a group, what has left the process is committed: at the interval, when partitions are handed
//! over, and at the end, whichever end that is.

use super::printer::Printer;
use super::{Plan, Way, check_count};
use crate::cli::exit::CliError;
use crate::cli::interrupt::interrupt;
use crate::client::admin::OffsetQuery;
use crate::client::{Client, Consumer, ConsumerOptions, Event, PartitionOffset};
use crate::types::{Offset, Position, TopicPartition};
use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;
use tokio::time::Instant;

/// The commit at the end must not keep anybody who wants to leave.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints records until the plan, a person, or the reader of the output says that it is enough.
pub(super) async fn follow(client: &Client, plan: &Plan, printer: &mut Printer<File>) -> Result<(), CliError> {
    let consumer = client.consumer(options_of(plan)).await?;
    let (to_end, commit_interval) = match plan.way {
        Way::Group { to_end, commit_interval, .. } => (to_end, commit_interval),
        Way::Range(..) | Way::Follow(_) => (false, None),
    };
    let mut session = Session {
        client,
        consumer,
        printer,
        ends: to_end.then(EndTracker::default),
        commit_interval,
        commit_at: Instant::now(),
        uncommitted: false,
        timeout: plan.timeout,
        quiet_since: Instant::now(),
    };
    let result = tokio::select! {
        biased;
        () = interrupt() => Err(CliError::Interrupted),
        result = session.run() => result,
    };
    session.finish(&result).await?;
    result?;
    if to_end { check_count(plan, printer) } else { Ok(()) }
}

fn options_of(plan: &Plan) -> ConsumerOptions {
    let options = ConsumerOptions {
        partitions: plan.partitions.clone(),
        topic_patterns: plan.patterns.clone(),
        on_expired: plan.on_expired,
        filter: plan.filter.clone(),
        ..ConsumerOptions::new(plan.topics.clone())
    };
    match &plan.way {
        Way::Group { name, start, .. } => {
            let (instance_id, session_timeout) = match plan.instance.clone() {
                Some((id, timeout)) => (Some(id), timeout),
                None => (None, options.session_timeout),
            };
            let (group, assignor) = (Some(name.clone()), plan.assignor);
            ConsumerOptions { group, start: *start, instance_id, session_timeout, assignor, ..options }
        }
        Way::Follow(start) | Way::Range(start, _) => ConsumerOptions { start: *start, ..options },
    }
}

struct Session<'a> {
    client: &'a Client,
    consumer: Consumer,
    printer: &'a mut Printer<File>,
    /// Where to stop, if there is an end.
    ends: Option<EndTracker>,
    /// `None` = nothing is committed.
    commit_interval: Option<Duration>,
    commit_at: Instant,
    /// Something was marked since the last commit.
    uncommitted: bool,
    timeout: Option<Duration>,
    quiet_since: Instant,
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), CliError> {
        loop {
            if self.uncommitted && self.commit_at <= Instant::now() {
                self.flush()?;
                self.commit().await?;
            }
            let flush_first = self.printer.is_dirty();
            let timeout = self.timeout.map(|timeout| self.quiet_since + timeout);
            let event = tokio::select! {
                biased;
                event = self.consumer.next() => event?,
                // Nothing more is at hand: let what there is be seen before waiting.
                () = std::future::ready(()), if flush_first => {
                    self.flush()?;
                    continue;
                }
                () = tokio::time::sleep_until(self.commit_at), if self.uncommitted => continue,
                () = sleep_until(timeout) => {
                    let waited = self.timeout.unwrap_or_default();
                    return Err(CliError::NoData(format!("no record came for {waited:?}")));
                }
            };
            self.take(event).await?;
            let at_end = self.ends.as_ref().is_some_and(|ends| ends.are_reached(&self.consumer.positions()));
            if at_end || self.printer.is_full() {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), CliError> {
        match event {
            Event::Records(records) => {
                for batch in &records.batches {
                    self.printer.print(batch)?;
                }
                self.printer.pass(&records.partition, records.next_offset());
                if self.timeout.is_some() {
                    self.quiet_since = Instant::now();
                }
            }
            Event::Passed { partition, next_offset, .. } => self.printer.pass(&partition, next_offset),
            Event::Assigned { partitions, .. } => {
                if self.ends.is_some() {
                    let ends = self.ends_of(&partitions).await?;
                    self.ends.get_or_insert_default().assign(ends);
                }
            }
            Event::Revoked { partitions, .. } => {
                // The next call commits what is marked, and lets go.
                self.flush()?;
                if let Some(ends) = &mut self.ends {
                    ends.forget(&partitions);
                }
            }
            Event::Seek { .. } => {
                self.flush()?;
                eprintln!("millstream: the group was moved; going on from there");
            }
            Event::Paused => eprintln!("millstream: the group is paused; to go on: millstream group resume"),
            Event::Resumed => eprintln!("millstream: the group goes on"),
            Event::Draining => {
                self.flush()?;
                self.commit().await?;
            }
            Event::Disconnected { lost } => {
                self.flush()?;
                self.uncommitted = false;
                eprintln!("millstream: {lost}; trying to connect again");
            }
            Event::Reconnected => {
                eprintln!("millstream: connected again");
                if let Some(ends) = &mut self.ends {
                    *ends = EndTracker::default();
                }
            }
            Event::Heartbeat { .. } => {
                if let Some(ends) = &mut self.ends {
                    ends.settle();
                }
            }
        }
        Ok(())
    }

    /// The ends of partitions, at this moment.
    async fn ends_of(&self, partitions: &[PartitionOffset]) -> Result<Vec<(TopicPartition, Offset)>, CliError> {
        let query =
            |begin: &PartitionOffset| OffsetQuery { partition: begin.partition.clone(), position: Position::Latest };
        let queries: Vec<_> = partitions.iter().map(query).collect();
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let listed = self.client.list_offsets(&queries).await?;
        Ok(listed.into_iter().map(|end| (end.partition, end.offset)).collect())
    }

    /// Sends the output out, and marks what has left.
    fn flush(&mut self) -> Result<(), CliError> {
        let done = self.printer.flush()?;
        if let Some(interval) = self.commit_interval {
            for (partition, next_offset) in &done {
                self.consumer.mark(partition, *next_offset);
            }
            if !done.is_empty() && !self.uncommitted {
                self.uncommitted = true;
                self.commit_at = Instant::now() + interval;
            }
        }
        Ok(())
    }

    /// Commits what is marked. What is refused was taken over by another member, which reads it again.
    async fn commit(&mut self) -> Result<(), CliError> {
        self.uncommitted = false;
        match self.consumer.commit_marked().await {
            Ok(refused) => {
                for outcome in refused {
                    eprintln!("millstream: {} was not committed: {}", outcome.partition, outcome.refusal);
                }
                Ok(())
            }
            // The next event tells of it, and what was not committed comes again.
            Err(lost) if lost.is_retryable() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The last flush and the last commit. A reader that has gone has read what was flushed before it went.
    async fn finish(&mut self, result: &Result<(), CliError>) -> Result<(), CliError> {
        let flushed = if matches!(result, Err(CliError::OutputClosed)) { Ok(()) } else { self.flush() };
        if self.uncommitted {
            let committed = tokio::time::timeout(LAST_COMMIT_TIMEOUT, self.commit()).await;
            committed.unwrap_or_else(|_| {
                let what = "the last records were printed and could not be committed: they will come again";
                Err(CliError::NoData(what.to_owned()))
            })?;
        }
        flushed
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Where `-e` stops: the end that each partition had when it was assigned.
#[derive(Debug, Default)]
struct EndTracker {
    ends: BTreeMap<TopicPartition, Offset>,
    /// Partitions were assigned, or time enough has passed to believe that none will be.
    settled: bool,
}

impl EndTracker {
    fn assign(&mut self, ends: Vec<(TopicPartition, Offset)>) {
        self.settled |= !ends.is_empty();
        self.ends.extend(ends);
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.ends.retain(|partition, _| !partitions.contains(partition));
    }

    fn settle(&mut self) {
        self.settled = true;
    }

    fn are_reached(&self, positions: &[(TopicPartition, Offset)]) -> bool {
        let reached =
            |(partition, next): &(TopicPartition, Offset)| self.ends.get(partition).is_none_or(|end| next >= end);
        self.settled && positions.iter().all(reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicName;

    #[test]
    fn the_end_is_that_of_every_partition_held() {
        let at = |partition| TopicPartition { topic: TopicName::new("t").expect("valid"), partition };
        let mut ends = EndTracker::default();
        assert!(!ends.are_reached(&[]), "nothing is assigned yet");
        ends.assign(vec![(at(0), Offset(5)), (at(1), Offset(0))]);
        assert!(!ends.are_reached(&[(at(0), Offset(4)), (at(1), Offset(0))]));
        assert!(ends.are_reached(&[(at(0), Offset(5)), (at(1), Offset(0))]));
        ends.forget(&[at(0)]);
        assert!(ends.are_reached(&[(at(1), Offset(0))]));
    }

    #[test]
    fn a_member_that_gets_nothing_is_done_in_time() {
        let mut ends = EndTracker::default();
        ends.assign(Vec::new());
        assert!(!ends.are_reached(&[]));
        ends.settle();
        assert!(ends.are_reached(&[]));
    }
}
