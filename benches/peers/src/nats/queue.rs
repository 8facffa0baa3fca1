//! A queue is a durable pull consumer that wants each message acknowledged; a worker pulls from it.
//!
//! An acknowledgement is a message of its own and is not answered, unless that is asked for, at the price of a subscription
//! each. So that of the last message of a chunk asks: the server takes those of one connection in order, and its
//! answer confirms all before it. The next chunk is taken while it is on its way.

use super::{CHUNK, Nats, NatsError, connect, nats};
use crate::confirmations::Confirmations;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{self, Stream as Messages};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use futures_util::{FutureExt as _, StreamExt as _};
use millstream::bench::WorkTally;
use millstream::bench::target::{QueuePlan, QueueTarget, Worker, WorkerOptions};

impl QueueTarget for Nats {
    type Worker = NatsWorker;

    async fn create_queue(&self, queue: &QueuePlan) -> Result<(), NatsError> {
        let stream = self.context.get_stream(&queue.topic).await.map_err(nats)?;
        let config = pull::Config {
            durable_name: Some(queue.name.clone()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: queue.in_flight.into(),
            ..pull::Config::default()
        };
        stream.create_consumer(config).await.map_err(nats)?;
        Ok(())
    }

    async fn delete_queue(&self, name: &str) -> Result<(), NatsError> {
        // The queue of a topic has its name.
        let stream = self.context.get_stream(name).await.map_err(nats)?;
        let mut consumer: PullConsumer = stream.get_consumer(name).await.map_err(nats)?;
        let info = consumer.info().await.map_err(nats)?;
        let (unacknowledged, undelivered) = (info.num_ack_pending, info.num_pending);
        stream.delete_consumer(name).await.map_err(nats)?;
        if (unacknowledged, undelivered) == (0, 0) {
            return Ok(());
        }
        Err(nats(format!("{unacknowledged} messages of the queue are not acknowledged, {undelivered} not delivered")))
    }

    async fn open_worker(&self, options: &WorkerOptions) -> Result<NatsWorker, NatsError> {
        let context = connect(&self.server.address()).await?;
        let stream = context.get_stream(&options.queue).await.map_err(nats)?;
        let consumer: PullConsumer = stream.get_consumer(&options.queue).await.map_err(nats)?;
        let prefetch = options.prefetch as usize;
        let messages = consumer.stream().max_messages_per_batch(prefetch).messages().await.map_err(nats)?;
        Ok(NatsWorker { messages, confirmations: Confirmations::default() })
    }
}

pub struct NatsWorker {
    messages: Messages,
    confirmations: Confirmations<NatsError>,
}

impl Worker for NatsWorker {
    type Error = NatsError;

    async fn work(&mut self, tally: &mut WorkTally) -> Result<(), NatsError> {
        let has_room = self.confirmations.has_room();
        tokio::select! {
            biased;
            confirmed = self.confirmations.oldest() => tally.confirmed(confirmed?),
            message = self.messages.next(), if has_room => {
                let first = message.ok_or_else(|| nats("the consumer has ended"))?.map_err(nats)?;
                tally.message(0, &first.payload);
                let mut chunk = vec![first];
                while chunk.len() < CHUNK && let Some(Some(message)) = self.messages.next().now_or_never() {
                    let message = message.map_err(nats)?;
                    tally.message(0, &message.payload);
                    chunk.push(message);
                }
                self.acknowledge(chunk)?;
            }
        }
        Ok(())
    }

    async fn leave(self) -> Result<(), NatsError> {
        Ok(())
    }
}

impl NatsWorker {
    /// Sends the acknowledgements of a chunk; that they have come is waited for later.
    fn acknowledge(&mut self, chunk: Vec<Message>) -> Result<(), NatsError> {
        self.confirmations.begin(async move {
            let (last, others) = chunk.split_last().expect("a chunk has a message");
            for message in others {
                message.ack().await.map_err(nats)?;
            }
            last.double_ack().await.map_err(nats)?;
            Ok(chunk.len() as u64)
        })
    }
}
