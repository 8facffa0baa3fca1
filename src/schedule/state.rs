//! What the coordinator knows: which schedules there are, which are due, and which are with whoever delivers them.
//!
//! Pure: time comes in, changes come out. A change is decided, appended, and only then applied, so whatever is seen here
//! is durable. Of a schedule only its id, its place, its topic and its size are held; delivery itself is not durable until
//! its outcome is, and begins again after a restart.

use super::entry::Entry;
use super::error::ScheduleError;
use super::ids::{Place, ScheduleId};
use crate::limits::SCHEDULES_MAX;
use crate::planted::{Bug, is_planted};
use crate::types::{Offset, TimestampMs, TopicName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// A delivery that failed is tried again after this, doubled with each further failure up to [`RETRY_MS_MAX`].
const RETRY_MS_MIN: u64 = 1_000;
/// See [`RETRY_MS_MIN`].
const RETRY_MS_MAX: u64 = 60_000;

/// A list looks at no more schedules than this for one page: nobody else is served meanwhile.
const LIST_SCAN_MAX: usize = 10_000;

/// One moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    /// Waits between tries are measured on this one, which nobody sets.
    pub(super) monotonic_ms: u64,
    /// What is due is decided by this one.
    pub(super) wall_ms: TimestampMs,
}

/// What is appended, and then applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The schedule is this now.
    Set(Entry),
    /// It is over.
    Remove(ScheduleId),
}

/// A schedule that is to be delivered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Where its entry is.
    pub place: Place,
    /// Where it goes.
    pub topic: TopicName,
}

/// What became of one that was delivered, or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The schedule.
    pub id: ScheduleId,
    /// What was handed out.
    pub place: Place,
    /// What it is now; `None` = it is over.
    pub next: Option<Entry>,
    /// Whether it was delivered.
    pub delivered: bool,
}

/// What a schedule is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its time has not come.
    Waiting,
    /// It is being delivered.
    UnderWay,
    /// Its delivery has failed, and is tried again.
    Retrying,
}

/// A schedule as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where its entry is.
    pub place: Place,
    /// What it is doing.
    pub stage: Stage,
    /// How often its delivery has failed since the broker started.
    pub failures: u32,
    /// Why, the last time.
    pub last_error: Option<Arc<str>>,
}

/// Some schedules in order of the time they are due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Those found.
    pub found: Vec<Listed>,
    /// The list goes on behind this; `None` = it is at its end.
    pub next: Option<Place>,
}

/// How many there are, and what was done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Schedules there are now.
    pub schedules: u64,
    /// Of these, those whose delivery has failed and is tried again.
    pub retrying: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Occurrences left out because they were missed.
    pub left_out: u64,
    /// Deliveries that failed.
    pub failed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    /// In [`Topics`].
    topic: u32,
    bytes: u32,
}

#[derive(Debug)]
struct Late {
    facts: Facts,
    failures: u32,
    last_error: Option<Arc<str>>,
    /// When it is tried again; `None` = it is under way.
    retry_ms: Option<u64>,
}

/// Names of topics, each once.
#[derive(Debug, Default)]
struct Topics {
    names: Vec<TopicName>,
    numbers: HashMap<TopicName, u32>,
}

impl Topics {
    fn number(&mut self, name: &TopicName) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("there are not so many topics");
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        number
    }

    fn name(&self, number: u32) -> TopicName {
        self.names[number as usize].clone()
    }
}

/// All schedules.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    by_id: BTreeMap<ScheduleId, Place>,
    /// Not handed out yet.
    pending: BTreeMap<Place, Facts>,
    /// Handed out.
    late: BTreeMap<Place, Late>,
    /// Of the late ones those that are tried again, and when.
    retries: BTreeSet<(u64, Place)>,
    topics: Topics,
    counts: Counts,
}

/// Schedules as they are read from the log, oldest entry first.
#[derive(Debug, Default)]
pub struct Replayed(pub(super) Schedules);

impl Replayed {
    /// Takes the next entry.
    pub fn take(&mut self, offset: Offset, key: &[u8], value: Option<&bytes::Bytes>) -> Result<(), ScheduleError> {
        let change = match value {
            Some(value) => Change::Set(Entry::decode(key, value)?),
            None => Change::Remove(super::entry::decode_id(key).map_err(|cause| {
                let key = String::from_utf8_lossy(key).into_owned();
                ScheduleError::Corrupt { key, cause }
            })?),
        };
        self.0.apply(&change, offset);
        Ok(())
    }
}

