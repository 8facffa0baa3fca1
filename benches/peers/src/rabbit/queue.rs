//! A worker is a consumer with a prefetch, and acknowledges each message by itself.
//!
//! An acknowledgement of AMQP is not answered. A worker knows that those of a chunk have come when the channel answers what
//! it was asked behind them: to set the prefetch it has. The next chunk is taken while that is on its way. The channel
//! of a quorum queue holds some of them back while others are being replicated, and drops them when it is closed: what was
//! done would come to somebody else. So a worker stays for a while before it leaves.

use super::{Error, Kind, Rabbit, connect, next_chunk};
use crate::confirmations::Confirmations;
use futures_util::future::try_join_all;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use millstream::bench::WorkTally;
use millstream::bench::target::{QueuePlan, QueueTarget, Worker, WorkerOptions};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a worker stays when all is done; after the time that is measured.
const STAY: Duration = Duration::from_secs(1);

impl QueueTarget for Rabbit {
    type Worker = RabbitWorker;

    async fn create_queue(&self, _: &QueuePlan) -> Result<(), Error> {
        assert_ne!(self.kind, Kind::Stream, "a stream is no queue");
        // A topic is a queue.
        Ok(())
    }

    async fn delete_queue(&self, name: &str) -> Result<(), Error> {
        // What a worker had left without acknowledging it would be back.
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        match channel.queue_declare(name.into(), passive, FieldTable::default()).await?.message_count() {
            0 => Ok(()),
            left => Err(Error::Unacknowledged(left)),
        }
    }

    async fn open_worker(&self, options: &WorkerOptions) -> Result<RabbitWorker, Error> {
        self.taken.store(true, Ordering::Relaxed);
        let connection = connect(&self.node).await?;
        let channel = connection.create_channel().await?;
        let prefetch = u16::try_from(options.prefetch).unwrap_or(u16::MAX);
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let queue = (&*options.queue).into();
        let consume = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, "".into(), consume, FieldTable::default()).await?;
        Ok(RabbitWorker { connection, channel, prefetch, consumer, confirmations: Confirmations::default() })
    }
}

pub struct RabbitWorker {
    connection: Connection,
    channel: Channel,
    prefetch: u16,
    consumer: Consumer,
    confirmations: Confirmations<lapin::Error>,
}

impl Worker for RabbitWorker {
    type Error = Error;

    async fn work(&mut self, tally: &mut WorkTally) -> Result<(), Error> {
        let has_room = self.confirmations.has_room();
        tokio::select! {
            biased;
            confirmed = self.confirmations.oldest() => tally.confirmed(confirmed?),
            chunk = next_chunk(&mut self.consumer), if has_room => {
                let chunk = chunk?;
                for delivery in &chunk {
                    tally.message(0, &delivery.data);
                }
                self.acknowledge(chunk.iter().map(|delivery| delivery.delivery_tag).collect())?;
            }
        }
        Ok(())
    }

    async fn leave(self) -> Result<(), Error> {
        tokio::time::sleep(STAY).await;
        self.connection.close(200, "".into()).await?;
        Ok(())
    }
}

impl RabbitWorker {
    /// Sends the acknowledgements of a chunk; that they have come is waited for later.
    fn acknowledge(&mut self, tags: Vec<u64>) -> Result<(), Error> {
        let (channel, prefetch) = (self.channel.clone(), self.prefetch);
        self.confirmations.begin(async move {
            try_join_all(tags.iter().map(|tag| channel.basic_ack(*tag, BasicAckOptions::default()))).await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            Ok(tags.len() as u64)
        })?;
        Ok(())
    }
}
