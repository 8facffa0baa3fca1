//! RabbitMQ: durable queues and streams over AMQP, persistent messages, publisher confirms, acknowledgements of consumers.
//!
//! ```text
//! topic            a fanout exchange, and a queue of its name that is bound to it
//! block            that many messages, all on their way before the first confirm is waited for
//! reader           a consumer that acknowledges all before, once for each chunk
//! consumer group   a queue of its own, bound to the exchange
//! ```
//!
//! A queue forgets what was acknowledged: it cannot be read again. A stream can, by as many as like to, so a group is one
//! more reader of it. Queues confirm a persistent message when it is synced, whatever was asked for; streams before.

mod queue;
mod server;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind, PublisherConfirm};
use millstream::bench::Tally;
use millstream::bench::payload::Block;
use millstream::bench::target::{ReadFrom, Reader, ReaderOptions, Sender, SenderOptions, Target, TopicPlan};
use server::Node;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most messages of one acknowledgement of a reader, and most that it may have without one.
const CHUNK: usize = 1_000;
const PREFETCH: u16 = 2_000;

/// The delivery mode that makes a message persistent.
const PERSISTENT: u8 = 2;

/// What holds the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Classic,
    Quorum,
    Stream,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Amqp(#[from] lapin::Error),
    #[error(transparent)]
    Start(#[from] std::io::Error),
    #[error("rabbitmq did not take a message")]
    NotTaken,
    #[error("the consumer has ended")]
    Ended,
    #[error("{0} messages of the queue are not acknowledged")]
    Unacknowledged(u32),
}

/// A node of its own.
#[derive(Debug, Clone)]
pub struct Rabbit {
    node: Arc<Node>,
    kind: Kind,
    /// For what is declared and deleted.
    connection: Arc<Connection>,
    /// Somebody has taken messages; what is left says nothing of what there was.
    taken: Arc<AtomicBool>,
}

impl Rabbit {
    /// Starts the script `program`, with Erlang's port mapper `epmd`.
    pub async fn start(program: &Path, epmd: &Path, parent: &Path, kind: Kind) -> Result<Self, Error> {
        let node = Node::start(program, epmd, parent)?;
        let connection = Arc::new(connect(&node).await?);
        Ok(Self { node: Arc::new(node), kind, connection, taken: Arc::default() })
    }

    async fn declare(&self, channel: &Channel, queue: &str, exchange: &str) -> Result<(), Error> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(self.kind.name().into()));
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.into(), exchange.into(), "".into(), bind, FieldTable::default()).await?;
        Ok(())
    }
}

async fn connect(node: &Node) -> Result<Connection, lapin::Error> {
    let address = format!("amqp://guest:guest@{}/%2f", node.server.address());
    Connection::connect(&address, ConnectionProperties::default()).await
}

impl Target for Rabbit {
    type Error = Error;
    type Sender = RabbitSender;
    type Reader = RabbitReader;

    fn system(&self) -> String {
        format!("rabbit-{}", self.kind.name())
    }

    fn version(&self) -> String {
        self.node.version.clone()
    }

    fn process_id(&self) -> Option<u32> {
        Some(self.node.server.process_id())
    }

    async fn create_topic(&self, topic: &TopicPlan) -> Result<(), Error> {
        assert_eq!(topic.partitions, 1, "a queue is one partition");
        let channel = self.connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let name = &*topic.name;
        channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, FieldTable::default()).await?;
        self.declare(&channel, name, name).await
    }

    async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let channel = self.connection.create_channel().await?;
        channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
        Ok(())
    }

    async fn record_count(&self, name: &str) -> Result<Option<u64>, Error> {
        if self.kind == Kind::Stream || self.taken.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let channel = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue = channel.queue_declare(name.into(), passive, FieldTable::default()).await?;
        Ok(Some(queue.message_count().into()))
    }

    async fn open_sender(&self, options: &SenderOptions) -> Result<RabbitSender, Error> {
        let connection = connect(&self.node).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(RabbitSender { _connection: connection, channel, exchange: options.topic.clone(), waiting: VecDeque::new() })
    }

    async fn open_reader(&self, options: &ReaderOptions) -> Result<RabbitReader, Error> {
        let connection = connect(&self.node).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        let mut queue = &options.topic;
        if self.kind == Kind::Stream {
            let offset = if options.from == ReadFrom::Beginning { "first" } else { "next" };
            arguments.insert("x-stream-offset".into(), AMQPValue::LongString(offset.into()));
        } else {
            self.taken.store(true, Ordering::Relaxed);
            if let Some(group) = &options.group {
                // The queue of the topic would get everything once more, for nobody.
                let topic = &*options.topic;
                channel.queue_unbind(topic.into(), topic.into(), "".into(), FieldTable::default()).await?;
                self.declare(&channel, group, topic).await?;
                queue = group;
            }
        }
        let consume = BasicConsumeOptions::default();
        let consumer = channel.basic_consume((&**queue).into(), "".into(), consume, arguments).await?;
        Ok(RabbitReader { _connection: connection, channel, consumer })
    }
}

pub struct RabbitSender {
    _connection: Connection,
    channel: Channel,
    exchange: String,
    /// Confirms that are waited for, block by block.
    waiting: VecDeque<VecDeque<PublisherConfirm>>,
}

impl Sender for RabbitSender {
    type Error = Error;

    async fn send(&mut self, _: u32, block: Block<'_>) -> Result<(), Error> {
        let mut confirms = VecDeque::with_capacity(block.record_count());
        let mut publishing = Vec::with_capacity(block.record_count());
        for record in block.records() {
            let publish = BasicPublishOptions::default();
            let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
            let exchange = (&*self.exchange).into();
            let mut published = Box::pin(self.channel.basic_publish(exchange, "".into(), publish, record, properties));
            // Its first step hands it to the connection, in order; that it was written is waited for below.
            match (&mut published).now_or_never() {
                Some(confirm) => confirms.push_back(confirm?),
                None => publishing.push(published),
            }
        }
        for published in publishing {
            confirms.push_back(published.await?);
        }
        self.waiting.push_back(confirms);
        Ok(())
    }

    async fn settled(&mut self) -> Result<(), Error> {
        let Some(confirms) = self.waiting.front_mut() else { return Ok(()) };
        while let Some(confirm) = confirms.front_mut() {
            if !confirm.await?.is_ack() {
                return Err(Error::NotTaken);
            }
            confirms.pop_front();
        }
        self.waiting.pop_front();
        Ok(())
    }
}

pub struct RabbitReader {
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Reader for RabbitReader {
    type Error = Error;

    async fn read(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let chunk = next_chunk(&mut self.consumer).await?;
        tally.records(0, chunk.iter().map(|delivery| &delivery.data[..]));
        if let Some(last) = chunk.last() {
            // It is on its way before it is waited for, so nothing is lost if that is dropped.
            self.channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).await?;
        }
        Ok(())
    }
}

/// Waits for a message, and takes those that are there with it.
async fn next_chunk(consumer: &mut Consumer) -> Result<Vec<Delivery>, Error> {
    let mut chunk = vec![consumer.next().await.ok_or(Error::Ended)??];
    while chunk.len() < CHUNK
        && let Some(Some(delivery)) = consumer.next().now_or_never()
    {
        chunk.push(delivery?);
    }
    Ok(chunk)
}
