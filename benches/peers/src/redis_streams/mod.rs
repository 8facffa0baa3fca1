//! Redis streams: XADD in pipelines, XREAD in chunks.
//!
//! A consumer group is a reader like any other: of many groups each gets every record, which is what XREAD does. Redis
//! answers when its append-only file is written, and syncs it every second, or before every answer with `Synced`.
//! `queue`: its consumer groups, whose consumers share the records.

mod queue;

use super::child::Server;
use futures_util::FutureExt as _;
use millstream::bench::Tally;
use millstream::bench::payload::Block;
use millstream::bench::target::{ReadFrom, Reader, ReaderOptions, Sender, SenderOptions, Target, TopicPlan};
use millstream::types::Durability;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, RedisError, Value};
use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;

/// Records of one reply, and how long Redis waits for the first one: less than a workload waits before it looks up.
const CHUNK: usize = 1_000;
const BLOCK_MS: usize = 40;

/// More requests than any workload has open on one connection. At a bound that was reached, a request would wait for room and
/// one that comes later could go before it.
const REQUESTS_MAX: usize = 1 << 16;

/// A server of its own.
#[derive(Debug, Clone)]
pub struct Redis {
    server: Arc<Server>,
    client: redis::Client,
    version: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Start(#[from] std::io::Error),
    #[error("redis answered something else than it was asked for")]
    Answer,
    #[error("the queue says {0}")]
    Queue(String),
}

impl Redis {
    /// Starts `program`.
    pub async fn start(program: &Path, parent: &Path, durability: Durability) -> Result<Self, Error> {
        let server = Server::start(parent, |directory, port| {
            let sync = if durability == Durability::Synced { "always" } else { "everysec" };
            let mut command = Command::new(program);
            command.arg("--port").arg(port.to_string()).args(["--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "yes", "--appendfsync", sync]).arg("--dir").arg(directory);
            command
        })?;
        let client = redis::Client::open(format!("redis://{}/", server.address()))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("").to_owned();
        Ok(Self { server: Arc::new(server), client, version })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let config = config.set_pipeline_buffer_size(REQUESTS_MAX);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }
}

impl Target for Redis {
    type Error = Error;
    type Sender = RedisSender;
    type Reader = RedisReader;

    fn system(&self) -> String {
        "redis".to_owned()
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn process_id(&self) -> Option<u32> {
        Some(self.server.process_id())
    }

    async fn create_topic(&self, topic: &TopicPlan) -> Result<(), Error> {
        assert_eq!(topic.partitions, 1, "a stream is one partition");
        // A stream comes with its first entry, or, empty, with its first group.
        let mut connection = self.connect().await?;
        let _: () = connection.xgroup_create_mkstream(&topic.name, "maker", "0").await?;
        let _: () = connection.xgroup_destroy(&topic.name, "maker").await?;
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let _: () = self.connect().await?.unlink(name).await?;
        Ok(())
    }

    async fn record_count(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(Some(self.connect().await?.xlen(name).await?))
    }

    async fn open_sender(&self, options: &SenderOptions) -> Result<RedisSender, Error> {
        Ok(RedisSender {
            connection: self.connect().await?,
            key: options.topic.clone().into(),
            waiting: VecDeque::new(),
        })
    }

    async fn open_reader(&self, options: &ReaderOptions) -> Result<RedisReader, Error> {
        let mut connection = self.connect().await?;
        let mut last = b"0".to_vec();
        if options.from == ReadFrom::End {
            let reply: Value = redis::cmd("XREVRANGE")
                .arg(&options.topic)
                .arg("+")
                .arg("-")
                .arg("COUNT")
                .arg(1)
                .query_async(&mut connection)
                .await?;
            if let Some((id, _)) = entries(&reply).and_then(|mut entries| entries.next()) {
                last = id.to_vec();
            }
        }
        Ok(RedisReader { connection, key: options.topic.clone(), last, reading: None })
    }
}

/// The answer to a request that was sent.
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, RedisError>> + Send>>;

/// Takes the first step of a request, which hands it to the connection, in order; the answer is waited for later.
///
/// Unconstrained: a task that has done much is asked by tokio to pause, and a request that paused before it was handed over
/// would be overtaken by the next one.
fn begun<T: Send + 'static>(
    request: impl Future<Output = Result<T, RedisError>> + Send + 'static,
) -> Result<Answer<T>, RedisError> {
    let mut answer: Answer<T> = Box::pin(tokio::task::unconstrained(request));
    match (&mut answer).now_or_never() {
        Some(answered) => Ok(Box::pin(std::future::ready(Ok(answered?)))),
        None => Ok(answer),
    }
}

pub struct RedisSender {
    connection: MultiplexedConnection,
    key: Arc<str>,
    waiting: VecDeque<Answer<()>>,
}

impl Sender for RedisSender {
    type Error = Error;

    async fn send(&mut self, _: u32, block: Block<'_>) -> Result<(), Error> {
        let mut pipe = redis::Pipeline::with_capacity(block.record_count());
        for record in block.records() {
            pipe.cmd("XADD").arg(&*self.key).arg("*").arg("v").arg(record).ignore();
        }
        let mut connection = self.connection.clone();
        self.waiting.push_back(begun(async move { pipe.query_async(&mut connection).await })?);
        Ok(())
    }

    async fn settled(&mut self) -> Result<(), Error> {
        if let Some(answered) = self.waiting.front_mut() {
            answered.await?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}

pub struct RedisReader {
    connection: MultiplexedConnection,
    key: String,
    /// The id of the last entry that was read.
    last: Vec<u8>,
    /// Kept while nobody waits for it: if that is given up again and again, a slow answer must still come some time.
    reading: Option<Answer<Value>>,
}

impl Reader for RedisReader {
    type Error = Error;

    async fn read(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let Self { connection, key, last, reading } = self;
        let reading = reading.get_or_insert_with(|| {
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(CHUNK).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS").arg(&*key).arg(&last[..]);
            let mut connection = connection.clone();
            Box::pin(async move { command.query_async(&mut connection).await })
        });
        let reply = reading.await;
        self.reading = None;
        let reply = reply?;
        if reply == Value::Nil {
            return Ok(());
        }
        let found = entries_of_stream(&reply)?;
        let mut last = None;
        tally.records(
            0,
            found.map(|(id, value)| {
                last = Some(id);
                value
            }),
        );
        if let Some(last) = last {
            self.last = last.to_vec();
        }
        Ok(())
    }
}

/// The entries of the one stream that was asked for: [[key, entries]].
fn entries_of_stream(reply: &Value) -> Result<impl Iterator<Item = (&[u8], &[u8])>, Error> {
    let Value::Array(streams) = reply else { return Err(Error::Answer) };
    let Some(Value::Array(stream)) = streams.first() else { return Err(Error::Answer) };
    stream.get(1).and_then(entries).ok_or(Error::Answer)
}

/// The entries of a stream: [[id, [field, value]], ...].
fn entries(reply: &Value) -> Option<impl Iterator<Item = (&[u8], &[u8])>> {
    let Value::Array(entries) = reply else { return None };
    Some(entries.iter().filter_map(|entry| {
        let Value::Array(entry) = entry else { return None };
        let [Value::BulkString(id), Value::Array(fields)] = &entry[..] else { return None };
        let [_, Value::BulkString(value)] = &fields[..] else { return None };
        Some((&id[..], &value[..]))
    }))
}
