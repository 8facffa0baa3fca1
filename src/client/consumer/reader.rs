//! Reading one partition from one offset until another.
//!
//! The next fetch is under way while the last is read. Lost connections are waited out, for a while: a read that
//! moves nothing cannot be told from one that never will.

use super::batch::{ConsumedBatch, batches_from_wire};
use super::fetching::Fetching;
use crate::client::backoff::Backoff;
use crate::client::{Client, ClientError};
use crate::proto;
use crate::types::{Offset, TopicPartition};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Attempts in a row that may fail; with the back-off between them about half a minute.
const FAILURES_MAX: u32 = 12;

/// The broker holds a fetch this long when there is nothing, which happens only if the range ends past the log.
const HOLD: Duration = Duration::from_millis(500);

/// Reads a range of offsets of one partition, in order, once.
///
/// ```no_run
/// # async fn example(partition: millstream::types::TopicPartition) -> Result<(), millstream::client::ClientError> {
/// use millstream::client::{Client, PartitionReader};
/// use millstream::types::Offset;
///
/// let client = Client::connect("127.0.0.1:7171").await?;
/// let mut reader = PartitionReader::new(&client, partition, Offset(100)..Offset(200));
/// while let Some(batch) = reader.next().await? {
///     println!("{} records from offset {}", batch.record_count(), batch.base_offset());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PartitionReader {
    client: Client,
    partition: TopicPartition,
    /// The first offset not received yet, and the first not wanted.
    range: Range<Offset>,
    fetching: Fetching,
    ready: VecDeque<ConsumedBatch>,
    failures: u32,
    backoff: Backoff,
}

impl PartitionReader {
    /// Begins to read; the first fetch is sent at once.
    pub fn new(client: &Client, partition: TopicPartition, range: Range<Offset>) -> Self {
        Self::filtered(client, partition, range, None)
    }

    /// The same, of records that match the filter only.
    pub fn filtered(client: &Client, partition: TopicPartition, range: Range<Offset>, filter: Option<String>) -> Self {
        let mut reader = Self {
            client: client.clone(),
            partition,
            range,
            fetching: Fetching::new(filter),
            ready: VecDeque::new(),
            failures: 0,
            backoff: Backoff::new(),
        };
        reader.begin(Duration::ZERO);
        reader
    }

    /// The next batch; `None` at the end of the range. May be dropped at the await and called again.
    pub async fn next(&mut self) -> Result<Option<ConsumedBatch>, ClientError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.fetching.is_idle() {
                return Ok(None);
            }
            let answer = self.fetching.finish().await;
            match answer.and_then(|answer| self.take(answer)) {
                Ok(moved) => {
                    self.failures = if moved { 0 } else { self.failures + 1 };
                    if self.failures >= FAILURES_MAX {
                        return Err(ClientError::BadAnswer {
                            what: "the log ends before the offset that was asked for",
                        });
                    }
                    self.backoff.reset();
                    self.begin(Duration::ZERO);
                }
                Err(error) if error.is_retryable() && self.failures < FAILURES_MAX => {
                    self.failures += 1;
                    let pause = self.backoff.next_wait(error.retry_after());
                    self.begin(pause);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn begin(&mut self, pause: Duration) {
        if self.range.start < self.range.end {
            let position = std::iter::once((&self.partition, self.range.start));
            self.fetching.begin(&self.client, position, HOLD, pause);
        }
    }

    /// Keeps what belongs to the range; whether the fetch got any further.
    fn take(&mut self, answer: Vec<proto::FetchedPartition>) -> Result<bool, ClientError> {
        let Some(fetched) = answer.into_iter().next() else {
            return Err(ClientError::BadAnswer { what: "a fetch was answered without its partition" });
        };
        if let Some(error) = fetched.error {
            return Err(error.into());
        }
        let batches = batches_from_wire(&self.partition, fetched.batches)?;
        self.ready.extend(batches.into_iter().filter_map(|batch| batch.before(self.range.end)));
        let moved = fetched.next_offset > self.range.start.0;
        self.range.start = self.range.start.max(Offset(fetched.next_offset));
        Ok(moved)
    }
}
