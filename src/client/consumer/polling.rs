//! Reading on from known offsets after a subscription without a group was lost.
//!
//! A subscription begins all its partitions at one position, so it cannot resume several at their own offsets; a
//! fetch can. One long poll covers all partitions, the next is under way while the last is read.

use super::OnExpired;
use super::batch::batches_from_wire;
use super::event::{Event, RecordsEvent};
use super::fetching::Fetching;
use crate::client::convert::partition_from_wire;
use crate::client::{Client, ClientError, PartitionOffset};
use crate::limits;
use crate::proto;
use crate::types::{Offset, TopicPartition};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long the broker holds a fetch that finds nothing: as often as a subscription would send a heartbeat.
const HOLD: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Polling {
    next: BTreeMap<TopicPartition, Offset>,
    on_expired: OnExpired,
    fetching: Fetching,
    /// Of the last answer, not given out yet.
    ready: VecDeque<Event>,
    /// Where the next fetch begins in the partitions, when there are more than one fetch may name.
    turn: usize,
}

impl Polling {
    pub(super) fn new(positions: Vec<(TopicPartition, Offset)>, on_expired: OnExpired, filter: Option<String>) -> Self {
        let next = positions.into_iter().collect();
        Self { next, on_expired, fetching: Fetching::new(filter), ready: VecDeque::new(), turn: 0 }
    }

    /// Asks without waiting: whether the broker is there and still knows the partitions.
    pub(super) async fn probe(&mut self, client: &Client) -> Result<(), ClientError> {
        self.begin(client, Duration::ZERO);
        let answer = self.fetching.finish().await?;
        self.take(answer)
    }

    pub(super) async fn next(&mut self, client: &Client) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if self.fetching.is_idle() {
                self.begin(client, HOLD);
            }
            let answer = self.fetching.finish().await?;
            let ends = ends_of(&answer)?;
            self.take(answer)?;
            self.begin(client, HOLD);
            if self.ready.is_empty() {
                return Ok(Event::Heartbeat { ends });
            }
        }
    }

    fn begin(&mut self, client: &Client, hold: Duration) {
        let count = self.next.len().min(limits::FETCH_POSITIONS_MAX);
        let positions = self.next.iter().cycle().skip(self.turn).take(count);
        self.fetching.begin(client, positions.map(|(partition, offset)| (partition, *offset)), hold, Duration::ZERO);
        self.turn = (self.turn + count) % self.next.len().max(1);
    }

    fn take(&mut self, answer: Vec<proto::FetchedPartition>) -> Result<(), ClientError> {
        for fetched in answer {
            let partition = partition_from_wire(&fetched.topic, fetched.partition)?;
            let Some(next) = self.next.get_mut(&partition) else {
                return Err(ClientError::BadAnswer { what: "a fetch was answered for another partition" });
            };
            let (start, end) = (Offset(fetched.log_start_offset), Offset(fetched.high_watermark));
            if let Some(error) = fetched.error {
                let expired = *next < start;
                match self.on_expired {
                    OnExpired::Earliest if expired => *next = start,
                    OnExpired::Latest if expired => *next = end,
                    _ => return Err(error.into()),
                }
                continue;
            }
            let batches = batches_from_wire(&partition, fetched.batches)?;
            let told_next_offset = Offset(fetched.next_offset);
            let has_moved = told_next_offset > std::mem::replace(next, told_next_offset);
            let records = RecordsEvent { partition, batches, high_watermark: end, told_next_offset };
            self.ready.extend(records.or_passed().filter(|_| has_moved));
        }
        Ok(())
    }
}

fn ends_of(answer: &[proto::FetchedPartition]) -> Result<Vec<PartitionOffset>, ClientError> {
    let ends = answer.iter().map(|fetched| {
        let partition = partition_from_wire(&fetched.topic, fetched.partition)?;
        Ok(PartitionOffset::new(partition, Offset(fetched.high_watermark)))
    });
    ends.collect()
}