impl Schedules {
    /// Adds all of these or none; `more` are on their way besides.
    pub(super) fn decide_add(&self, entries: Vec<Entry>, more: usize) -> Result<Vec<Change>, ScheduleError> {
        let mut ids = BTreeSet::new();
        for entry in &entries {
            if self.by_id.contains_key(&entry.id) || !ids.insert(&entry.id) {
                return Err(ScheduleError::Exists { id: entry.id.clone() });
            }
        }
        if self.by_id.len() + more + entries.len() > SCHEDULES_MAX {
            return Err(ScheduleError::TooMany { limit: SCHEDULES_MAX });
        }
        Ok(entries.into_iter().map(Change::Set).collect())
    }

    /// Ends a schedule that is not under way.
    pub(super) fn decide_cancel(&self, id: &ScheduleId) -> Result<Vec<Change>, ScheduleError> {
        self.changeable(id).map(|_| vec![Change::Remove(id.clone())])
    }

    /// Puts another entry in the place of the one at `place`; `None` if that is not the present one any more.
    pub(super) fn decide_replace(&self, place: Place, entry: Entry) -> Result<Option<Vec<Change>>, ScheduleError> {
        let is_present = self.changeable(&entry.id)? == place;
        Ok(is_present.then(|| vec![Change::Set(entry)]))
    }

    /// What becomes of those that were handed out.
    pub(super) fn decide_outcomes(&self, outcomes: &[Outcome]) -> Vec<Change> {
        let present = outcomes.iter().filter(|outcome| self.by_id.get(&outcome.id) == Some(&outcome.place));
        let change = |outcome: &Outcome| match &outcome.next {
            Some(entry) => Change::Set(entry.clone()),
            None => Change::Remove(outcome.id.clone()),
        };
        present.map(change).collect()
    }

    /// Counts what was decided by [`Schedules::decide_outcomes`], once it is durable.
    pub(super) fn count_outcomes(&mut self, delivered: u64, left_out: u64) {
        self.counts.delivered += delivered;
        self.counts.left_out += left_out;
    }

    /// A change that stands in the log at `offset`.
    pub(super) fn apply(&mut self, change: &Change, offset: Offset) {
        let (Change::Set(Entry { id, .. }) | Change::Remove(id)) = change;
        if let Some(before) = self.by_id.get(id).copied() {
            self.forget(before);
        }
        match change {
            Change::Remove(id) => drop(self.by_id.remove(id)),
            Change::Set(Entry { id, schedule, record }) => {
                let bytes = u32::try_from(record.len()).unwrap_or(u32::MAX);
                let facts = Facts { topic: self.topics.number(&schedule.topic), bytes };
                let place = Place { due_ms: schedule.due_ms, offset };
                self.pending.insert(place, facts);
                self.by_id.insert(id.clone(), place);
            }
        }
    }

    /// Hands out what is due, the earliest first: at most so many, and so many bytes of records or one. They are under way
    /// until their outcome, or failure, is known.
    pub(super) fn take_due(&mut self, now: Now, most: usize, bytes_max: u64) -> Vec<Due> {
        let mut due = Vec::new();
        let mut bytes = 0;
        while due.len() < most && bytes < bytes_max {
            let Some((place, facts)) = self.take_ripe(now) else { break };
            bytes += u64::from(facts.bytes);
            due.push(Due { place, topic: self.topics.name(facts.topic) });
        }
        due
    }

    fn take_ripe(&mut self, now: Now) -> Option<(Place, Facts)> {
        while let Some((at_ms, place)) = self.retries.first().copied().filter(|(at_ms, _)| *at_ms <= now.monotonic_ms) {
            self.retries.remove(&(at_ms, place));
            // The clock may have been set back to before its time.
            if place.due_ms > now.wall_ms {
                let late = self.late.remove(&place).expect("what is tried again is late");
                self.pending.insert(place, late.facts);
                continue;
            }
            let late = self.late.get_mut(&place).expect("what is tried again is late");
            late.retry_ms = None;
            return Some((place, late.facts));
        }
        let early_ms = if is_planted(Bug::ScheduleEarly) { 1_000 } else { 0 };
        let first = self.pending.first_entry().filter(|first| first.key().due_ms <= now.wall_ms + early_ms)?;
        let (place, facts) = first.remove_entry();
        self.late.insert(place, Late { facts, failures: 0, last_error: None, retry_ms: None });
        Some((place, facts))
    }

