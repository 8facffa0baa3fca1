//! `ScheduleService`.

use super::Door;
use super::status::status;
use crate::broker::schedules::{DescribedSchedule, NewSchedule, When};
use crate::broker::{BrokerError, ListedSchedule, Missed, Place, Schedule, ScheduleStage};
use crate::limits;
use crate::proto::{self, schedule_service_server::ScheduleService, when::At};
use crate::types::Offset;
use std::time::Duration;
use tonic::{Request, Response, Status, async_trait};

/// How long a call waits while too many records are under way.
const PATIENCE: Duration = Duration::from_secs(2);

#[async_trait]
impl ScheduleService for Door {
    async fn add_schedules(
        &self,
        request: Request<proto::AddSchedulesRequest>,
    ) -> Result<Response<proto::AddSchedulesResponse>, Status> {
        let asked = request.into_inner().schedules;
        let added = async {
            let schedules = asked.into_iter().map(schedule_in).collect::<Result<_, _>>()?;
            self.broker.add_schedules(schedules, PATIENCE).await
        };
        let added = added.await.map_err(|error| status(&error))?.into_iter();
        let schedules = added.map(|(id, due_ms)| proto::AddedSchedule { id: id.to_string(), due_ms }).collect();
        Ok(Response::new(proto::AddSchedulesResponse { schedules }))
    }

    async fn get_schedule(
        &self,
        request: Request<proto::GetScheduleRequest>,
    ) -> Result<Response<proto::GetScheduleResponse>, Status> {
        let described = self.broker.describe_schedule(&request.into_inner().id).await;
        let described = described.map_err(|error| status(&error))?;
        let (schedule, record) = (Some(schedule_out(&described)), described.entry.record);
        Ok(Response::new(proto::GetScheduleResponse { schedule, record }))
    }

    async fn list_schedules(
        &self,
        request: Request<proto::ListSchedulesRequest>,
    ) -> Result<Response<proto::ListSchedulesResponse>, Status> {
        let proto::ListSchedulesRequest { topic, page_size, page_token } = request.into_inner();
        let listed = async {
            let after = if page_token.is_empty() { None } else { Some(place_of(&page_token)?) };
            let most = if page_size == 0 { limits::LIST_PAGE_MAX } else { page_size.min(limits::LIST_PAGE_MAX) };
            let topic = (!topic.is_empty()).then_some(topic.as_str());
            self.broker.list_schedules(topic, after, most as usize).await
        };
        let (found, next) = listed.await.map_err(|error| status(&error))?;
        let schedules = found.iter().map(schedule_out).collect();
        Ok(Response::new(proto::ListSchedulesResponse {
            schedules,
            next_page_token: next.map(token_of).unwrap_or_default(),
        }))
    }

    async fn cancel_schedule(
        &self,
        request: Request<proto::CancelScheduleRequest>,
    ) -> Result<Response<proto::CancelScheduleResponse>, Status> {
        self.broker.cancel_schedule(&request.into_inner().id).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::CancelScheduleResponse {}))
    }

    async fn reschedule(
        &self,
        request: Request<proto::RescheduleRequest>,
    ) -> Result<Response<proto::RescheduleResponse>, Status> {
        let proto::RescheduleRequest { id, when } = request.into_inner();
        let rescheduled = async { self.broker.reschedule(&id, when_in(when)?).await };
        let due_ms = rescheduled.await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::RescheduleResponse { due_ms }))
    }
}

fn schedule_in(asked: proto::NewSchedule) -> Result<NewSchedule, BrokerError> {
    let proto::NewSchedule { id, topic, partition, record, when } = asked;
    Ok(NewSchedule { id, topic, partition, record, when: when_in(when)? })
}

fn when_in(when: Option<proto::When>) -> Result<When, BrokerError> {
    match when.and_then(|when| when.at) {
        None => Err(BrokerError::invalid("when", "it is missing; give delay_ms, deliver_at_ms or cron")),
        Some(At::DelayMs(delay_ms)) => Ok(When::After(delay_ms)),
        Some(At::DeliverAtMs(due_ms)) => Ok(When::At(due_ms)),
        Some(At::Cron(proto::Cron { expression, time_zone, missed })) => {
            Ok(When::Cron { expression, time_zone, missed: missed_in(missed)? })
        }
    }
}

fn missed_in(value: i32) -> Result<Missed, BrokerError> {
    match proto::MissedOccurrences::try_from(value) {
        Ok(proto::MissedOccurrences::Unspecified | proto::MissedOccurrences::Once) => Ok(Missed::Once),
        Ok(proto::MissedOccurrences::Skip) => Ok(Missed::Skip),
        Err(_) => Err(BrokerError::invalid("missed", format!("{value} is nothing this broker knows"))),
    }
}

fn schedule_out(described: &DescribedSchedule) -> proto::Schedule {
    let DescribedSchedule { entry, listed: ListedSchedule { stage, failures, last_error, .. } } = described;
    let Schedule { topic, partition, due_ms, recurrence, created_at_ms, delivered, last_delivered_ms } =
        &entry.schedule;
    let cron = recurrence.as_ref().map(|recurrence| proto::Cron {
        expression: recurrence.cron.clone(),
        time_zone: recurrence.time_zone.clone(),
        missed: match recurrence.missed {
            Missed::Once => proto::MissedOccurrences::Once.into(),
            Missed::Skip => proto::MissedOccurrences::Skip.into(),
        },
    });
    let state = match stage {
        ScheduleStage::Waiting => proto::ScheduleState::Waiting,
        ScheduleStage::UnderWay => proto::ScheduleState::UnderWay,
        ScheduleStage::Retrying => proto::ScheduleState::Retrying,
    };
    proto::Schedule {
        id: entry.id.to_string(),
        topic: topic.to_string(),
        partition: *partition,
        due_ms: *due_ms,
        cron,
        created_at_ms: *created_at_ms,
        delivered: *delivered,
        last_delivered_ms: *last_delivered_ms,
        state: state.into(),
        failures: *failures,
        last_error: last_error.as_deref().unwrap_or_default().to_owned(),
    }
}

fn token_of(place: Place) -> String {
    format!("{}:{}", place.due_ms, place.offset)
}

fn place_of(token: &str) -> Result<Place, BrokerError> {
    let parts = token.split_once(':').and_then(|(due_ms, offset)| {
        Some(Place { due_ms: due_ms.parse().ok()?, offset: Offset(offset.parse().ok()?) })
    });
    parts.ok_or_else(|| BrokerError::invalid("page_token", "it is not one that this broker gave"))
}
