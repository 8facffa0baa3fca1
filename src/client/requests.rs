//! Requests and replies over topics: ask and wait, or reply to whoever waits.
//!
//! Nothing here retries: after a lost connection or a timeout the request may be in the log, and whether it is to be asked
//! again is the caller's decision.

use super::connection::service;
use super::convert::{durability_from_wire, durability_to_wire, partition_from_wire, required};
use super::{Client, ClientError, ConsumedRecord, NewRecord, PartitionOffset};
use crate::limits;
use crate::proto;
use crate::types::record_set::{Record, encode_identified_record, keyed_bodies, record_of_body};
use crate::types::{Durability, Offset, TimestampMs, TopicPartition, reply_headers};
use bytes::{Bytes, BytesMut};
use std::time::Duration;

/// How a request is made.
#[derive(Debug, Clone)]
pub struct RequestOptions {
    /// Wait no longer than this for the reply; at most 10 minutes.
    pub timeout: Duration,
    /// What the request must reach. `None`: what the topic promises.
    pub durability: Option<Durability>,
    /// The reply is appended to this topic too, whoever waits.
    pub reply_topic: Option<String>,
}

impl Default for RequestOptions {
    fn default() -> Self {
        let timeout = Duration::from_millis(limits::REQUEST_TIMEOUT_MS_DEFAULT.into());
        Self { timeout, durability: None, reply_topic: None }
    }
}

/// The reply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the replier sent.
    pub record: Record,
    /// Why the work has failed for good, if it has.
    pub failure: Option<String>,
    /// Where the request was appended.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
    /// When the broker appended it.
    pub append_time: TimestampMs,
    /// What was reached for the request, at least.
    pub durability: Durability,
    /// What names the request in its reply topic, if it has one.
    pub correlation_id: Option<String>,
}

/// What became of a reply that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyReceipt {
    /// Whether the caller was still waiting, and has it.
    pub delivered: bool,
    /// Where it was appended, if the request named a reply topic.
    pub appended: Option<PartitionOffset>,
}

impl Client {
    /// Appends a record to `topic` and waits for the reply to it.
    ///
    /// A refusal with reason `REQUEST_TIMED_OUT` means that nobody replied in time: the request is in the log.
    ///
    /// ```no_run
    /// use millstream::client::{Client, NewRecord, RequestOptions};
    ///
    /// # async fn example() -> Result<(), millstream::client::ClientError> {
    /// let client = Client::connect("127.0.0.1:7171").await?;
    /// let reply = client.request("prices", NewRecord::value(b"two coffees"), &RequestOptions::default()).await?;
    /// println!("{:?}", reply.record.value);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request(
        &self,
        topic: &str,
        record: NewRecord<'_>,
        options: &RequestOptions,
    ) -> Result<Reply, ClientError> {
        let mut requests = service!(self, request_service_client, RequestServiceClient);
        let request = proto::RequestRequest {
            topic: topic.to_owned(),
            partition: record.partition,
            record: body_of(&record),
            durability: durability_to_wire(options.durability).into(),
            // 0 would be the default; what is asked for here is the shortest wait there is.
            timeout_ms: u32::try_from(options.timeout.as_millis()).unwrap_or(u32::MAX).max(1),
            reply_topic: options.reply_topic.clone().unwrap_or_default(),
        };
        let answer = self.answer_held(options.timeout, requests.request(request)).await?;
        let durability = durability_from_wire(answer.durability());
        Ok(Reply {
            record: required(record_of_body(&answer.reply), "a reply is no valid record")?,
            failure: answer.failure,
            partition: partition_from_wire(topic, answer.partition)?,
            offset: Offset(answer.offset),
            append_time: answer.append_time_ms,
            durability: required(durability, "a request was appended, and no durability reached")?,
            correlation_id: Some(answer.correlation_id).filter(|id| !id.is_empty()),
        })
    }

    /// Replies to the request with this token; `failure` says why the work has failed for good.
    ///
    /// Refused when nobody waits (`REPLY_NOT_AWAITED`), or when the request has a reply (`REPLY_ALREADY_GIVEN`). After a
    /// lost connection it is safe to reply again.
    pub async fn reply(
        &self,
        token: &str,
        record: NewRecord<'_>,
        failure: Option<&str>,
    ) -> Result<ReplyReceipt, ClientError> {
        let mut requests = service!(self, request_service_client, RequestServiceClient);
        let (token, failure) = (token.to_owned(), failure.map(str::to_owned));
        let request = proto::ReplyRequest { token, record: body_of(&record), failure };
        let answer = self.answer(requests.reply(request)).await?;
        let appended = answer.appended.map(super::convert::offset_from_wire).transpose()?;
        Ok(ReplyReceipt { delivered: answer.delivered, appended })
    }
}

impl ConsumedRecord {
    /// What a reply to this record is given with; `None` if it is no request.
    pub fn reply_token(&self) -> Option<&str> {
        let token = self.headers.iter().find(|(name, _)| name == reply_headers::REPLY_TOKEN);
        token.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// A record as a message of its own.
fn body_of(record: &NewRecord<'_>) -> Bytes {
    let mut set = BytesMut::new();
    let headers = record.headers.iter().copied();
    encode_identified_record(&mut set, record.key, record.value, headers, record.timestamp, record.message_id);
    keyed_bodies(&set.freeze()).next().map(|(_, body)| body).unwrap_or_default()
}
