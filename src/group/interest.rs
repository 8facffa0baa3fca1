//! What a member wants to read: topics by name, and patterns that stand for those there are and those to come.

use super::topics::TopicsSnapshot;
use crate::types::{TopicName, TopicPattern};
use std::collections::BTreeSet;
use std::ops::Deref;
use std::rc::Rc;

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

/// The topics that an interest means now. Names that are not there are among them.
pub(super) enum Wanted<'a> {
    Named(&'a BTreeSet<TopicName>),
    /// Shared by all members with the same interest: there may be a thousand, and patterns that mean as many topics.
    Matched(Rc<BTreeSet<TopicName>>),
}

impl Deref for Wanted<'_> {
    type Target = BTreeSet<TopicName>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Named(topics) => topics,
            Self::Matched(topics) => topics,
        }
    }
}

/// What each interest means now, in the same order.
pub(super) fn resolve<'a>(interests: &[&'a Interest], snapshot: &TopicsSnapshot) -> Vec<Wanted<'a>> {
    let mut matched: Vec<(&Interest, Rc<BTreeSet<TopicName>>)> = Vec::new();
    let mut resolve_one = |interest: &'a Interest| {
        if interest.patterns.is_empty() {
            return Wanted::Named(&interest.topics);
        }
        if let Some((_, topics)) = matched.iter().find(|(known, _)| *known == interest) {
            return Wanted::Matched(Rc::clone(topics));
        }
        let found = snapshot.names().filter(|name| interest.patterns.iter().any(|pattern| pattern.matches(name)));
        let topics: Rc<BTreeSet<_>> = Rc::new(interest.topics.iter().chain(found).cloned().collect());
        matched.push((interest, Rc::clone(&topics)));
        Wanted::Matched(topics)
    };
    interests.iter().map(|interest| resolve_one(interest)).collect()
}
