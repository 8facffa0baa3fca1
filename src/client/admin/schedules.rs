//! Schedules: add, look at, cancel, set another time.

use crate::client::connection::service;
use crate::client::convert::required;
use crate::client::{Client, ClientError, NewRecord};
use crate::proto;
use crate::types::record_set::{self, Record, encode_identified_record};
use crate::types::{TimestampMs, TopicName};
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::time::Duration;

/// When a record is to be delivered, by the broker's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// So long after the broker has taken it.
    After(Duration),
    /// At this time; at once if it has passed.
    At(TimestampMs),
    /// Again and again.
    Cron(Cron),
}

/// Times that come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// Five fields: minute, hour, day of month, month, day of week.
    pub expression: String,
    /// Name in the IANA time zone database; empty = UTC.
    pub time_zone: String,
    /// Whether occurrences that were missed are left out, rather than delivered once for all.
    pub skip_missed: bool,
}

/// A record that is to be delivered.
#[derive(Debug, Clone)]
pub struct NewSchedule<'a> {
    /// What it is called; `None` = the broker finds an id. With an id of its own, adding it again is refused.
    pub id: Option<&'a str>,
    /// Where to.
    pub topic: &'a TopicName,
    /// What; `partition` counts.
    pub record: NewRecord<'a>,
    /// When.
    pub when: When,
}

/// A schedule that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedSchedule {
    /// What it is called.
    pub id: String,
    /// When it is due.
    pub due: TimestampMs,
}

/// What a schedule is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleState {
    /// Its time has not come.
    Waiting,
    /// It is being delivered.
    UnderWay,
    /// Its delivery has failed, and is tried again.
    Retrying,
    /// A state this client does not know: the broker is newer.
    Unknown,
}

/// A schedule, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleListing {
    /// What it is called.
    pub id: String,
    /// Where to.
    pub topic: TopicName,
    /// `None` = by key, or by message id.
    pub partition: Option<u32>,
    /// When it is due next.
    pub due: TimestampMs,
    /// When again; `None` = it is delivered once.
    pub cron: Option<Cron>,
    /// When it was added.
    pub created_at: TimestampMs,
    /// How often it was delivered.
    pub delivered: u64,
    /// When last.
    pub last_delivered: Option<TimestampMs>,
    /// What it is doing.
    pub state: ScheduleState,
    /// How often the delivery that is due has failed since the broker started.
    pub failures: u32,
    /// Why, the last time.
    pub last_error: Option<String>,
}

/// Some schedules in order of the time they are due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchedulePage {
    /// Those of this page; may be none although the list goes on.
    pub schedules: Vec<ScheduleListing>,
    /// Asks for the next page; `None` = this is the last.
    pub next: Option<String>,
}

impl fmt::Display for ScheduleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::UnderWay => "under-way",
            Self::Retrying => "retrying",
            Self::Unknown => "unknown",
        })
    }
}

