//! Records that are to come at a time, added while the broker is killed, and due while it is.

use crate::history::audit::{schedule_id, topic_name, waiting};
use crate::history::payload::Random;
use crate::history::{Event, RecordId};
use crate::producers::PRODUCERS;
use crate::world::World;
use millstream::client::admin::{NewSchedule, When};
use millstream::client::{Client, NewRecord};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Topics that schedules deliver to: the first ones, which have queues.
const TOPICS: u16 = 2;

/// What is added is due within so many milliseconds; at once, some of it.
const SPREAD_MS: u64 = 1_500;

/// Starts to add schedules, until the world closes.
pub(crate) fn start(world: &Arc<World>, topics: &[String], random: &mut Random) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (producer, topic) in (PRODUCERS..PRODUCERS + TOPICS).zip(topics) {
        world.recorder.record(Event::Scheduler { producer, topic: topic.clone() });
        let (world, topic) = (Arc::clone(world), topic.clone());
        let mut random = Random::new(random.below(u64::MAX));
        tasks.spawn(async move {
            while !world.is_closing() {
                tokio::time::sleep(Duration::from_millis(random.below(60))).await;
                let _open = world.gate.read().await;
                add(&world, producer, &topic, &mut random).await;
            }
        });
    }
    tasks
}

/// Adds some. What was not confirmed is not added again: it may be there.
async fn add(world: &World, producer: u16, topic: &str, random: &mut Random) {
    let topic = topic_name(topic);
    let count = u32::try_from(1 + random.below(8)).expect("small");
    let first = world.recorder.sent(producer, count);
    let records: Vec<RecordId> = (first..first + count).collect();
    let contents: Vec<_> = records.iter().map(|record| world.payload.of(*record)).collect();
    let headers: Vec<_> = contents.iter().map(crate::history::payload::Content::headers).collect();
    let ids: Vec<_> = records.iter().map(|record| schedule_id(&world.subject, *record)).collect();
    let mut schedules = Vec::new();
    for ((content, headers), id) in contents.iter().zip(&headers).zip(&ids) {
        let record = NewRecord::value(&content.value).with_key(&content.key).with_headers(headers);
        let when = When::After(Duration::from_millis(random.below(SPREAD_MS)));
        schedules.push(NewSchedule { id: Some(id), topic: &topic, record, when });
    }
    match world.client.add_schedules(&schedules).await {
        Ok(added) => {
            for (record, added) in records.into_iter().zip(added) {
                world.recorder.record(Event::Scheduled { record, due_ms: added.due });
            }
            world.acked.notify_waiters();
        }
        Err(_) => world.recorder.record(Event::Refused { first, count, certain: false }),
    }
}

/// Waits until all have come.
pub(crate) async fn drain(client: &Client, world: &World) {
    while !waiting(client, &world.subject).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
