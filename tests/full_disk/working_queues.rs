//! Queues on a full disk: what they have is worked off although nothing can be added, a broker that is killed meanwhile
//! knows of every ack, and what had to wait (redrives, schedules) goes on when there is room. The judge is that of
//! `tests/kill.rs`.

use crate::broker::{Broker, connect};
use crate::history::Event;
use crate::history::audit::topic_name;
use crate::history::payload::Random;
use crate::load::{self, Load};
use crate::producers::PRODUCERS;
use crate::workers::Leases;
use crate::world::World;
use crate::{Kind, SmallDisk, Topic, assert_disk_full, launch, produce_client};
use millstream::client::{Client, NewRecord, ProducerOptions};
use millstream::types::TopicPartition;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// What is there to be worked off, in each of two topics.
const RECORDS: u32 = 2_000;

const ROUNDS_WITHOUT_ROOM: u32 = 2;

const LEASES: Leases = Leases { lease_ms: Some(500), max_lease_ms: None };

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_queues_are_worked_off_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::mount(Kind::Tmpfs) else { return };
    let begun = Instant::now();
    let broker = launch(&disk).start();
    let launch = launch(&disk).listen(&broker.address());
    let client = broker.client().await;
    let (world, topics) = load::prepare(&client, "full-".to_owned(), 7).await;
    let mut random = Random::new(7);
    say_who_sends(&world, &topics);
    let mut load = Load::without_producers(&world, &topics, &client, LEASES, &mut random).await;
    for queue in load.queue_names() {
        client.pause_queue(&queue).await.expect("paused");
    }
    for producer in [0, 2] {
        send(&world, producer, &topics[usize::from(producer) / 2]).await;
    }

    let mut ballast = Topic::create(&client, "ballast").await;
    assert_disk_full(&ballast.fill(&mut produce_client(&broker).await).await);
    for queue in load.queue_names() {
        client.resume_queue(&queue).await.expect("resumed");
    }
    while acks(&client, &load).await < u64::from(RECORDS) / 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    load.audit(&client, "while the disk is full").await;
    broker.kill();
    world.recorder.record(Event::Down);
    let broker: Broker = launch.start();
    let client = connect(broker.address()).await;
    load.audit(&client, "killed while the disk is full").await;
    until_worked_off(&client, &load).await;
    load.audit(&client, "worked off while the disk is full").await;
    assert_disk_full(&ballast.fill(&mut produce_client(&broker).await).await);
    let acked_when_full = world.recorder.queue_counts().acked;
    assert!(acked_when_full > u64::from(RECORDS), "acks go on");

    client.delete_topic(&ballast.name).await.expect("a topic can be deleted");
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.settle().await;
    load.finish(&client, "there is room again").await;
    let (counts, queues) = (world.recorder.counts(), world.recorder.queue_counts());
    println!(
        "full disk: {} records, {acked_when_full} messages acked while it was full, {} after all, {} dead letters, {} sent back, {} \
         schedules, 0 lost, 0 with two leases, 0 after their end, 0 unaccounted in {:.0} s",
        counts.acked,
        queues.acked,
        queues.dead,
        queues.redriven,
        queues.came_due,
        begun.elapsed().as_secs_f64()
    );
    broker.stop();
}

/// Somebody else takes all there is, also what the broker keeps free for its own. Its journals cannot be written then, so
/// it confirms nothing more about queues until there is room again: then it goes on, in every other round after a kill in
/// between, and knows of everything that it confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_any_room_confirms_nothing_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(Kind::Tmpfs) else { return };
    let begun = Instant::now();
    let mut broker = launch(&disk).start();
    let launch = launch(&disk).listen(&broker.address());
    let client = broker.client().await;
    let (world, topics) = load::prepare(&client, "none-".to_owned(), 8).await;
    say_who_sends(&world, &topics);
    let mut load = Load::without_producers(&world, &topics, &client, LEASES, &mut Random::new(8)).await;
    let taken = disk.path().join("taken");
    for round in 0..ROUNDS_WITHOUT_ROOM {
        for producer in [0, 2] {
            send(&world, producer, &topics[usize::from(producer) / 2]).await;
        }
        let mut file = std::fs::File::options().create(true).append(true).open(&taken).expect("a file");
        while file.write_all(&[7; 4096]).is_ok() {}
        tokio::time::sleep(Duration::from_millis(500)).await;
        std::fs::remove_file(&taken).expect("it is there");
        drop(file);
        if round % 2 == 1 {
            broker.kill();
            world.recorder.record(Event::Down);
            broker = launch.start();
        }
        load.audit(&broker.client().await, &format!("after round {round} without room")).await;
    }
    load.settle().await;
    load.finish(&broker.client().await, "there is room again").await;
    let queues = world.recorder.queue_counts();
    println!(
        "no room: {ROUNDS_WITHOUT_ROOM} times, {} acks, {} dead letters, 0 lost, 0 undone in {:.0} s",
        queues.acked,
        queues.dead,
        begun.elapsed().as_secs_f64()
    );
    broker.stop();
}

/// The history numbers its producers in order; those of the first two topics are the ones that send.
fn say_who_sends(world: &World, topics: &[String]) {
    for producer in 0..PRODUCERS {
        let topic = topics[usize::from(producer / 2)].clone();
        world.recorder.record(Event::Producer { producer, topic, idempotent: true });
    }
}

/// Sends everything there is to be worked off in a topic.
async fn send(world: &World, producer: u16, topic: &str) {
    let sender = world.client.producer(topic, ProducerOptions::default()).await.expect("the topic is there");
    let first = world.recorder.sent(producer, RECORDS);
    let mut receipts = Vec::new();
    for id in first..first + RECORDS {
        let content = world.payload.of(id);
        let headers = content.headers();
        let record = NewRecord::value(&content.value).with_key(&content.key).with_headers(&headers);
        receipts.push((id, sender.send(record).await.expect("there is room")));
    }
    for (first, receipt) in receipts {
        let ack = receipt.wait().await.expect("there is room");
        let partition = TopicPartition { topic: topic_name(topic), partition: ack.partition };
        let log = world.subject.log(&partition).expect("a log of the history");
        world.recorder.record(Event::Acked { first, count: 1, log, offset: ack.offset.0 });
    }
}

/// Acks of all queues since the broker started.
async fn acks(client: &Client, load: &Load) -> u64 {
    let mut acks = 0;
    for queue in load.queue_names() {
        acks += client.describe_queue(&queue).await.expect("it answers").acked;
    }
    acks
}

/// Waits until nothing more can be done: what is left is on its way to a dead letter topic, or behind such a message.
async fn until_worked_off(client: &Client, load: &Load) {
    let begun = Instant::now();
    let mut before = u64::MAX;
    loop {
        let now = acks(client, load).await;
        if now == before {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it never ends");
        before = now;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
