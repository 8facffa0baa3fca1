//! Schedules as doors ask for them: add, look at, cancel, set another time.
//!
//! What is to be delivered is checked when it is added, against the topic as it is then; what has changed until it is due
//! is for the dispatcher to find.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::schedules::log::PartitionLog;
use crate::broker::topic_table::{Topic, refuse_internal};
use crate::limits;
use crate::schedule::{
    Entry, Listed, Missed, Page, Place, Recurrence, Schedule, ScheduleCoordinator, ScheduleError, ScheduleId,
};
use crate::types::record_set::{self, RecordSetError};
use crate::types::{Offset, TimestampMs, TopicName};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// A schedule that was changed by others while it was looked at is looked at again so often.
const REPLACE_TRIES: usize = 5;

/// When a record is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// So long from now, in milliseconds.
    After(u64),
    /// At this time; at once if it has passed.
    At(TimestampMs),
    /// Again and again.
    Cron {
        /// Five fields.
        expression: String,
        /// Name in the time zone database; empty = UTC.
        time_zone: String,
        /// What becomes of occurrences that were missed.
        missed: Missed,
    },
}

/// A schedule as a client asks for it.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    /// Empty = the broker finds one.
    pub id: String,
    /// Where to.
    pub topic: String,
    /// `None` = by key, or by message id.
    pub partition: Option<u32>,
    /// The record as a message of its own.
    pub record: Bytes,
    /// When.
    pub when: When,
}

/// A schedule with its record and where it stands.
#[derive(Debug, Clone)]
pub struct DescribedSchedule {
    /// The schedule and its record.
    pub entry: Entry,
    /// What it is doing.
    pub listed: Listed,
}

impl Broker {
    /// Adds all of these or, if one is refused, none. Gives the id of each and when it is due.
    pub async fn add_schedules(
        &self,
        schedules: Vec<NewSchedule>,
        patience: Duration,
    ) -> Result<Vec<(ScheduleId, TimestampMs)>, BrokerError> {
        if self.shutdown.is_draining() {
            return Err(BrokerError::Draining);
        }
        if schedules.is_empty() || schedules.len() > limits::SCHEDULES_PER_CALL_MAX {
            let what = format!("there are {}; send 1 to {}", schedules.len(), limits::SCHEDULES_PER_CALL_MAX);
            return Err(BrokerError::invalid("schedules", what));
        }
        let bytes: usize = schedules.iter().map(|schedule| schedule.record.len()).sum();
        if bytes > limits::SCHEDULE_CALL_BYTES_MAX {
            let what = format!("their records have {bytes} bytes; send at most {}", limits::SCHEDULE_CALL_BYTES_MAX);
            return Err(BrokerError::invalid("schedules", what));
        }
        let coordinator = self.schedules()?;
        let now_ms = self.clock.now_ms();
        let mut entries = Vec::with_capacity(schedules.len());
        for (number, schedule) in (0..).zip(schedules) {
            entries.push(self.entry_of(schedule, number, now_ms).await?);
        }
        let _permit = self.permit_for_bytes(bytes as u64, Some(patience)).await?;
        let added = entries.iter().map(|entry| (entry.id.clone(), entry.schedule.due_ms)).collect();
        coordinator.add(entries).await?;
        Ok(added)
    }

    /// Ends a schedule before its time.
    pub async fn cancel_schedule(&self, id: &str) -> Result<(), BrokerError> {
        Ok(self.schedules()?.cancel(schedule_id(id)?).await?)
    }

    /// Sets another time; the record stays. Gives when it is due.
    pub async fn reschedule(&self, id: &str, when: When) -> Result<TimestampMs, BrokerError> {
        for _ in 0..REPLACE_TRIES {
            let DescribedSchedule { entry, listed } = self.describe_schedule(id).await?;
            let (due_ms, recurrence) = due(when.clone(), self.clock.now_ms())?;
            if recurrence.is_some() {
                refuse_own_message_id(&entry.record)?;
            }
            let schedule = Schedule { due_ms, recurrence, ..entry.schedule };
            if self.schedules()?.replace(listed.place, Entry { schedule, ..entry }).await? {
                return Ok(due_ms);
            }
        }
        Err(ScheduleError::UnderWay { id: schedule_id(id)? }.into())
    }

    /// One schedule.
    pub async fn describe_schedule(&self, id: &str) -> Result<DescribedSchedule, BrokerError> {
        let id = schedule_id(id)?;
        for _ in 0..REPLACE_TRIES {
            let listed = self.schedules()?.find(id.clone()).await?;
            let offset = listed.place.offset;
            let found = self.schedule_log()?.read(BTreeSet::from([offset])).await.remove(&offset);
            // Without it, the schedule was changed since, and the entry compacted away.
            if let Some(entry) = found {
                let entry = entry.map_err(|cause| corrupt(&id, cause))?;
                return Ok(DescribedSchedule { entry, listed });
            }
        }
        Err(corrupt(&id, "its entry is not in the log".to_owned()))
    }

