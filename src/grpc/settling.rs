//! Settle requests of one stream, on their way.
//!
//! Requests that have come together are one command for the queue, because a worker that acknowledges each message by
//! itself sends hundreds at a time. Each still has an answer of its own, and the answers have the order of the requests.

use super::queues::{refused_out, settles_in};
use crate::broker::BrokerError;
use crate::broker::queues::receiving::{ReceiverHandle, check_settles};
use crate::broker::{PendingSettle, Settle, SettleError};
use crate::limits;
use crate::proto::streaming_receive_request as request;
use crate::proto::streaming_receive_response as response;
use futures_util::future::FutureExt as _;
use std::collections::VecDeque;

/// Settle requests that may be on their way at the same time: enough for a worker that acknowledges each message by itself
/// while the disk syncs. No further one is read while they carry [`limits::SETTLES_MAX`] settlements, which bounds memory.
const REQUESTS_MAX: usize = 256;

/// Requests that have come together, not sent yet.
#[derive(Default)]
pub(super) struct Group {
    requests: Vec<Request>,
    settles: Vec<Settle>,
}

struct Request {
    correlation_id: u64,
    settlements: usize,
}

/// Groups on their way, in the order they came in.
#[derive(Default)]
pub(super) struct UnderWay {
    groups: VecDeque<(Vec<Request>, PendingSettle)>,
    requests: usize,
    settlements: usize,
}

impl Group {
    /// Adds a request. One that is refused leaves the others as they are.
    pub(super) fn add(&mut self, settle: request::Settle) -> Result<(), BrokerError> {
        let settles = settles_in(settle.settlements)?;
        check_settles(&settles)?;
        self.requests.push(Request { correlation_id: settle.correlation_id, settlements: settles.len() });
        self.settles.extend(settles);
        Ok(())
    }
}

impl UnderWay {
    /// Whether another request may be read, with that group about to be sent.
    pub(super) fn has_room_beside(&self, group: &Group) -> bool {
        self.requests + group.requests.len() < REQUESTS_MAX
            && self.settlements + group.settles.len() < limits::SETTLES_MAX
    }

    /// Whether another request may be read.
    pub(super) fn has_room(&self) -> bool {
        self.has_room_beside(&Group::default())
    }

    /// Sends a group on its way; its place among all that is settled is fixed when this returns.
    pub(super) async fn send(&mut self, group: Group, handle: &ReceiverHandle) -> Result<(), BrokerError> {
        let Group { requests, settles } = group;
        if requests.is_empty() {
            return Ok(());
        }
        self.requests += requests.len();
        self.settlements += settles.len();
        let pending = handle.begin_settle(settles).await?;
        self.groups.push_back((requests, pending));
        Ok(())
    }

    /// The answers to the oldest group and to all behind it that are settled too; `None` if none is under way. May be
    /// interrupted.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<response::Settled>, BrokerError>> {
        let mut answers = Vec::new();
        let mut settled = self.next_group().await?;
        loop {
            match settled {
                Ok(more) => answers.extend(more),
                Err(error) => return Some(Err(error)),
            }
            match self.next_group().now_or_never() {
                Some(Some(more)) => settled = more,
                Some(None) | None => return Some(Ok(answers)),
            }
        }
    }

    async fn next_group(&mut self) -> Option<Result<Vec<response::Settled>, BrokerError>> {
        let (_, pending) = self.groups.front_mut()?;
        let results = pending.await;
        let (requests, _) = self.groups.pop_front()?;
        self.requests -= requests.len();
        Some(results.map_err(BrokerError::from).map(|results| {
            self.settlements -= results.len();
            answers(requests, results)
        }))
    }
}

/// To each request what became of its part.
fn answers(requests: Vec<Request>, results: Vec<Result<(), SettleError>>) -> Vec<response::Settled> {
    let mut results = results.into_iter();
    let answer = |Request { correlation_id, settlements }| {
        let refused = refused_out(results.by_ref().take(settlements));
        response::Settled { correlation_id, refused }
    };
    requests.into_iter().map(answer).collect()
}
