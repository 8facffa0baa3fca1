//! Working on the messages of a queue: take them, settle them.
//!
//! Two ways: [`Client::receive`] and [`Client::settle`] are single calls, for a script; a [`QueueStream`] gets messages
//! as they come, within a window, and its leases last as long as it does. Nothing here retries: after a lost stream
//! its messages are with the queue again, and whoever worked on them opens another.

mod message;
mod stream;

pub(super) use message::record_from_wire;
pub use message::{MessageState, PeekedMessage, QueueMessage, RefusedSettlement, Settlement, Verdict};
pub use stream::{QueueEvent, QueueStream, QueueWindow};

use super::connection::service;
use super::{Client, ClientError};
use crate::proto;
use std::time::Duration;

impl Client {
    /// Takes up to `messages_max` messages (at most 1,000); waits for the first as long as `wait_max`. Their leases end
    /// by time alone.
    pub async fn receive(
        &self,
        queue: &str,
        messages_max: u32,
        wait_max: Duration,
    ) -> Result<Vec<QueueMessage>, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let request = proto::ReceiveRequest {
            queue: queue.to_owned(),
            max_messages: messages_max,
            max_bytes: 0,
            max_wait_ms: u32::try_from(wait_max.as_millis()).unwrap_or(u32::MAX),
        };
        let answer = self.answer_held(wait_max, queues.receive(request)).await?;
        answer.messages.into_iter().map(QueueMessage::from_wire).collect()
    }

    /// Settles messages. What is not among the refused is done, and durable.
    pub async fn settle(
        &self,
        queue: &str,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<RefusedSettlement>, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let settlements = settlements.into_iter().map(Settlement::into_wire).collect();
        let answer = self.answer(queues.settle(proto::SettleRequest { queue: queue.to_owned(), settlements })).await?;
        Ok(answer.refused.into_iter().map(RefusedSettlement::from_wire).collect())
    }

    /// Opens a stream of the messages of a queue.
    pub async fn receive_stream(&self, queue: &str, window: QueueWindow) -> Result<QueueStream, ClientError> {
        QueueStream::open(self, queue, window).await
    }
}
