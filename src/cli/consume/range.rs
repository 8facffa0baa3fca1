//! Reading from place to place: both are turned into offsets once, at the beginning, then partition after partition
//! is read. A topic that grows meanwhile does not make the work longer.

use super::printer::Printer;
use super::{Plan, check_count};
use crate::cli::exit::CliError;
use crate::cli::interrupt::interrupt;
use crate::client::admin::OffsetQuery;
use crate::client::{Client, ClientError, PartitionReader};
use crate::types::{Offset, Position, TopicPartition};
use std::fs::File;
use std::ops::Range;
use std::time::Duration;

/// Prints the records of every partition of the plan between two places.
pub(super) async fn read(
    client: &Client,
    plan: &Plan,
    from: Position,
    until: Position,
    printer: &mut Printer<File>,
) -> Result<(), CliError> {
    let result = tokio::select! {
        biased;
        () = interrupt() => Err(CliError::Interrupted),
        result = read_all(client, plan, from, until, printer) => result,
    };
    match result {
        Err(CliError::OutputClosed) => Err(CliError::OutputClosed),
        result => printer.flush().map(drop).and(result),
    }?;
    check_count(plan, printer)
}

async fn read_all(
    client: &Client,
    plan: &Plan,
    from: Position,
    until: Position,
    printer: &mut Printer<File>,
) -> Result<(), CliError> {
    for (partition, range) in ranges(client, plan, from, until).await? {
        let mut reader = PartitionReader::filtered(client, partition, range, plan.filter.clone());
        while let Some(batch) = within(plan.timeout, reader.next()).await? {
            printer.print(&batch)?;
            if printer.is_full() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn within<T>(
    timeout: Option<Duration>,
    next: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, CliError> {
    match timeout {
        None => Ok(next.await?),
        Some(timeout) => match tokio::time::timeout(timeout, next).await {
            Ok(next) => Ok(next?),
            Err(_) => Err(CliError::NoData(format!("no record came for {timeout:?}"))),
        },
    }
}

/// The offsets of both places in every partition, without those in which nothing lies between.
async fn ranges(
    client: &Client,
    plan: &Plan,
    from: Position,
    until: Position,
) -> Result<Vec<(TopicPartition, Range<Offset>)>, CliError> {
    let mut queries = Vec::new();
    for partition in partitions(client, plan).await? {
        queries.push(OffsetQuery { partition: partition.clone(), position: from });
        queries.push(OffsetQuery { partition, position: until });
    }
    let listed = client.list_offsets(&queries).await?;
    let ranges = listed.chunks_exact(2).map(|pair| {
        // An offset that was asked for by number may lie outside the log.
        let clamp = |offset: Offset| {
            offset.clamp(pair[0].log_start_offset, pair[0].high_watermark.max(pair[0].log_start_offset))
        };
        (pair[0].partition.clone(), clamp(pair[0].offset)..clamp(pair[1].offset))
    });
    Ok(ranges.filter(|(_, range)| !range.is_empty()).collect())
}

async fn partitions(client: &Client, plan: &Plan) -> Result<Vec<TopicPartition>, CliError> {
    let mut all = Vec::new();
    for topic in &plan.topics {
        let (description, _) = client.topic(topic).await?;
        let partitions = description.partitions;
        if let Some(partition) = plan.partitions.iter().copied().find(|partition| *partition >= partitions) {
            return Err(ClientError::NoSuchPartition { topic: topic.to_string(), partition, partitions }.into());
        }
        let wanted = (0..partitions).filter(|number| plan.partitions.is_empty() || plan.partitions.contains(number));
        all.extend(wanted.map(|partition| TopicPartition { topic: topic.clone(), partition }));
    }
    Ok(all)
}