impl Client {
    /// Adds schedules, all or none: 1 to 1,000 with at most 3 MiB of records. Durable when it returns.
    pub async fn add_schedules(&self, schedules: &[NewSchedule<'_>]) -> Result<Vec<AddedSchedule>, ClientError> {
        let mut service = service!(self, schedule_service_client, ScheduleServiceClient);
        let request = proto::AddSchedulesRequest { schedules: schedules.iter().map(schedule_to_wire).collect() };
        let answer = self.answer(service.add_schedules(request)).await?;
        if answer.schedules.len() != schedules.len() {
            return Err(ClientError::BadAnswer { what: "another number of schedules was added than sent" });
        }
        Ok(answer.schedules.into_iter().map(|added| AddedSchedule { id: added.id, due: added.due_ms }).collect())
    }

    /// Adds one schedule.
    pub async fn add_schedule(&self, schedule: NewSchedule<'_>) -> Result<AddedSchedule, ClientError> {
        let mut added = self.add_schedules(&[schedule]).await?;
        Ok(added.remove(0))
    }

    /// A schedule and its record.
    pub async fn describe_schedule(&self, id: &str) -> Result<(ScheduleListing, Record), ClientError> {
        let mut service = service!(self, schedule_service_client, ScheduleServiceClient);
        let answer = self.answer(service.get_schedule(proto::GetScheduleRequest { id: id.to_owned() })).await?;
        let record = record_set::record_of_body(&answer.record);
        let schedule = required(answer.schedule, "an answer about a schedule has no schedule in it")?;
        Ok((schedule_from_wire(schedule)?, required(record, "the record of a schedule is not a valid record")?))
    }

    /// Up to `most` schedules, of one topic or all, in order of the time they are due. `after` is what the page before
    /// gave; `None` = from the first. At most 1,000 come at a time.
    pub async fn list_schedules(
        &self,
        topic: Option<&TopicName>,
        after: Option<&str>,
        most: u32,
    ) -> Result<SchedulePage, ClientError> {
        let mut service = service!(self, schedule_service_client, ScheduleServiceClient);
        let request = proto::ListSchedulesRequest {
            topic: topic.map(ToString::to_string).unwrap_or_default(),
            page_size: most,
            page_token: after.unwrap_or_default().to_owned(),
        };
        let answer = self.answer(service.list_schedules(request)).await?;
        let schedules = answer.schedules.into_iter().map(schedule_from_wire).collect::<Result<_, _>>()?;
        Ok(SchedulePage { schedules, next: Some(answer.next_page_token).filter(|token| !token.is_empty()) })
    }

    /// Ends a schedule: nothing is delivered by it any more.
    pub async fn cancel_schedule(&self, id: &str) -> Result<(), ClientError> {
        let mut service = service!(self, schedule_service_client, ScheduleServiceClient);
        self.answer(service.cancel_schedule(proto::CancelScheduleRequest { id: id.to_owned() })).await.map(drop)
    }

    /// Sets another time; gives when the schedule is due now.
    pub async fn reschedule(&self, id: &str, when: &When) -> Result<TimestampMs, ClientError> {
        let mut service = service!(self, schedule_service_client, ScheduleServiceClient);
        let request = proto::RescheduleRequest { id: id.to_owned(), when: Some(when_to_wire(when)) };
        Ok(self.answer(service.reschedule(request)).await?.due_ms)
    }
}

fn schedule_to_wire(schedule: &NewSchedule<'_>) -> proto::NewSchedule {
    proto::NewSchedule {
        id: schedule.id.unwrap_or_default().to_owned(),
        topic: schedule.topic.to_string(),
        partition: schedule.record.partition,
        record: body_of(&schedule.record),
        when: Some(when_to_wire(&schedule.when)),
    }
}

/// The record as a message of its own.
fn body_of(record: &NewRecord<'_>) -> Bytes {
    let mut set = BytesMut::new();
    let headers = record.headers.iter().copied();
    encode_identified_record(&mut set, record.key, record.value, headers, record.timestamp, record.message_id);
    let (_, body) = record_set::keyed_bodies(&set.freeze()).next().expect("one record was just encoded");
    body
}

fn when_to_wire(when: &When) -> proto::When {
    use proto::when::At;
    let at = match when {
        When::After(delay) => At::DelayMs(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        When::At(due) => At::DeliverAtMs(*due),
        When::Cron(Cron { expression, time_zone, skip_missed }) => {
            let missed = if *skip_missed { proto::MissedOccurrences::Skip } else { proto::MissedOccurrences::Once };
            let (expression, time_zone) = (expression.clone(), time_zone.clone());
            At::Cron(proto::Cron { expression, time_zone, missed: missed.into() })
        }
    };
    proto::When { at: Some(at) }
}

fn schedule_from_wire(found: proto::Schedule) -> Result<ScheduleListing, ClientError> {
    let topic = TopicName::new(&found.topic);
    let state = match found.state() {
        proto::ScheduleState::Waiting => ScheduleState::Waiting,
        proto::ScheduleState::UnderWay => ScheduleState::UnderWay,
        proto::ScheduleState::Retrying => ScheduleState::Retrying,
        proto::ScheduleState::Unspecified => ScheduleState::Unknown,
    };
    Ok(ScheduleListing {
        topic: topic.map_err(|_| ClientError::BadAnswer { what: "a topic has no valid name" })?,
        partition: found.partition,
        due: found.due_ms,
        cron: found.cron.map(|cron| Cron {
            skip_missed: cron.missed() == proto::MissedOccurrences::Skip,
            expression: cron.expression,
            time_zone: cron.time_zone,
        }),
        id: found.id,
        created_at: found.created_at_ms,
        delivered: found.delivered,
        last_delivered: found.last_delivered_ms,
        state,
        failures: found.failures,
        last_error: Some(found.last_error).filter(|error| !error.is_empty()),
    })
}
