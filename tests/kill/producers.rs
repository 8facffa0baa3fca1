//! Eight producers of all kinds: idempotent or not, of both durabilities, with small and large batches.

use crate::history::payload::Random;
use crate::history::{Event, RecordId};
use crate::world::World;
use millstream::client::{NewRecord, Producer, ProducerOptions, Receipt};
use millstream::types::{Durability, TopicPartition};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How many there are.
pub(crate) const PRODUCERS: u16 = 8;

/// Records that a producer leaves unanswered before it waits.
const UNANSWERED_MAX: usize = 400;

/// Whether producer `number` is idempotent: half of them are, and one of each topic.
pub(crate) fn is_idempotent(number: u16) -> bool {
    number.is_multiple_of(2)
}

/// The topic that producer `number` sends to, among so many: each has one of both kinds.
fn topic_of(number: u16, topics: usize) -> usize {
    usize::from(number / 2) % topics
}

fn options(number: u16) -> ProducerOptions {
    let durability = [None, Some(Durability::Written), Some(Durability::Synced)][usize::from(number) % 3];
    let batch_bytes = [1 << 10, 8 << 10, 64 << 10, 256 << 10][usize::from(number) % 4];
    let max_in_flight = [16, 1, 5][usize::from(number) % 3];
    let (idempotent, name) = (is_idempotent(number), (number == 0).then(|| "the-named-one".to_owned()));
    ProducerOptions { durability, batch_bytes, max_in_flight, idempotent, name, ..ProducerOptions::default() }
}

/// Starts them all. They end when the world closes and everything they sent is answered.
pub(crate) async fn start(world: &Arc<World>, topics: &[String], random: &mut Random) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for producer in 0..PRODUCERS {
        let topic = topics[topic_of(producer, topics.len())].clone();
        let idempotent = is_idempotent(producer);
        world.recorder.record(Event::Producer { producer, topic: topic.clone(), idempotent });
        let sender = world.client.producer(&topic, options(producer)).await.expect("the topic is there");
        let (unanswered, receipts) = mpsc::channel(UNANSWERED_MAX);
        let random = Random::new(random.below(u64::MAX));
        tasks.spawn(send(Arc::clone(world), producer, sender, unanswered, random));
        tasks.spawn(settle(Arc::clone(world), topic, receipts));
    }
    tasks
}

/// Sends bursts of records, with pauses of about 10 ms.
async fn send(
    world: Arc<World>,
    producer: u16,
    sender: Producer,
    unanswered: mpsc::Sender<(RecordId, Receipt)>,
    mut random: Random,
) {
    while !world.is_closing() {
        {
            let _open = world.gate.read().await;
            let count = u32::try_from(1 + random.below(40)).expect("small");
            let first = world.recorder.sent(producer, count);
            for id in first..first + count {
                let content = world.payload.of(id);
                let headers = content.headers();
                let record = NewRecord::value(&content.value).with_key(&content.key).with_headers(&headers);
                let receipt = sender.send(record).await.expect("records are within the limits");
                unanswered.send((id, receipt)).await.expect("they are settled to the end");
            }
        }
        tokio::time::sleep(Duration::from_micros(random.below(20_000))).await;
    }
    if let Err(error) = sender.flush().await {
        world.trouble(format!("producer {producer} could not deliver: {error}"));
    }
}

/// Takes the answers.
async fn settle(world: Arc<World>, topic: String, mut receipts: mpsc::Receiver<(RecordId, Receipt)>) {
    let topic = crate::history::audit::topic_name(&topic);
    while let Some((first, receipt)) = receipts.recv().await {
        match receipt.wait().await {
            Ok(ack) => {
                let partition = TopicPartition { topic: topic.clone(), partition: ack.partition };
                let log = world.subject.log(&partition).expect("the topic has this partition");
                world.recorder.record(Event::Acked { first, count: 1, log, offset: ack.offset.0 });
                world.acked.notify_waiters();
            }
            Err(error) => {
                world.recorder.record(Event::Refused { first, count: 1, certain: false });
                world.trouble(format!("record {first} was refused: {error}"));
            }
        }
    }
}
