//! One `Fetch` under way at a time, in a task of its own, so that it goes on while its predecessor is read.

use crate::client::connection::service;
use crate::client::{Client, ClientError};
use crate::proto;
use crate::types::{Offset, TopicPartition};
use std::time::Duration;
use tokio::task::JoinSet;

/// Bytes asked for in one fetch: past 1 MiB the cost of a call is no longer felt.
const FETCH_BYTES: u32 = 4 << 20;

/// The fetch that is under way, if one is. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Fetching {
    filter: String,
    task: JoinSet<Result<Vec<proto::FetchedPartition>, ClientError>>,
}

impl Fetching {
    /// Only of records that match the filter, if there is one.
    pub(super) fn new(filter: Option<String>) -> Self {
        Self { filter: filter.unwrap_or_default(), task: JoinSet::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.task.is_empty()
    }

    /// Begins a fetch, after `pause`. The broker holds it for up to `hold` until there is a record.
    pub(super) fn begin<'a>(
        &mut self,
        client: &Client,
        positions: impl Iterator<Item = (&'a TopicPartition, Offset)>,
        hold: Duration,
        pause: Duration,
    ) {
        debug_assert!(self.is_idle(), "a fetch is already under way");
        let positions = positions.map(|(partition, offset)| proto::FetchPosition {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            offset: offset.0,
        });
        let max_wait_ms = u32::try_from(hold.as_millis()).unwrap_or(u32::MAX);
        let (positions, filter) = (positions.collect(), self.filter.clone());
        let request = proto::FetchRequest { positions, max_bytes: FETCH_BYTES, min_bytes: 1, max_wait_ms, filter };
        let client = client.clone();
        self.task.spawn(async move {
            tokio::time::sleep(pause).await;
            let mut consumers = service!(client, consumer_service_client, ConsumerServiceClient);
            client.answer_held(hold, consumers.fetch(request)).await.map(|answer| answer.partitions)
        });
    }

    /// The answer to the fetch that was begun. May be dropped at the await and called again.
    pub(super) async fn finish(&mut self) -> Result<Vec<proto::FetchedPartition>, ClientError> {
        match self.task.join_next().await {
            Some(Ok(answer)) => answer,
            // The task neither panics nor is aborted while this is alive; the runtime may be going down, though.
            Some(Err(_)) | None => Err(ClientError::Closed),
        }
    }
}
