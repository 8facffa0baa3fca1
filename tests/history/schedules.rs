//! Records that were to come at a time: each does, not before, and again only after a kill.
//!
//! Between delivery and its note a kill makes a record come once more. A schedule that was confirmed waits, or is in its
//! log: which ones wait is asked before the logs are read, so what does not wait must then be found.

use super::logs::Logs;
use super::{Anomaly, Event, RecordId};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// All schedules of a history. Each has one record.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    producers: HashSet<u16>,
    by_record: BTreeMap<RecordId, Schedule>,
    downs: u32,
    /// They did not wait when that was last asked.
    must_be_there: Vec<RecordId>,
    /// Deliveries that audits have met, and those of them that were not the first.
    pub(super) came_due: u64,
    pub(super) repeats: u64,
}

#[derive(Debug, Default)]
struct Schedule {
    asked_after: u32,
    /// As confirmed.
    due_ms: Option<i64>,
    /// What the clock has shown since it was asked for, before it was set.
    shown_ms: Option<i64>,
    places: BTreeSet<(u16, u64)>,
}

/// A delivery.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    log: u16,
    offset: u64,
    due_ms: i64,
    appended_ms: i64,
}

type Found<'a> = &'a mut dyn FnMut(Anomaly);

impl Schedules {
    pub(super) fn take(&mut self, event: &Event, logs: &Logs, found: Found<'_>) {
        match event {
            Event::Down => self.downs += 1,
            Event::Scheduler { producer, .. } => {
                self.producers.insert(*producer);
            }
            Event::Sent { producer, first, count } if self.producers.contains(producer) => {
                let asked_after = self.downs;
                let new = |record| (record, Schedule { asked_after, ..Schedule::default() });
                self.by_record.extend((*first..*first + count).map(new));
            }
            Event::Scheduled { record, due_ms } => {
                self.by_record.get_mut(record).expect("it was to be sent").due_ms = Some(*due_ms);
            }
            Event::ClockSet { shown_ms } => {
                for schedule in self.by_record.values_mut() {
                    schedule.shown_ms = schedule.shown_ms.max(Some(*shown_ms));
                }
            }
            Event::SchedulesListed { waiting } => self.must_be_there = self.over(waiting),
            Event::TopicsAudited { .. } => {
                let due = std::mem::take(&mut self.must_be_there);
                self.check_there(&due, found);
            }
            Event::Finished => {
                let all = self.over(&[]);
                self.check_there(&all, found);
            }
            Event::CameDue { log, offset, record, due_ms, appended_ms } => {
                let delivery = Delivery { log: *log, offset: *offset, due_ms: *due_ms, appended_ms: *appended_ms };
                self.deliver(*record, delivery, logs, found);
            }
            _ => {}
        }
    }

    /// Those that were confirmed and do not wait.
    fn over(&self, waiting: &[RecordId]) -> Vec<RecordId> {
        let waiting: HashSet<_> = waiting.iter().collect();
        let confirmed = self.by_record.iter().filter(|(_, schedule)| schedule.due_ms.is_some());
        confirmed.map(|(record, _)| *record).filter(|record| !waiting.contains(record)).collect()
    }

    fn check_there(&self, records: &[RecordId], found: Found<'_>) {
        for record in records.iter().filter(|record| self.by_record[record].places.is_empty()) {
            found(Anomaly::ScheduleLost { record: *record });
        }
    }

    fn deliver(&mut self, record: Option<RecordId>, delivery: Delivery, logs: &Logs, found: Found<'_>) {
        let Delivery { log, offset, due_ms, appended_ms } = delivery;
        let schedule = record.and_then(|record| Some((record, self.by_record.get_mut(&record)?)));
        let Some((record, schedule)) = schedule else {
            return found(Anomaly::Invented { log: logs.name(log), offset });
        };
        if !schedule.places.insert((log, offset)) {
            return;
        }
        self.came_due += 1;
        self.repeats += u64::from(schedule.places.len() > 1);
        let due_ms = due_ms.max(schedule.due_ms.unwrap_or(i64::MIN));
        // A clock that is set back between decision and append dates a delivery to before it was due.
        if schedule.shown_ms.max(Some(appended_ms)) < Some(due_ms) {
            found(Anomaly::Early { record, log: logs.name(log), offset, due_ms, appended_ms });
        }
        let (copies, kills) = (schedule.places.len(), self.downs - schedule.asked_after);
        if copies > 1 + kills as usize {
            found(Anomaly::ScheduledAgain { record, log: logs.name(log), offset, copies, kills });
        }
    }
}