    /// Up to `most` schedules, of one topic or all, behind `after`, in order of the time they are due; and where the list
    /// goes on.
    pub async fn list_schedules(
        &self,
        topic: Option<&str>,
        after: Option<Place>,
        most: usize,
    ) -> Result<(Vec<DescribedSchedule>, Option<Place>), BrokerError> {
        let topic = topic.map(TopicName::new).transpose()?;
        let Page { found, next } = self.schedules()?.list(topic, after, most).await?;
        let offsets: BTreeSet<Offset> = found.iter().map(|listed| listed.place.offset).collect();
        let mut entries = self.schedule_log()?.read(offsets).await;
        let mut described = Vec::with_capacity(found.len());
        for listed in found {
            // One that was delivered or changed since may be gone from the log; it was listed as it was.
            let Some(entry) = entries.remove(&listed.place.offset) else { continue };
            let entry = entry.map_err(|cause| {
                let key = format!("at offset {}", listed.place.offset);
                ScheduleError::Corrupt { key, cause }
            })?;
            described.push(DescribedSchedule { entry, listed });
        }
        Ok((described, next))
    }

    async fn entry_of(&self, asked: NewSchedule, number: u32, now_ms: TimestampMs) -> Result<Entry, BrokerError> {
        // A record without anything in it is legal, and far more often one that was forgotten.
        if asked.record.is_empty() {
            let what = format!("schedule {number} of the request has none");
            return Err(BrokerError::invalid("record", what));
        }
        let id = if asked.id.is_empty() { Uuid::new_v4().simple().to_string() } else { asked.id };
        let id = schedule_id(&id)?;
        let topic = self.topic_to_produce_to(&asked.topic).await?;
        refuse_internal(&topic.name)?;
        if let Some(partition) = asked.partition {
            topic.partition(partition)?;
        }
        self.disk.admit(|| topic.at(asked.partition.unwrap_or(0)))?;
        check(&topic, &asked.record, number)?;
        let (due_ms, recurrence) = due(asked.when, now_ms)?;
        if recurrence.is_some() {
            refuse_own_message_id(&asked.record)?;
        }
        let schedule = Schedule {
            topic: topic.name.clone(),
            partition: asked.partition,
            due_ms,
            recurrence,
            created_at_ms: now_ms,
            delivered: 0,
            last_delivered_ms: None,
        };
        Ok(Entry { id, schedule, record: asked.record })
    }
}

fn schedule_id(text: &str) -> Result<ScheduleId, BrokerError> {
    Ok(ScheduleId::new(text).map_err(ScheduleError::from)?)
}

fn corrupt(id: &ScheduleId, cause: String) -> BrokerError {
    ScheduleError::Corrupt { key: id.to_string(), cause }.into()
}

/// When it is due first, and when again.
fn due(when: When, now_ms: TimestampMs) -> Result<(TimestampMs, Option<Recurrence>), BrokerError> {
    match when {
        When::After(delay_ms) => {
            let due_ms = i64::try_from(delay_ms).ok().and_then(|delay_ms| now_ms.checked_add(delay_ms));
            let in_range = due_ms.filter(|due_ms| *due_ms <= limits::SCHEDULE_DUE_MS_MAX);
            let beyond = || BrokerError::invalid("delay_ms", format!("{delay_ms} ms from now is after the year 9999"));
            in_range.map(|due_ms| (due_ms, None)).ok_or_else(beyond)
        }
        When::At(due_ms) if (0..=limits::SCHEDULE_DUE_MS_MAX).contains(&due_ms) => Ok((due_ms, None)),
        When::At(due_ms) => {
            let what = format!("{due_ms} is not a time from 1970 to 9999 in milliseconds since 1970-01-01 UTC");
            Err(BrokerError::invalid("deliver_at_ms", what))
        }
        When::Cron { expression, time_zone, missed } => {
            let recurrence = Recurrence::new(&expression, &time_zone, missed)?;
            let never = || BrokerError::invalid("cron", format!("{expression:?} never comes"));
            let due_ms = recurrence.next_after(now_ms)?.ok_or_else(never)?;
            Ok((due_ms, Some(recurrence)))
        }
    }
}

/// What a producer would be held to.
fn check(topic: &Topic, record: &Bytes, number: u32) -> Result<(), BrokerError> {
    let options = &topic.entry.options;
    let bytes_max = (options.record_bytes_max as usize).min(limits::SCHEDULE_RECORD_BYTES_MAX);
    let checked = record_set::check(&record_set::set_of_body(record), bytes_max);
    let error = match checked {
        Ok(summary) if summary.first_keyless.is_some() && options.cleanup.compacts() => {
            RecordSetError::KeyMissing { record: number }
        }
        Ok(_) => return Ok(()),
        Err(RecordSetError::Malformed { position, what, .. }) => {
            RecordSetError::Malformed { record: number, position, what }
        }
        Err(RecordSetError::RecordTooLarge { bytes, limit_bytes, .. }) => {
            RecordSetError::RecordTooLarge { record: number, bytes, limit_bytes }
        }
        Err(error) => error,
    };
    Err(BrokerError::InvalidRecords { topic: topic.name.clone(), error })
}

/// Each occurrence is a message of its own: with one id for all, a topic would take them for repeats.
fn refuse_own_message_id(record: &Bytes) -> Result<(), BrokerError> {
    let has_own = record_set::record_of_body(record).is_some_and(|record| record.message_id.is_some());
    if !has_own {
        return Ok(());
    }
    let what = "a record that comes again and again cannot have a message id of its own; each occurrence gets one";
    Err(BrokerError::invalid("record.message_id", what))
}

impl Broker {
    /// The schedules.
    pub(in crate::broker) fn schedules(&self) -> Result<&ScheduleCoordinator, BrokerError> {
        self.coordinators.schedules().map(|(coordinator, _)| coordinator)
    }

    fn schedule_log(&self) -> Result<&PartitionLog, BrokerError> {
        self.coordinators.schedules().map(|(_, log)| log)
    }
}
