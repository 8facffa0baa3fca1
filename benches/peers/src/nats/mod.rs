//! NATS `JetStream`: file storage, asynchronous publishing with acknowledgements, pull consumers.
//!
//! A block is that many messages, all on their way before the first acknowledgement is waited for. Readers alone take
//! messages without acknowledging them; a consumer group is a durable consumer that acknowledges all before, once for
//! each chunk. `queue`: the same as a queue.

mod queue;

use super::child::Server;
use async_nats::jetstream::consumer::pull::Stream as Messages;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, Context, stream};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use millstream::bench::Tally;
use millstream::bench::payload::Block;
use millstream::bench::target::{ReadFrom, Reader, ReaderOptions, Sender, SenderOptions, Target, TopicPlan};
use millstream::types::Durability;
use std::collections::VecDeque;
use std::future::{Future, IntoFuture as _};
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Messages asked for, and taken, at once.
const CHUNK: usize = 1_000;

/// More acknowledgements than any workload has open.
const ACKS_MAX: usize = 1 << 20;

/// As long as a workload waits: where each message is synced and many wait, the client's five seconds may be too few.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the client said; its errors have a type for each call.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NatsError(String);

fn nats(error: impl std::fmt::Display) -> NatsError {
    NatsError(error.to_string())
}

/// A server of its own.
#[derive(Debug, Clone)]
pub struct Nats {
    server: Arc<Server>,
    context: Context,
}

impl Nats {
    /// Starts `program`. With `Synced` it syncs before every acknowledgement, otherwise every two minutes.
    pub async fn start(program: &Path, parent: &Path, durability: Durability) -> Result<Self, NatsError> {
        let server = Server::start(parent, |directory, port| {
            let config = directory.join("nats.conf");
            let sync = if durability == Durability::Synced { "always" } else { "2m" };
            let store = directory.join("data");
            let text = format!(
                "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: \"{}\", sync_interval: {sync} }}\n",
                store.display()
            );
            std::fs::write(&config, text).expect("a directory of our own");
            let mut command = Command::new(program);
            command.arg("-c").arg(config);
            command
        })
        .map_err(nats)?;
        let context = connect(&server.address()).await?;
        Ok(Self { server: Arc::new(server), context })
    }
}

async fn connect(address: &str) -> Result<Context, NatsError> {
    let client = async_nats::connect(address).await.map_err(nats)?;
    // Blocks are bound by the workload; at a bound of its own the client would wait for answers that nobody takes.
    Ok(jetstream::ContextBuilder::new()
        .max_ack_inflight(ACKS_MAX)
        .timeout(PATIENCE)
        .ack_timeout(PATIENCE)
        .build(client))
}

impl Target for Nats {
    type Error = NatsError;
    type Sender = NatsSender;
    type Reader = NatsReader;

    fn system(&self) -> String {
        "nats".to_owned()
    }

    fn version(&self) -> String {
        self.context.client().server_info().version
    }

    fn process_id(&self) -> Option<u32> {
        Some(self.server.process_id())
    }

    async fn create_topic(&self, topic: &TopicPlan) -> Result<(), NatsError> {
        assert_eq!(topic.partitions, 1, "a stream is one partition");
        let config = stream::Config {
            name: topic.name.clone(),
            subjects: vec![topic.name.clone()],
            storage: stream::StorageType::File,
            ..stream::Config::default()
        };
        self.context.create_stream(config).await.map_err(nats)?;
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> Result<(), NatsError> {
        self.context.delete_stream(name).await.map_err(nats)?;
        Ok(())
    }

    async fn record_count(&self, name: &str) -> Result<Option<u64>, NatsError> {
        let mut stream = self.context.get_stream(name).await.map_err(nats)?;
        Ok(Some(stream.info().await.map_err(nats)?.state.messages))
    }

    async fn open_sender(&self, options: &SenderOptions) -> Result<NatsSender, NatsError> {
        let context = connect(&self.server.address()).await?;
        Ok(NatsSender { context, subject: options.topic.clone(), waiting: VecDeque::new() })
    }

    async fn open_reader(&self, options: &ReaderOptions) -> Result<NatsReader, NatsError> {
        let context = connect(&self.server.address()).await?;
        let stream = context.get_stream(&options.topic).await.map_err(nats)?;
        let config = pull::Config {
            durable_name: options.group.clone(),
            deliver_policy: match options.from {
                ReadFrom::Beginning => DeliverPolicy::All,
                ReadFrom::End => DeliverPolicy::New,
            },
            ack_policy: if options.group.is_some() { AckPolicy::All } else { AckPolicy::None },
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(nats)?;
        let messages = consumer.stream().max_messages_per_batch(CHUNK).messages().await.map_err(nats)?;
        Ok(NatsReader { messages, acknowledges: options.group.is_some(), chunk: Vec::with_capacity(CHUNK) })
    }
}

type Ack = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

pub struct NatsSender {
    context: Context,
    subject: String,
    /// Acknowledgements that are waited for, block by block.
    waiting: VecDeque<VecDeque<Ack>>,
}

impl Sender for NatsSender {
    type Error = NatsError;

    async fn send(&mut self, _: u32, block: Block<'_>) -> Result<(), NatsError> {
        let mut acks: VecDeque<Ack> = VecDeque::with_capacity(block.record_count());
        for record in block.records() {
            let payload = Bytes::copy_from_slice(record);
            let ack = self.context.publish(self.subject.clone(), payload).await.map_err(nats)?;
            acks.push_back(ack.into_future());
        }
        self.waiting.push_back(acks);
        Ok(())
    }

    async fn settled(&mut self) -> Result<(), NatsError> {
        let Some(acks) = self.waiting.front_mut() else { return Ok(()) };
        while let Some(ack) = acks.front_mut() {
            ack.await.map_err(nats)?;
            acks.pop_front();
        }
        self.waiting.pop_front();
        Ok(())
    }
}

pub struct NatsReader {
    messages: Messages,
    acknowledges: bool,
    chunk: Vec<jetstream::Message>,
}

impl Reader for NatsReader {
    type Error = NatsError;

    async fn read(&mut self, tally: &mut Tally) -> Result<(), NatsError> {
        if self.acknowledges
            && let Some(last) = self.chunk.pop()
        {
            self.chunk.clear();
            last.ack().await.map_err(nats)?;
        }
        self.chunk.clear();
        let first = self.messages.next().await.ok_or_else(|| nats("the consumer has ended"))?;
        self.chunk.push(first.map_err(nats)?);
        while self.chunk.len() < CHUNK
            && let Some(Some(message)) = self.messages.next().now_or_never()
        {
            self.chunk.push(message.map_err(nats)?);
        }
        tally.records(0, self.chunk.iter().map(|message| &message.payload[..]));
        Ok(())
    }
}
