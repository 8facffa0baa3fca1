//! The flags that say how to send, and whether they can be meant.

use super::Job;
use crate::bench::payload::STAMP_BYTES;
use crate::bench::workload::queue::{Messages, QueueWork};
use crate::bench::workload::{Length, Load, Workload};
use crate::cli::exit::CliError;
use crate::cli::topic::DurabilityArg;
use crate::limits::{BATCH_BYTES_LIMIT_MAX, PARTITIONS_MAX, QUEUE_IN_FLIGHT_MAX};
use crate::units::{format_bytes, parse_bytes, parse_duration};
use clap::Args;
use std::time::Duration;

/// Records of a batch when nothing is said, and when one batch is on its way at a time.
const BATCH_RECORDS_DEFAULT: u32 = 1_000;

/// More than this is no longer one machine's work.
const PRODUCERS_MAX: u32 = 1_000;
const IN_FLIGHT_MAX: u32 = 1_000;
const READERS_MAX: u32 = 1_000;

/// Most memory that batches on their way may take.
const IN_FLIGHT_BYTES_MAX: u64 = 1 << 30;

/// What a record takes besides its value, at most.
const FRAMING_BYTES: u64 = 40;

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Bytes of the value of a record.
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = parse_bytes)]
    record_bytes: u64,
    /// Records of one batch; 1,000 without it, or 1 with --in-flight 1. At a fixed rate: at most so many.
    #[arg(long, value_name = "N")]
    batch_records: Option<u32>,
    /// Let the client gather records for this long, rather than send each batch as it is.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    linger: Option<Duration>,
    /// Most batches of one producer that are not acknowledged. An idempotent one has at most 5 to a partition.
    #[arg(long, value_name = "N", default_value_t = 4)]
    in_flight: u32,
    /// How many producers, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: u32,
    /// Partitions of the topic.
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,
    /// What an acknowledgement waits for.
    #[arg(long, value_enum, default_value = "synced")]
    durability: DurabilityArg,
    /// Send without producer id and sequence.
    #[arg(long)]
    no_idempotence: bool,
    /// Measure for this long (each step, of a workload that has steps).
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Run this long before measuring.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    warm_up: Duration,
}

impl LoadArgs {
    /// The load, if there can be such a one.
    pub(super) fn check(&self, job: &Job) -> Result<Load, CliError> {
        let batch_default = if self.in_flight == 1 { 1 } else { BATCH_RECORDS_DEFAULT };
        let batch_records = self.batch_records.unwrap_or(batch_default);
        within("--record-bytes", self.record_bytes, STAMP_BYTES as u64, BATCH_BYTES_LIMIT_MAX.into())?;
        within("--batch-records", batch_records.into(), 1, BATCH_BYTES_LIMIT_MAX.into())?;
        within("--in-flight", self.in_flight.into(), 1, IN_FLIGHT_MAX.into())?;
        within("--producers", self.producers.into(), 1, PRODUCERS_MAX.into())?;
        within("--partitions", self.partitions.into(), 1, PARTITIONS_MAX.into())?;
        match job {
            Job::Topic(workload) => check_workload(workload)?,
            Job::Queue(work) => check_queue(work)?,
        }
        if self.duration.is_zero() {
            return Err(CliError::usage("--duration is 0; measure for some time, such as 5s"));
        }
        let batch_bytes = u64::from(batch_records) * (self.record_bytes + FRAMING_BYTES);
        if batch_bytes > BATCH_BYTES_LIMIT_MAX.into() {
            return Err(CliError::usage(format!(
                "a batch of --batch-records {batch_records} with --record-bytes {} takes {}; at most {} are allowed: \
                 lower one of them",
                self.record_bytes,
                format_bytes(batch_bytes),
                format_bytes(BATCH_BYTES_LIMIT_MAX.into()),
            )));
        }
        let in_flight_bytes = batch_bytes * u64::from(self.in_flight) * u64::from(self.producers);
        if in_flight_bytes > IN_FLIGHT_BYTES_MAX {
            return Err(CliError::usage(format!(
                "--producers {} with --in-flight {} batches take {}; at most {} are allowed: lower one of them, or \
                 --batch-records",
                self.producers,
                self.in_flight,
                format_bytes(in_flight_bytes),
                format_bytes(IN_FLIGHT_BYTES_MAX),
            )));
        }
        Ok(Load {
            record_bytes: usize::try_from(self.record_bytes).unwrap_or(usize::MAX),
            batch_records,
            linger: self.linger,
            in_flight: self.in_flight,
            producers: self.producers,
            partitions: self.partitions,
            durability: self.durability.into(),
            idempotent: !self.no_idempotence,
            length: Length { warm_up: self.warm_up, duration: self.duration },
        })
    }
}

fn check_workload(workload: &Workload) -> Result<(), CliError> {
    match *workload {
        Workload::Consume { backlog_bytes, readers, .. } | Workload::Mixed { backlog_bytes, readers, .. } => {
            within("--readers", readers.into(), 1, READERS_MAX.into())?;
            within("--backlog-bytes", backlog_bytes, 1, u64::MAX)
        }
        Workload::Fanout { groups } => within("--groups", groups.into(), 1, READERS_MAX.into()),
        Workload::Backlog { backlog_bytes, .. } => within("--backlog-bytes", backlog_bytes, 1, u64::MAX),
        Workload::Rate { p99_below, .. } if p99_below.is_zero() => {
            Err(CliError::usage("--p99-below is 0; no record arrives in no time: give a time such as 5ms"))
        }
        Workload::Produce | Workload::EndToEnd { .. } | Workload::Rate { .. } => Ok(()),
    }
}

fn check_queue(work: &QueueWork) -> Result<(), CliError> {
    within("--workers", work.workers.into(), 1, READERS_MAX.into())?;
    let prefetch_max = u64::from(QUEUE_IN_FLIGHT_MAX / work.workers);
    within("--prefetch", work.prefetch.into(), 1, prefetch_max)?;
    match work.messages {
        Messages::Backlog(messages) => within("--messages", messages, 1, u64::MAX),
        Messages::Rate(_) => Ok(()),
    }
}

fn within(flag: &str, value: u64, least: u64, most: u64) -> Result<(), CliError> {
    if value < least {
        return Err(CliError::usage(format!("{flag} is {value}; it must be at least {least}")));
    }
    if value > most {
        return Err(CliError::usage(format!("{flag} is {value}; it must be at most {most}")));
    }
    Ok(())
}
