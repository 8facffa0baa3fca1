//! A seam for the fuzz targets: a request as bytes, through the generated decoder and the door's translation.
//!
//! Only there in a build of cargo-fuzz, which sets `cfg(fuzzing)`. It goes as far as a request goes without a broker,
//! and knows nothing of how requests are served.

use super::consume::fetch_in;
use super::convert::{apply_options, commits_in, durability_in, position_in, reset_options};
use super::subscribe::{credit_in, open_in};
use crate::broker::BrokerError;
use crate::limits::REQUEST_BYTES_MAX;
use crate::proto::{self, subscribe_request::Request};
use crate::topic::TopicOptions;
use crate::types::{TopicName, record_set};
use bytes::Bytes;
use prost::{DecodeError, Message};

/// The calls whose requests are translated.
pub const METHODS: [&str; 10] = [
    "Produce",
    "ProduceStream",
    "Fetch",
    "Subscribe",
    "ListOffsets",
    "CommitOffsets",
    "CreateTopic",
    "UpdateTopic",
    "SeekGroup",
    "DeleteRecords",
];

/// Why a request gets no further.
#[derive(Debug)]
pub enum Refused {
    /// The bytes are not the message they should be.
    Undecodable(DecodeError),
    /// The door does not take what they say.
    Invalid(BrokerError),
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self::Undecodable(error)
    }
}

impl From<BrokerError> for Refused {
    fn from(error: BrokerError) -> Self {
        Self::Invalid(error)
    }
}

/// Takes the request of `method` as far as it goes.
///
/// # Panics
/// If `method` is not one of [`METHODS`].
pub fn translate(method: &str, bytes: Bytes) -> Result<(), Refused> {
    match method {
        "Produce" => produce(proto::ProduceRequest::decode(bytes)?),
        "ProduceStream" => produce(proto::ProduceStreamRequest::decode(bytes)?.request.unwrap_or_default()),
        "Fetch" => Ok(fetch_in(&proto::FetchRequest::decode(bytes)?).map(drop)?),
        "Subscribe" => subscribe(proto::SubscribeRequest::decode(bytes)?),
        "ListOffsets" => {
            for entry in proto::ListOffsetsRequest::decode(bytes)?.entries {
                position_in(entry.position)?;
            }
            Ok(())
        }
        "CommitOffsets" => {
            drop(commits_in(proto::CommitOffsetsRequest::decode(bytes)?.offsets));
            Ok(())
        }
        "CreateTopic" => {
            let request = proto::CreateTopicRequest::decode(bytes)?;
            let _ = TopicName::new(&request.name);
            change_options(&request.options.unwrap_or_default(), &[])
        }
        "UpdateTopic" => {
            let request = proto::UpdateTopicRequest::decode(bytes)?;
            change_options(&request.options.unwrap_or_default(), &request.reset)
        }
        "SeekGroup" => Ok(position_in(proto::SeekGroupRequest::decode(bytes)?.position).map(drop)?),
        "DeleteRecords" => Ok(proto::DeleteRecordsRequest::decode(bytes).map(drop)?),
        _ => unreachable!("{method} is not in METHODS"),
    }
}

fn produce(request: proto::ProduceRequest) -> Result<(), Refused> {
    durability_in(request.durability)?;
    let _ = TopicName::new(&request.topic);
    assert!(request.records.len() <= REQUEST_BYTES_MAX as usize, "records are a part of the request");
    if let Ok(summary) = record_set::check(&request.records, usize::MAX) {
        assert_eq!(record_set::keyed_records(&request.records).count(), summary.record_count as usize);
    }
    Ok(())
}

fn subscribe(request: proto::SubscribeRequest) -> Result<(), Refused> {
    match request.request {
        Some(Request::Open(open)) => drop(open_in(open, String::new())?),
        Some(Request::Credit(credit)) => drop(credit_in(credit)),
        Some(Request::Commit(commit)) => drop(commits_in(commit.offsets)),
        Some(Request::Released(_)) | None => {}
    }
    Ok(())
}

fn change_options(wanted: &proto::TopicOptions, reset: &[String]) -> Result<(), Refused> {
    let defaults = TopicOptions::default();
    let mut options = defaults.clone();
    reset_options(&mut options, reset, &defaults)?;
    apply_options(&mut options, wanted)?;
    if options.check().is_ok() {
        assert!(options.seal_age_ms() <= i64::MAX.cast_unsigned(), "ages that pass the check fit a timestamp");
    }
    Ok(())
}
