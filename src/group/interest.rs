//! What a member wants to read: topics by name, and patterns that stand for those there are and those to come.

use super::topics::TopicsSnapshot;
use crate::types::{TopicName, TopicPattern};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Topics by name and by pattern.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Interest {
    pub topics: BTreeSet<TopicName>,
    pub patterns: Vec<TopicPattern>,
}

impl Interest {
    /// Whether the topic, if it is there, is to be read.
    pub(super) fn covers(&self, topic: &TopicName) -> bool {
        self.topics.contains(topic) || self.patterns.iter().any(|pattern| pattern.matches(topic))
    }
}

/// The topics that each interest means now, by name, in the same order. Names that are not there are among them.
pub(super) fn resolve<'a>(interests: &[&'a Interest], snapshot: &TopicsSnapshot) -> Vec<Cow<'a, BTreeSet<TopicName>>> {
    // Members of a group mostly ask for the same: each list of patterns is matched once.
    let mut matched: Vec<(&[TopicPattern], BTreeSet<TopicName>)> = Vec::new();
    for interest in interests.iter().filter(|interest| !interest.patterns.is_empty()) {
        if matched.iter().all(|(patterns, _)| *patterns != interest.patterns) {
            let found = snapshot.names().filter(|name| interest.patterns.iter().any(|pattern| pattern.matches(name)));
            matched.push((&interest.patterns, found.cloned().collect()));
        }
    }
    let topics_of = |interest: &&'a Interest| {
        let found = matched.iter().find(|(patterns, _)| *patterns == interest.patterns);
        match found {
            Some((_, found)) => Cow::Owned(interest.topics.union(found).cloned().collect()),
            None => Cow::Borrowed(&interest.topics),
        }
    };
    interests.iter().map(topics_of).collect()
}
