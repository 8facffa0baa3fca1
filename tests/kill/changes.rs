//! What goes on besides records: their deletion, compaction, and topics that come and go.

use crate::history::Event;
use crate::history::payload::Random;
use crate::world::World;
use millstream::client::ClientError;
use millstream::client::admin::TopicSettings;
use millstream::types::{Offset, TopicName};
use std::sync::Arc;
use std::time::Duration;

/// Deletes the beginning of the partitions of `topic`, now and then, until the world closes.
pub(crate) async fn delete_records(world: Arc<World>, topic: TopicName, mut random: Random) {
    while !world.is_closing() {
        tokio::time::sleep(Duration::from_millis(random.below(200))).await;
        let _open = world.gate.read().await;
        // The broker may be down; then this was no deletion.
        let _ = delete_some(&world, &topic, &mut random).await;
    }
}

async fn delete_some(world: &World, topic: &TopicName, random: &mut Random) -> Result<(), ClientError> {
    let (_, partitions) = world.client.topic(topic).await?;
    let chosen = usize::try_from(random.below(partitions.len() as u64)).expect("few");
    let (partition, state) = (u32::try_from(chosen).expect("few"), &partitions[chosen]);
    let records = state.high_watermark.records_since(state.log_start_offset);
    let before = state.log_start_offset.0 + random.below(records / 4 + 1);
    let place = millstream::types::TopicPartition { topic: topic.clone(), partition };
    let log = world.subject.log(&place).expect("a partition of ours");
    world.recorder.record(Event::DeleteAsked { log, before });
    let start = world.client.delete_records(topic, partition, Offset(before)).await?;
    // It may be higher, if retention has gone further; what was asked for is what was promised.
    world.recorder.record(Event::DeleteDone { log, start: before.min(start.0) });
    if start.0 < before {
        world.trouble(format!("{place}: asked to delete what is before {before}, and confirmed with {start}"));
    }
    Ok(())
}

/// Compacts `topic`, now and then, until the world closes.
pub(crate) async fn compact(world: Arc<World>, topic: TopicName, mut random: Random) {
    while !world.is_closing() {
        tokio::time::sleep(Duration::from_millis(random.below(400))).await;
        let _open = world.gate.read().await;
        // Whatever it comes to: the checker knows what may be gone.
        let _ = world.client.compact_topic(&topic).await;
    }
}

/// Creates topics and deletes them again, until the world closes.
pub(crate) async fn change_topics(world: Arc<World>, mut random: Random) {
    let mut number = 0_u64;
    while !world.is_closing() {
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        let _open = world.gate.read().await;
        let name = format!("{}passing-{}", world.subject.prefix, number / 2);
        let topic = crate::history::audit::topic_name(&name);
        let exists = number.is_multiple_of(2);
        world.recorder.record(Event::TopicAsked { topic: name.clone(), exists });
        let done = if exists {
            world.client.create_topic(&topic, 2, &TopicSettings::default()).await.map(drop)
        } else {
            world.client.delete_topic(&topic).await
        };
        number += 1;
        match done {
            Ok(()) => world.recorder.record(Event::TopicDone { topic: name, exists }),
            // In doubt: the next audit says what became of it, and it stays so. The next one has another name.
            Err(_) => number += number % 2,
        }
    }
}
