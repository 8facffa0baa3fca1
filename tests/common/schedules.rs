//! Schedules as tests ask for them.

use crate::common::TestBroker;
use millstream::proto::{
    AddSchedulesRequest, AddedSchedule, CancelScheduleRequest, GetScheduleRequest, GetScheduleResponse,
    ListSchedulesRequest, NewSchedule, Record, RescheduleRequest, Schedule, When, when::At,
};
use prost::Message as _;
use tonic::Status;

/// A record in topic `orders`.
pub(crate) fn schedule(id: &str, record: &Record, at: At) -> NewSchedule {
    NewSchedule {
        id: id.into(),
        topic: "orders".into(),
        partition: None,
        record: record.encode_to_vec().into(),
        when: Some(When { at: Some(at) }),
    }
}

pub(crate) async fn add(broker: &TestBroker, schedules: Vec<NewSchedule>) -> Result<Vec<AddedSchedule>, Status> {
    let added = broker.schedules().add_schedules(AddSchedulesRequest { schedules }).await?;
    Ok(added.into_inner().schedules)
}

pub(crate) async fn get(broker: &TestBroker, id: &str) -> Result<GetScheduleResponse, Status> {
    let found = broker.schedules().get_schedule(GetScheduleRequest { id: id.into() }).await?;
    Ok(found.into_inner())
}

/// What is known of a schedule that is there.
pub(crate) async fn facts(broker: &TestBroker, id: &str) -> Schedule {
    get(broker, id).await.expect("it is there").schedule.expect("the answer has it")
}

pub(crate) async fn cancel(broker: &TestBroker, id: &str) -> Result<(), Status> {
    broker.schedules().cancel_schedule(CancelScheduleRequest { id: id.into() }).await.map(drop)
}

pub(crate) async fn reschedule(broker: &TestBroker, id: &str, at: At) -> Result<i64, Status> {
    let request = RescheduleRequest { id: id.into(), when: Some(When { at: Some(at) }) };
    Ok(broker.schedules().reschedule(request).await?.into_inner().due_ms)
}

/// All schedules, in pages of this size.
pub(crate) async fn list(broker: &TestBroker, topic: &str, page_size: u32) -> Vec<Schedule> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSchedulesRequest { topic: topic.into(), page_size, page_token };
        let page = broker.schedules().list_schedules(request).await.expect("it answers").into_inner();
        found.extend(page.schedules);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// Their ids.
pub(crate) fn ids(schedules: &[Schedule]) -> Vec<&str> {
    schedules.iter().map(|schedule| schedule.id.as_str()).collect()
}
