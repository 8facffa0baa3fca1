//! The judge: takes events one by one, knows what must hold, and names what does not.
//!
//! Parts that know nothing of each other: the records in the logs (`logs.rs`), the groups that read them (`groups.rs`),
//! the queues that hand them out (`queues.rs`), the dead letters that are sent back (`redrives.rs`), the records that
//! come when they are due (`schedules.rs`), and the topics (here).

use super::groups::Groups;
use super::logs::Logs;
use super::queues::Queues;
use super::redrives::Redrives;
use super::schedules::Schedules;
use super::{Anomaly, Event};
use std::collections::BTreeMap;

/// More anomalies than these say nothing new.
const ANOMALIES_MAX: usize = 1_000;

/// The judge of one history.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    logs: Logs,
    groups: Groups,
    queues: Queues,
    redrives: Redrives,
    schedules: Schedules,
    /// Whether a topic exists; `None` while nobody can know.
    topics: BTreeMap<String, Option<bool>>,
    anomalies: Vec<Anomaly>,
}

/// What a history amounts to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) acked: u64,
    /// Extra copies of records whose acknowledgement was in doubt.
    pub(crate) repeated: u64,
    /// Records that readers got.
    pub(crate) polled: u64,
    pub(crate) commits: u64,
    /// Records that deletion or retention took.
    pub(crate) deleted: u64,
    /// Records that audits compared with what is known of them.
    pub(crate) audited: u64,
}

/// What became of messages of queues.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueCounts {
    /// Deliveries that workers heard.
    pub(crate) received: u64,
    /// Settlements that were confirmed, acks among them.
    pub(crate) settled: u64,
    pub(crate) acked: u64,
    /// Settlements that were refused when they were first said: their leases were over.
    pub(crate) refused: u64,
    /// Settlements that were said once more, because no answer came.
    pub(crate) repeats: u64,
    /// Messages with a dead letter.
    pub(crate) dead: u64,
    /// Dead letters that came back, those sent twice in doubt among them.
    pub(crate) redriven: u64,
    /// Records that were delivered by their schedules, and those of them that were there already.
    pub(crate) came_due: u64,
    pub(crate) due_repeats: u64,
}

impl Checker {
    /// The anomalies of a whole history.
    pub(crate) fn judge(history: &[Event]) -> Vec<Anomaly> {
        let mut checker = Self::default();
        for event in history {
            checker.take(event);
        }
        checker.anomalies
    }

    /// What is wrong so far.
    pub(crate) fn anomalies(&self) -> &[Anomaly] {
        &self.anomalies
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> Counts {
        let Counts { polled, commits, .. } = self.groups.counts;
        Counts { polled, commits, ..self.logs.counts }
    }

    /// The same of queues.
    pub(crate) fn queue_counts(&self) -> QueueCounts {
        let redriven = self.redrives.redriven;
        let (came_due, due_repeats) = (self.schedules.came_due, self.schedules.repeats);
        QueueCounts { redriven, came_due, due_repeats, ..self.queues.counts }
    }

    /// Goes on by one event.
    pub(crate) fn take(&mut self, event: &Event) {
        let Self { logs, groups, queues, redrives, schedules, topics, anomalies } = self;
        let found = &mut |anomaly| {
            if anomalies.len() < ANOMALIES_MAX {
                anomalies.push(anomaly);
            }
        };
        match event {
            Event::TopicAsked { topic, exists } => {
                let known = topics.entry(topic.clone()).or_insert(Some(!exists));
                *known = known.filter(|known| known == exists);
            }
            Event::TopicDone { topic, exists } => {
                topics.insert(topic.clone(), Some(*exists));
            }
            Event::TopicsAudited { topics: there } => check_topics(topics, there, found),
            _ => {}
        }
        logs.take(event, found);
        groups.take(event, logs, found);
        queues.take(event, logs, found);
        redrives.take(event, logs, found);
        schedules.take(event, logs, found);
    }
}

fn check_topics(topics: &mut BTreeMap<String, Option<bool>>, there: &[String], found: &mut impl FnMut(Anomaly)) {
    for topic in there.iter().filter(|topic| !topics.contains_key(*topic)) {
        found(Anomaly::TopicCameBack { topic: topic.clone() });
    }
    for (topic, known) in topics {
        let is_there = there.contains(topic);
        match known {
            Some(true) if !is_there => found(Anomaly::TopicLost { topic: topic.clone() }),
            Some(false) if is_there => found(Anomaly::TopicCameBack { topic: topic.clone() }),
            // Whatever became of what was asked for, it stays so.
            _ => *known = Some(is_there),
        }
    }
}
