//! A queue is a consumer group; a worker is a consumer of it, and acknowledges with XACK.
//!
//! Requests of a worker go out in this order on one connection: the acknowledgements of what it has, then the next read.
//! A read is held here while nobody looks at it: one that were given up would take its messages along.
//! Acknowledgements are one XACK for all that came together, or one each, in a pipeline.

use super::{Answer, BLOCK_MS, Error, Redis, begun, entries_of_stream};
use millstream::bench::WorkTally;
use millstream::bench::target::{QueuePlan, QueueTarget, Worker, WorkerOptions};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Value};
use std::collections::VecDeque;

/// Most requests for acknowledgement that are not answered.
const ACKS_MAX: usize = 8;

impl QueueTarget for Redis {
    type Worker = RedisWorker;

    async fn create_queue(&self, queue: &QueuePlan) -> Result<(), Error> {
        let _: () = self.connect().await?.xgroup_create(&queue.topic, &queue.name, "0").await?;
        Ok(())
    }

    async fn delete_queue(&self, name: &str) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        // The queue of a topic has its name.
        let pending: Value = redis::cmd("XPENDING").arg(name).arg(name).query_async(&mut connection).await?;
        let _: () = connection.xgroup_destroy(name, name).await?;
        match &pending {
            Value::Array(summary) if summary.first() == Some(&Value::Int(0)) => Ok(()),
            _ => Err(Error::Queue(format!("{pending:?} is not acknowledged"))),
        }
    }

    async fn open_worker(&self, options: &WorkerOptions) -> Result<RedisWorker, Error> {
        let mut connection = self.connect().await?;
        let consumer: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await?;
        Ok(RedisWorker {
            connection,
            queue: options.queue.clone(),
            consumer,
            chunk: options.prefetch,
            ack_each: options.ack_each,
            acks: VecDeque::new(),
            read: None,
        })
    }
}

pub struct RedisWorker {
    connection: MultiplexedConnection,
    queue: String,
    /// Its name in the group: the number of its connection.
    consumer: u64,
    chunk: u32,
    ack_each: bool,
    /// Of so many messages each.
    acks: VecDeque<(u64, Answer<Vec<u64>>)>,
    read: Option<Answer<Value>>,
}

impl Worker for RedisWorker {
    type Error = Error;

    async fn work(&mut self, tally: &mut WorkTally) -> Result<(), Error> {
        if self.read.is_none() && self.acks.len() < ACKS_MAX {
            self.start_read()?;
        }
        let Self { acks, read, .. } = self;
        let oldest = async {
            match acks.front_mut() {
                Some((messages, acked)) => (*messages, acked.await),
                None => std::future::pending().await,
            }
        };
        let messages = async {
            match read {
                Some(read) => read.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (messages, acked) = oldest => {
                self.acks.pop_front();
                let acked: u64 = acked?.iter().sum();
                if acked != messages {
                    return Err(Error::Queue(format!("{acked} of {messages} acknowledgements were of messages it gave")));
                }
                tally.confirmed(messages);
            }
            reply = messages => {
                self.read = None;
                self.take(&reply?, tally)?;
            }
        }
        Ok(())
    }

    async fn leave(self) -> Result<(), Error> {
        Ok(())
    }
}

impl RedisWorker {
    fn start_read(&mut self) -> Result<(), Error> {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.queue).arg(self.consumer).arg("COUNT").arg(self.chunk);
        command.arg("BLOCK").arg(BLOCK_MS).arg("STREAMS").arg(&self.queue).arg(">");
        let mut connection = self.connection.clone();
        self.read = Some(begun(async move { command.query_async(&mut connection).await })?);
        Ok(())
    }

    /// Takes the messages of a reply, and sends their acknowledgements.
    fn take(&mut self, reply: &Value, tally: &mut WorkTally) -> Result<(), Error> {
        if *reply == Value::Nil {
            return Ok(());
        }
        let mut ids = Vec::new();
        for (id, value) in entries_of_stream(reply)? {
            tally.message(0, value);
            ids.push(id);
        }
        let mut pipe = redis::Pipeline::new();
        for ids in ids.chunks(if self.ack_each { 1 } else { ids.len().max(1) }) {
            pipe.xack(&self.queue, &self.queue, ids);
        }
        let mut connection = self.connection.clone();
        let acked = begun(async move { pipe.query_async(&mut connection).await })?;
        self.acks.push_back((ids.len() as u64, acked));
        Ok(())
    }
}
