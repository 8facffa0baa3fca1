//! `DeadLetterService`.
//!
//! Each stream is one task that takes steps until there are none, the caller has left, or the broker stops. A step is
//! never interrupted; what waits between two steps is.

use super::Door;
use super::status::{part_error, status};
use crate::broker::BrokerError;
use crate::broker::letters::{
    FoundLetters, Letter, LetterSelection, LetterTopicState, Purged, RedriveOptions, Redriven, RedrivenLetter,
};
use crate::proto::{self, dead_letter_service_server::DeadLetterService};
use crate::shutdown::Shutdown;
use crate::types::{Offset, TopicName, TopicPartition};
use futures_util::stream::Stream;
use std::collections::BTreeMap;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

/// Responses between a task and its connection; a caller that does not read holds the task up.
const OUTBOX_MESSAGES_MAX: usize = 2;

/// Letters of one response to a read, if their bytes allow.
const READ_LETTERS_MAX: u64 = 1_000;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl DeadLetterService for Door {
    async fn list_dead_letter_topics(
        &self,
        request: Request<proto::ListDeadLetterTopicsRequest>,
    ) -> Result<Response<proto::ListDeadLetterTopicsResponse>, Status> {
        let listed = self.broker.list_letters(&request.into_inner().prefix).await.map_err(|error| status(&error))?;
        let dead_letter_topics = listed.into_iter().map(topic_out).collect();
        Ok(Response::new(proto::ListDeadLetterTopicsResponse { dead_letter_topics }))
    }

    type ReadDeadLettersStream = Responses<proto::ReadDeadLettersResponse>;

    async fn read_dead_letters(
        &self,
        request: Request<proto::ReadDeadLettersRequest>,
    ) -> Result<Response<Self::ReadDeadLettersStream>, Status> {
        let proto::ReadDeadLettersRequest { selection, max_letters, include_resolved } = request.into_inner();
        let opened = self.broker.scan_letters(selection_in(selection), include_resolved).await;
        let mut scan = opened.map_err(|error| status(&error))?;
        let (outbox, responses) = open(self.broker.shutdown());
        tokio::spawn(async move {
            let mut left = all_if_0(max_letters);
            while left > 0 && outbox.goes_on(std::future::ready(())).await {
                let most = usize::try_from(left.min(READ_LETTERS_MAX)).unwrap_or(usize::MAX);
                match outbox.told_of(scan.next(most).await).await {
                    Some(FoundLetters { letters, unreadable, .. }) if !letters.is_empty() || unreadable > 0 => {
                        left = left.saturating_sub(letters.len() as u64);
                        let letters = letters.into_iter().map(letter_out).collect();
                        outbox.send(proto::ReadDeadLettersResponse { letters, unreadable }).await;
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        });
        Ok(Response::new(responses))
    }

    type RedriveDeadLettersStream = Responses<proto::RedriveDeadLettersResponse>;

    async fn redrive_dead_letters(
        &self,
        request: Request<proto::RedriveDeadLettersRequest>,
    ) -> Result<Response<Self::RedriveDeadLettersStream>, Status> {
        let proto::RedriveDeadLettersRequest { selection, to_topic, letters_per_second, max_letters, dry_run } =
            request.into_inner();
        let letters_max = all_if_0(max_letters);
        let options = RedriveOptions { to: to_topic, letters_per_second, letters_max, dry_run };
        let opened = self.broker.redrive_letters(selection_in(selection), options).await;
        let mut redrive = opened.map_err(|error| status(&error))?;
        let (outbox, responses) = open(self.broker.shutdown());
        tokio::spawn(async move {
            while outbox.goes_on(redrive.turn()).await {
                match outbox.told_of(redrive.step().await).await {
                    Some(done) => outbox.send_if_any(redriven_out(done)).await,
                    None => return,
                }
            }
        });
        Ok(Response::new(responses))
    }

    type PurgeDeadLettersStream = Responses<proto::PurgeDeadLettersResponse>;

    async fn purge_dead_letters(
        &self,
        request: Request<proto::PurgeDeadLettersRequest>,
    ) -> Result<Response<Self::PurgeDeadLettersStream>, Status> {
        let proto::PurgeDeadLettersRequest { selection, max_letters, dry_run } = request.into_inner();
        let opened = self.broker.purge_letters(selection_in(selection), all_if_0(max_letters), dry_run).await;
        let mut purge = opened.map_err(|error| status(&error))?;
        let (outbox, responses) = open(self.broker.shutdown());
        tokio::spawn(async move {
            while outbox.goes_on(std::future::ready(())).await {
                match outbox.told_of(purge.step().await).await {
                    Some(Purged { letters, unreadable }) => {
                        outbox.send_if_any(proto::PurgeDeadLettersResponse { letters, unreadable }).await;
                    }
                    None => return,
                }
            }
        });
        Ok(Response::new(responses))
    }
}

/// Where a task sends its responses.
struct Outbox<T> {
    responses: mpsc::Sender<Result<T, Status>>,
    shutdown: Shutdown,
}

fn open<T: Send + 'static>(shutdown: &Shutdown) -> (Outbox<T>, Responses<T>) {
    let (responses, stream) = mpsc::channel(OUTBOX_MESSAGES_MAX);
    (Outbox { responses, shutdown: shutdown.clone() }, Box::pin(ReceiverStream::new(stream)))
}

impl<T: PartialEq + Default> Outbox<T> {
    /// Waits for the turn of the next step; whether it is to be taken.
    async fn goes_on(&self, turn: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = self.responses.closed() => false,
            () = self.shutdown.draining() => {
                drop(self.responses.send(Err(status(&BrokerError::Draining))).await);
                false
            }
            () = turn => true,
        }
    }

    /// What a step has done; `None` if it was the last, or failed, which ends the stream.
    async fn told_of<S>(&self, step: Result<Option<S>, BrokerError>) -> Option<S> {
        match step {
            Ok(done) => done,
            Err(error) => {
                drop(self.responses.send(Err(status(&error))).await);
                None
            }
        }
    }

    /// A caller that is gone is found out before the next step.
    async fn send(&self, response: T) {
        drop(self.responses.send(Ok(response)).await);
    }

    async fn send_if_any(&self, response: T) {
        if response != T::default() {
            self.send(response).await;
        }
    }
}

fn all_if_0(most: u64) -> u64 {
    if most == 0 { u64::MAX } else { most }
}

fn selection_in(selection: Option<proto::LetterSelection>) -> LetterSelection {
    let wanted = selection.unwrap_or_default();
    LetterSelection {
        topic: wanted.topic,
        queue: wanted.queue,
        reason: wanted.reason,
        key: wanted.key,
        headers: wanted.headers.into_iter().map(|header| (header.key, header.value)).collect(),
        partition: wanted.partition,
        first_offset: Offset(wanted.first_offset),
        end_offset: wanted.end_offset.map(Offset),
        since_ms: wanted.since_ms,
        until_ms: wanted.until_ms,
    }
}

fn topic_out((name, state): (TopicName, LetterTopicState)) -> proto::DeadLetterTopic {
    let counts_out = |counts: BTreeMap<String, u64>| {
        counts.into_iter().map(|(name, letters)| proto::LetterCount { name, letters }).collect()
    };
    proto::DeadLetterTopic {
        topic: name.into(),
        queues: state.queues.into_iter().map(String::from).collect(),
        open: state.open,
        kept: state.kept,
        oldest_open_ms: state.oldest_open_ms,
        counted: state.counted,
        by_reason: counts_out(state.by_reason),
        by_queue: counts_out(state.by_queue),
        missing: state.missing,
    }
}

/// The record is not copied.
fn letter_out(letter: Letter) -> proto::DeadLetter {
    let facts = letter.facts;
    let (origin_topic, origin_partition, origin_offset) = match facts.origin {
        Some((TopicPartition { topic, partition }, offset)) => (topic.into(), partition, offset.0),
        None => (String::new(), 0, 0),
    };
    proto::DeadLetter {
        topic: letter.at.topic.into(),
        partition: letter.at.partition,
        offset: letter.offset.0,
        append_time_ms: letter.append_time_ms,
        reason: facts.reason,
        detail: facts.detail,
        attempts: facts.attempts,
        queue: facts.queue,
        origin_topic,
        origin_partition,
        origin_offset,
        first_delivered_ms: facts.first_delivered_ms,
        last_delivered_ms: facts.last_delivered_ms,
        redriven_count: facts.redriven_count,
        resolved: letter.resolved,
        record: letter.body,
    }
}

fn redriven_out(done: Redriven) -> proto::RedriveDeadLettersResponse {
    let letter_out = |letter: RedrivenLetter| proto::RedrivenLetter {
        partition: letter.partition,
        offset: letter.offset.0,
        to_topic: letter.to.topic.into(),
        to_partition: letter.to.partition,
        to_offset: letter.to_offset.map(|offset| offset.0),
    };
    let refused_out = |(at, offset, error): (TopicPartition, Offset, BrokerError)| proto::RefusedLetter {
        partition: at.partition,
        offset: offset.0,
        error: Some(part_error(&error)),
    };
    proto::RedriveDeadLettersResponse {
        letters: done.letters.into_iter().map(letter_out).collect(),
        refused: done.refused.into_iter().map(refused_out).collect(),
        unreadable: done.unreadable,
    }
}
