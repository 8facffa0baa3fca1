//! Requests and replies: a record that somebody waits for the answer to.
//!
//! A request is appended like any other record, with two headers more; then its call waits in [`crate::request`]. A
//! reply that names a topic is appended there before the caller gets it, so that what a caller has seen does not vanish.
//! Unknown here: who works on a request, and when.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::produce::{Produce, ProduceOutcome};
use crate::broker::topic_table::refuse_internal;
use crate::clock::advanced;
use crate::limits;
use crate::partition::AppendAck;
use crate::request::{Reply, ReplyTo, ReplyToken, RequestError, Unawaited, WaitingCall};
use crate::types::record_set::{self, MESSAGE_ID_BYTES_MAX, Record, extended_record};
use crate::types::reply_headers::{CORRELATION_ID, REPLY_BY_MS, REPLY_FAILURE, REPLY_TOKEN};
use crate::types::{Durability, TopicName, TopicPartition};
use bytes::Bytes;
use std::time::Duration;

/// How long a request or a reply waits for the in-flight budget before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where it is appended.
    pub topic: &'a str,
    /// The partition; `None` = by key, or in turn.
    pub partition: Option<u32>,
    /// The encoded record, as it came.
    pub record: Bytes,
    /// What the append must reach; `None` = what the topic promises.
    pub durability: Option<Durability>,
    /// How long to wait for the reply.
    pub timeout: Duration,
    /// Where the reply is appended too; empty = nowhere.
    pub reply_topic: &'a str,
}

/// A request with its reply.
#[derive(Debug)]
pub struct Answered {
    /// Where the request was appended.
    pub partition: u32,
    /// What was appended.
    pub ack: AppendAck,
    /// The reply.
    pub reply: Reply,
    /// What names the request in its reply topic, if it has one.
    pub correlation_id: Option<String>,
}

/// What became of a reply that was taken.
#[derive(Debug)]
pub struct Replied {
    /// Whether its caller still waited.
    pub delivered: bool,
    /// Where it was appended, if the request named a reply topic.
    pub appended: Option<(TopicPartition, AppendAck)>,
}

/// Why a call stopped waiting.
enum End {
    Replied(Reply),
    TimeUp,
    Draining,
}

impl Broker {
    /// Appends a request and waits for its reply.
    pub async fn request(&self, request: Request<'_>) -> Result<Answered, BrokerError> {
        let until_ms = self.clock.monotonic_ms().saturating_add(millis(request.timeout));
        let record = checked(&request.record)?;
        let reply_to = self.reply_to(&request, &record).await?;
        let mut call = self.requests.open(reply_to)?;
        let _counted = self.metrics.request_waits();
        let (at, ack) = self.append_request(&request, &record, &call).await?;
        let offset = ack.appended.base_offset;
        let end = tokio::select! {
            biased;
            reply = call.reply() => End::Replied(reply),
            () = self.shutdown.draining() => End::Draining,
            () = self.passed(until_ms) => End::TimeUp,
        };
        let correlation_id = call.token().reply_to.as_ref().map(|to| to.correlation_id.clone());
        let reply = match end {
            End::Replied(reply) => reply,
            // Giving up comes before saying so: a reply that was delivered until then is still the answer.
            ended => match (call.give_up(), ended) {
                (Some(reply), _) => reply,
                (None, End::Draining) => return Err(RequestError::Draining { at, offset }.into()),
                (None, _) => {
                    self.metrics.request_timed_out();
                    let timeout_ms = millis(request.timeout);
                    return Err(RequestError::TimedOut { at, offset, timeout_ms }.into());
                }
            },
        };
        self.metrics.request_answered();
        Ok(Answered { partition: at.partition, ack, reply, correlation_id })
    }

    /// Gives a reply to whoever waits for it, and to the reply topic. What it appends is not undone when it is
    /// interrupted: whoever calls lets it end.
    pub async fn reply(&self, token: &str, reply: Reply) -> Result<Replied, BrokerError> {
        let token = ReplyToken::decode(token).ok_or(RequestError::TokenUnknown)?;
        check_reply(&reply)?;
        let claim = self.requests.claim(&token)?;
        let appended = match &token.reply_to {
            Some(to) => match self.append_reply(&token, to, &reply).await {
                // An earlier run, or one that has forgotten, took the first.
                Ok((_, ack)) if !ack.appended.duplicates.is_empty() => return Err(RequestError::AlreadyGiven.into()),
                appended => Some(appended?),
            },
            None => None,
        };
        let delivered = claim.deliver(reply);
        if !delivered && appended.is_none() {
            return Err(RequestError::NotAwaited { cause: Unawaited::CallerGone }.into());
        }
        Ok(Replied { delivered, appended })
    }

