//! Dead letters as people work them off: looked at, sent back, given up.
//!
//! ```text
//! selection (which letters) -> scan (reads the topic, leaves out what is resolved) -> listing   counts, of all topics
//!                                    |   facts (what a letter's headers say)       -> redrive   append, then resolve
//!                                    +-> read: the scan itself                     -> purge     resolve
//! ```
//!
//! Which letters are resolved is state of the queues' coordinator (`crate::queue`, `letters`); here is what it means for
//! records. Everything goes on in steps of bounded size that are carried out as a whole: whoever drives them may stop
//! between two, and nothing is half done. Of one topic one redrive or purge is at work at a time.

mod facts;
mod listing;
mod purge;
mod redrive;
mod scan;
mod selection;

pub use facts::{Letter, LetterFacts};
pub use listing::LetterTopicState;
pub use purge::{Purge, Purged};
pub use redrive::{Redrive, RedriveOptions, Redriven, RedrivenLetter};
pub use scan::{FoundLetters, LetterScan};
pub use selection::LetterSelection;

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::queues::queue_name;
use crate::limits;
use crate::queue::SettleError;
use crate::types::{TopicId, TopicName};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Letters of one step: what a crash between append and note may send again.
const STEP_LETTERS_MAX: usize = 500;

/// Topics of which letters are redriven or purged now.
#[derive(Debug, Default)]
pub(super) struct LettersAtWork(Mutex<HashSet<TopicId>>);

/// The right to resolve letters of one topic, until it is dropped.
#[derive(Debug)]
struct LetterWork {
    at_work: Arc<LettersAtWork>,
    topic_id: TopicId,
}

impl LettersAtWork {
    /// Two at once would send each letter twice.
    fn begin(self: &Arc<Self>, topic: &TopicName, topic_id: TopicId) -> Result<LetterWork, BrokerError> {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if topics.len() >= limits::LETTER_WORKS_MAX || !topics.insert(topic_id) {
            return Err(BrokerError::LettersBusy { topic: topic.clone() });
        }
        Ok(LetterWork { at_work: Arc::clone(self), topic_id })
    }
}

impl Drop for LetterWork {
    fn drop(&mut self) {
        self.at_work.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.topic_id);
    }
}

impl Broker {
    /// Reads letters. `include_resolved`: those that are resolved, too.
    pub async fn scan_letters(
        &self,
        selection: LetterSelection,
        include_resolved: bool,
    ) -> Result<LetterScan, BrokerError> {
        selection.check()?;
        let queues = self.queue_coordinator()?;
        let name = self.letter_topic_of(&selection).await?;
        let topic = self.topic(name.as_str())?;
        let state = queues.letters(name).await?;
        LetterScan::new(topic, &state, selection, include_resolved)
    }

    /// The topic that is named, or the one that the queue writes its dead letters to.
    async fn letter_topic_of(&self, selection: &LetterSelection) -> Result<TopicName, BrokerError> {
        let LetterSelection { topic, queue, .. } = selection;
        if !topic.is_empty() {
            return Ok(TopicName::new(topic)?);
        }
        if queue.is_empty() {
            return Err(BrokerError::invalid("selection", "name a dead letter topic, or a queue that writes to one"));
        }
        let queue = queue_name(queue)?;
        let config = self.queue_coordinator()?.describe(queue.clone()).await?.config;
        config.policy.dead_letter_topic.ok_or(BrokerError::Settle(SettleError::NoDeadLetterTopic { queue }))
    }
}
