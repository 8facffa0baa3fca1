//! One round of the task: what it has decided, gathered for one append, and the answers that wait for it.

use super::drain_entries::DrainEntries;
use super::error::QueueError;
use super::event::Now;
use super::task::Reply;
use super::under_way::Answers;
use crate::planted::{Bug, is_planted};
use crate::types::Durability;

/// Most requests in one drain, so that the first of them does not wait for ever.
const DRAIN_COMMANDS_MAX: usize = 256;

/// A drain takes no further request once its entries have this many bytes. The last one may exceed it.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// What one round has decided, and what is said of it when it is written and when it is synced.
pub(super) struct Drain {
    pub(super) now: Now,
    pub(super) entries: DrainEntries,
    pub(super) at_written: Answers,
    pub(super) at_synced: Answers,
    /// There are deliveries in it of a queue that promises more than WRITTEN.
    pub(super) is_worth_a_sync: bool,
}

impl Drain {
    pub(super) fn new(now: Now) -> Self {
        Self {
            now,
            entries: DrainEntries::default(),
            at_written: Vec::new(),
            at_synced: Vec::new(),
            is_worth_a_sync: false,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.at_written.len() + self.at_synced.len() >= DRAIN_COMMANDS_MAX || self.entries.bytes() >= DRAIN_BYTES_MAX
    }

    /// Will answer when everything of this drain, and before, is synced. A caller that no longer waits is nobody's error.
    pub(super) fn answer<R: Send + 'static>(&mut self, reply: Reply<R>, result: Result<R, QueueError>) {
        self.answer_when(Durability::Synced, reply, result);
    }

    /// The same when it is as durable as that.
    pub(super) fn answer_when<R: Send + 'static>(
        &mut self,
        durability: Durability,
        reply: Reply<R>,
        result: Result<R, QueueError>,
    ) {
        if is_planted(Bug::SettlementConfirmedEarly) {
            drop(reply.send(result));
            return;
        }
        let answers = match durability {
            Durability::Written => &mut self.at_written,
            Durability::Synced => &mut self.at_synced,
        };
        answers.push(Box::new(move || drop(reply.send(result))));
    }
}
