//! Queues of Millstream: a worker is one `StreamingReceive`, and verdicts go back on it.

use super::Millstream;
use crate::bench::target::{QueuePlan, QueueTarget, Worker, WorkerOptions};
use crate::bench::working::WorkTally;
use crate::client::admin::QueueSettings;
use crate::client::{Client, ClientError, QueueEvent, QueueStream, QueueWindow, Verdict};
use crate::types::{Position, TopicName};
use std::collections::VecDeque;

/// No limit: the window is counted in messages.
const WINDOW_BYTES: u64 = 64 << 20;

/// A worker with a connection of its own.
#[derive(Debug)]
pub struct MillstreamWorker {
    stream: QueueStream,
    ack_each: bool,
    /// How many acknowledgements each settle carries whose answer has not come.
    settles: VecDeque<u64>,
}

impl QueueTarget for Millstream {
    type Worker = MillstreamWorker;

    async fn create_queue(&self, queue: &QueuePlan) -> Result<(), ClientError> {
        let topics = [TopicName::new(&queue.topic)?];
        let settings = QueueSettings {
            max_in_flight: Some(queue.in_flight),
            durability: Some(queue.durability),
            ..QueueSettings::default()
        };
        self.admin.create_queue(&queue.name, &topics, Position::Earliest, &settings).await.map(drop)
    }

    async fn delete_queue(&self, name: &str) -> Result<(), ClientError> {
        self.admin.delete_queue(name).await
    }

    async fn open_worker(&self, options: &WorkerOptions) -> Result<MillstreamWorker, ClientError> {
        let window = QueueWindow { messages: options.prefetch, bytes: WINDOW_BYTES };
        let stream = Client::connect(&self.address).await?.receive_stream(&options.queue, window).await?;
        Ok(MillstreamWorker { stream, ack_each: options.ack_each, settles: VecDeque::new() })
    }
}

impl Worker for MillstreamWorker {
    type Error = ClientError;

    async fn work(&mut self, tally: &mut WorkTally) -> Result<(), ClientError> {
        match self.stream.next().await? {
            QueueEvent::Messages(messages) => {
                for message in &messages {
                    let value = message.record.value.as_deref().unwrap_or_default();
                    tally.message(message.record.partition.partition, value);
                }
                let acks = messages.iter().map(|message| message.settle(Verdict::Ack));
                if self.ack_each {
                    for ack in acks {
                        self.stream.settle(vec![ack])?;
                        self.settles.push_back(1);
                    }
                } else {
                    self.stream.settle(acks.collect())?;
                    self.settles.push_back(messages.len() as u64);
                }
            }
            QueueEvent::Settled(refused) => {
                if let Some(refused) = refused.into_iter().next() {
                    return Err(ClientError::Refused(Box::new(refused.refusal)));
                }
                let settles = self.settles.pop_front();
                tally.confirmed(settles.ok_or(ClientError::BadAnswer { what: "a settlement that nobody sent" })?);
            }
            QueueEvent::Drain => {
                return Err(ClientError::ConnectionLost { cause: "the broker is stopping".to_owned() });
            }
        }
        Ok(())
    }

    async fn leave(self) -> Result<(), ClientError> {
        self.stream.close().await
    }
}