    /// Where the reply goes besides its caller: a topic that is there, and what both records are known by.
    async fn reply_to(&self, request: &Request<'_>, record: &Record) -> Result<Option<ReplyTo>, BrokerError> {
        let header = |wanted: &str| record.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        for name in [REPLY_TOKEN, REPLY_BY_MS] {
            if header(name).is_some() {
                let what = format!("it has a header {name}, which the broker gives to requests; leave it out");
                return Err(BrokerError::invalid("record", what));
            }
        }
        if request.reply_topic.is_empty() {
            return Ok(None);
        }
        let topic = self.topic_to_produce_to(request.reply_topic).await?;
        refuse_internal(&topic.name)?;
        let correlation_id = match header(CORRELATION_ID) {
            Some(value) => String::from_utf8(value.to_vec()).ok(),
            None => Some(crate::request::CallId::random().to_string()),
        };
        let reply_to = correlation_id.and_then(|id| ReplyTo::new(topic.name.clone(), id));
        let invalid = || {
            let what = format!("its header {CORRELATION_ID} must be 1 to {MESSAGE_ID_BYTES_MAX} bytes of UTF-8");
            BrokerError::invalid("record", what)
        };
        Ok(Some(reply_to.ok_or_else(invalid)?))
    }

    async fn append_request(
        &self,
        request: &Request<'_>,
        record: &Record,
        call: &WaitingCall,
    ) -> Result<(TopicPartition, AppendAck), BrokerError> {
        let timeout_ms = i64::try_from(request.timeout.as_millis()).unwrap_or(i64::MAX);
        let reply_by_ms = self.clock.now_ms().saturating_add(timeout_ms).to_string();
        let token = call.token().encode();
        let mut headers = vec![(REPLY_TOKEN, token.as_bytes()), (REPLY_BY_MS, reply_by_ms.as_bytes())];
        let is_named = record.headers.iter().any(|(name, _)| name == CORRELATION_ID);
        if let Some(to) = call.token().reply_to.as_ref().filter(|_| !is_named) {
            headers.push((CORRELATION_ID, to.correlation_id.as_bytes()));
        }
        let (topic, partition, durability) = (request.topic, request.partition, request.durability);
        let records = extended_record(&request.record, &headers, None);
        let (at, ack) =
            self.append_one(Produce { topic, partition, records, durability, ..Produce::default() }).await?;
        match ack.appended.duplicates.first() {
            Some(known) => Err(RequestError::Repeated { at, offset: known.offset }.into()),
            None => Ok((at, ack)),
        }
    }

    /// The call names the record, so that a topic that knows ids takes one reply to it, also over a restart.
    async fn append_reply(
        &self,
        token: &ReplyToken,
        to: &ReplyTo,
        reply: &Reply,
    ) -> Result<(TopicPartition, AppendAck), BrokerError> {
        let mut headers = vec![(CORRELATION_ID, to.correlation_id.as_bytes())];
        headers.extend(reply.failure.iter().map(|failure| (REPLY_FAILURE, failure.as_bytes())));
        let records = extended_record(&reply.record, &headers, Some(&token.call.to_string()));
        self.append_one(Produce { topic: to.topic.as_str(), records, ..Produce::default() }).await
    }

    /// Appends one record.
    async fn append_one(&self, produce: Produce<'_>) -> Result<(TopicPartition, AppendAck), BrokerError> {
        let (topic, outcomes): (TopicName, Vec<_>) = self.produce(produce, Some(PATIENCE)).await?.finish().await;
        let ProduceOutcome { partition, result, .. } =
            outcomes.into_iter().next().expect("one record goes to one partition");
        Ok((TopicPartition { topic, partition }, result?))
    }

    /// Ends when the clock that nobody sets reads this; the clock of a test may be moved there.
    async fn passed(&self, until_ms: u64) {
        let mut advances = self.clock.advances();
        loop {
            let now_ms = self.clock.monotonic_ms();
            if now_ms >= until_ms {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(until_ms - now_ms)) => {}
                () = advanced(&mut advances) => {}
            }
        }
    }
}

fn check_reply(reply: &Reply) -> Result<(), BrokerError> {
    let (bytes, limit_bytes) = (reply.record.len(), limits::REPLY_BYTES_MAX);
    if bytes > limit_bytes {
        return Err(RequestError::TooLarge { bytes, limit_bytes }.into());
    }
    checked(&reply.record)?;
    match &reply.failure {
        Some(failure) if failure.len() > limits::REPLY_FAILURE_BYTES_MAX => {
            let what = format!("it has {} bytes; at most {} are kept", failure.len(), limits::REPLY_FAILURE_BYTES_MAX);
            Err(BrokerError::invalid("failure", what))
        }
        _ => Ok(()),
    }
}

/// The record that these bytes are.
fn checked(record: &Bytes) -> Result<Record, BrokerError> {
    let invalid = || BrokerError::invalid("record", "it is not a valid millstream.v1.Record");
    record_set::record_of_body(record).ok_or_else(invalid)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
