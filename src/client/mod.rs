//! The Rust client of a Millstream broker.
//!
//! ```text
//! Client (connection) -+- admin/     topics, groups, offsets, server: one call, one answer
//!                      +- producer/  records -> batches -> one pipelined stream of requests
//!                      +- queue/     one stream of messages to work on -> verdicts; or single calls
//!                      +- requests   a record, and the wait for the reply to it; replies
//!                      +- consumer/  one subscription -> batches of records; PartitionReader for bounded ranges
//! ```
//!
//! The broker does the clever part; this library batches, retries and keeps memory bounded. What it sends is appended
//! once, however often a lost connection makes it send again; what it reads is read at least once. It knows the
//! generated wire types and shows its users only [`crate::types`] and its own small structs.
//!
//! ```no_run
//! use millstream::client::{Client, NewRecord, ProducerOptions};
//!
//! # async fn example() -> Result<(), millstream::client::ClientError> {
//! let client = Client::connect("127.0.0.1:7171").await?;
//! let producer = client.producer("orders", ProducerOptions::default()).await?;
//! let receipt = producer.send(NewRecord::value(b"two coffees").with_key(b"table-7")).await?;
//! let ack = receipt.wait().await?;
//! println!("partition {} offset {}", ack.partition, ack.offset);
//! # Ok(())
//! # }
//! ```

pub mod admin;
mod backoff;
mod connection;
pub mod consumer;
mod convert;
mod error;
pub mod producer;
pub mod queue;
mod requests;

pub use connection::{BROKER_PORT_DEFAULT, Client, ClientOptions};
pub use consumer::{
    Assignor, ConsumedBatch, ConsumedRecord, Consumer, ConsumerOptions, Event, OnExpired, PartitionReader,
};
pub use convert::{PartitionOffset, PartitionOutcome};
pub use error::{ClientError, Refusal};
pub use producer::{NewRecord, Producer, ProducerOptions, Receipt, RecordAck};
pub use queue::{QueueEvent, QueueMessage, QueueStream, QueueWindow, RefusedSettlement, Settlement, Verdict};
pub use requests::{Reply, ReplyReceipt, RequestOptions};

#[cfg(test)]
mod fake_broker;

#[cfg(test)]
pub(crate) use consumer::test_batch;
