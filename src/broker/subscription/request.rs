//! What a client subscribes to, and whether that can be.

use super::{Credit, OffsetExpired};
use crate::broker::error::BrokerError;
use crate::broker::{Broker, Topic};
use crate::filter::Filter;
use crate::group::{Assignor, Instance};
use crate::limits;
use crate::types::topic::NAME_BYTES_MAX;
use crate::types::{Position, TopicId, TopicName, TopicPattern};
use std::sync::Arc;

/// What a client subscribes to.
#[derive(Debug, Clone)]
pub struct OpenSubscription {
    /// 1 to [`limits::SUBSCRIBE_TOPICS_MAX`] topics; beside patterns none are needed.
    pub topics: Vec<String>,
    /// In a group: every topic that one of these matches, now or later. At most [`limits::SUBSCRIBE_PATTERNS_MAX`].
    pub patterns: Vec<TopicPattern>,
    /// Empty = no group.
    pub group: String,
    /// For people: which client this is.
    pub client_id: String,
    /// Address and port of the client.
    pub peer: String,
    /// Keeps the place of this member in its group while it is away.
    pub instance: Option<Instance>,
    /// How partitions of the group are shared, if most of its members ask for this.
    pub assignor: Assignor,
    /// Where to begin in partitions without a committed offset.
    pub start: Position,
    /// What to do when the place to begin, or to go on, was deleted by retention.
    pub on_expired: OffsetExpired,
    /// Only records that match.
    pub filter: Option<Filter>,
    /// Only these partitions of each topic, without a group; empty = all.
    pub partitions: Vec<u32>,
    /// What may be sent; `None` = no limit.
    pub credit: Option<Credit>,
    /// Bytes of one delivery.
    pub delivery_bytes_max: usize,
}

/// A topic as it was when the subscription was opened.
#[derive(Debug, Clone)]
pub(super) struct OpenedTopic {
    pub(super) name: TopicName,
    pub(super) id: TopicId,
    pub(super) partitions: u32,
}

impl OpenedTopic {
    fn of(topic: &Topic) -> Self {
        Self { name: topic.name.clone(), id: topic.entry.id, partitions: topic.entry.partitions }
    }
}

impl OpenSubscription {
    /// The topics asked for that are there now, if the request is one that can be served.
    pub(super) fn open_topics(&self, broker: &Broker) -> Result<Vec<OpenedTopic>, BrokerError> {
        let (count, most) = (self.topics.len(), limits::SUBSCRIBE_TOPICS_MAX);
        if !(usize::from(self.patterns.is_empty())..=most).contains(&count) {
            return Err(BrokerError::invalid("topics", format!("{count} topics were given; 1 to {most} are allowed")));
        }
        if !self.group.is_empty() && !self.partitions.is_empty() {
            return Err(BrokerError::invalid("partitions", "a group shares all partitions; leave this empty"));
        }
        if self.group.is_empty() && !self.patterns.is_empty() {
            return Err(BrokerError::invalid(
                "topic_patterns",
                "only a group follows topics as they come; name a group",
            ));
        }
        if self.group.is_empty() && self.instance.is_some() {
            return Err(BrokerError::invalid("instance_id", "only a member of a group has one; name a group"));
        }
        if self.client_id.len() > NAME_BYTES_MAX {
            let what = format!("it has {} bytes; at most {NAME_BYTES_MAX} are allowed", self.client_id.len());
            return Err(BrokerError::invalid("client_id", what));
        }
        let named = self.topics.iter().map(|name| {
            let topic = broker.topic(name)?;
            for partition in &self.partitions {
                topic.partition(*partition)?;
            }
            Ok(topic)
        });
        let is_wanted = |topic: &Arc<Topic>| self.patterns.iter().any(|pattern| pattern.matches(&topic.name));
        let matched = broker.topics.all().into_iter().filter(is_wanted).map(Ok);
        named.chain(matched).map(|topic| topic.map(|topic| OpenedTopic::of(&topic))).collect()
    }
}