    /// These could not be delivered: they are tried again later.
    pub(super) fn put_off(&mut self, failures: Vec<(Place, Arc<str>)>, now: Now) {
        for (place, error) in failures {
            let Some(late) = self.late.get_mut(&place).filter(|late| late.retry_ms.is_none()) else { continue };
            let wait_ms = RETRY_MS_MIN << late.failures.min(10);
            let at_ms = now.monotonic_ms + wait_ms.min(RETRY_MS_MAX);
            late.failures = late.failures.saturating_add(1);
            late.last_error = Some(error);
            late.retry_ms = Some(at_ms);
            self.retries.insert((at_ms, place));
            self.counts.failed += 1;
        }
    }

    /// How long until something is due, if the clock goes on as it does; `None` = there is nothing to wait for.
    pub(super) fn next_due_in(&self, now: Now) -> Option<Duration> {
        let pending_ms =
            self.pending.first_key_value().map(|(place, _)| place.due_ms.saturating_sub(now.wall_ms).max(0));
        let retry_ms = self.retries.first().map(|(at_ms, _)| at_ms.saturating_sub(now.monotonic_ms));
        let soonest = pending_ms.map(i64::cast_unsigned).into_iter().chain(retry_ms).min();
        soonest.map(Duration::from_millis)
    }

    /// One schedule.
    pub(super) fn find(&self, id: &ScheduleId) -> Result<Listed, ScheduleError> {
        self.by_id.get(id).map(|place| self.listed(*place)).ok_or_else(|| ScheduleError::NotFound { id: id.clone() })
    }

    /// Up to `most` schedules, of one topic or all, behind `after`, in order of the time they are due.
    pub(super) fn list(&self, topic: Option<&TopicName>, after: Option<Place>, most: usize) -> Page {
        let wanted = match topic.map(|name| self.topics.numbers.get(name)) {
            None => None,
            Some(Some(number)) => Some(*number),
            Some(None) => return Page::default(),
        };
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut pending = self.pending.range(behind).map(|(place, facts)| (*place, facts.topic)).peekable();
        let mut late = self.late.range(behind).map(|(place, late)| (*place, late.facts.topic)).peekable();
        let mut page = Page::default();
        let mut last = None;
        for _ in 0..LIST_SCAN_MAX {
            if page.found.len() == most {
                break;
            }
            let is_late_first = match (pending.peek(), late.peek()) {
                (Some(pending), Some(late)) => late.0 < pending.0,
                (pending, _) => pending.is_none(),
            };
            let Some((place, topic)) = (if is_late_first { late.next() } else { pending.next() }) else { break };
            last = Some(place);
            if wanted.is_none_or(|wanted| wanted == topic) {
                page.found.push(self.listed(place));
            }
        }
        page.next = last.filter(|_| pending.peek().is_some() || late.peek().is_some());
        page
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { schedules: self.by_id.len() as u64, retrying: self.retries.len() as u64, ..self.counts }
    }

    fn listed(&self, place: Place) -> Listed {
        match self.late.get(&place) {
            None => Listed { place, stage: Stage::Waiting, failures: 0, last_error: None },
            Some(Late { failures, last_error, retry_ms, .. }) => {
                let stage = if retry_ms.is_some() { Stage::Retrying } else { Stage::UnderWay };
                Listed { place, stage, failures: *failures, last_error: last_error.clone() }
            }
        }
    }

    /// The place of a schedule that may be changed.
    fn changeable(&self, id: &ScheduleId) -> Result<Place, ScheduleError> {
        let Listed { place, stage, .. } = self.find(id)?;
        if stage == Stage::UnderWay { Err(ScheduleError::UnderWay { id: id.clone() }) } else { Ok(place) }
    }

    fn forget(&mut self, place: Place) {
        if self.pending.remove(&place).is_none()
            && let Some(Late { retry_ms: Some(at_ms), .. }) = self.late.remove(&place)
        {
            self.retries.remove(&(at_ms, place));
        }
    }

    /// What must hold at any time.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.by_id.len(), self.pending.len() + self.late.len());
        assert!(self.by_id.values().all(|place| self.pending.contains_key(place) != self.late.contains_key(place)));
        let waiting = self.late.iter().filter_map(|(place, late)| Some((late.retry_ms?, *place)));
        assert_eq!(waiting.collect::<BTreeSet<_>>(), self.retries);
    }
}
