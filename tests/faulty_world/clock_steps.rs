//! The time of day is set, forward and back, by minutes and by days, while everything goes on.
//!
//! Leases, retries and streams go by a clock that nobody sets, so nothing of them may end early. Schedules go by the time
//! of day: what the clock passes over is due, and nothing else comes, however often it is set. Beside the schedules of
//! the history there are probes in a topic of their own, of which the highest time that the clock has shown since they
//! were added is known. The broker is in this process: its clock is the machine's, and so much off.

use crate::common::TestBroker;
use crate::history::Event;
use crate::history::payload::Random;
use crate::load::{self, Load};
use crate::workers::Leases;
use crate::world::World;
use crate::{asked, seed};
use millstream::client::admin::{NewSchedule, TopicSettings, When};
use millstream::client::{Client, NewRecord, PartitionReader};
use millstream::clock::{Clock, SystemClock};
use millstream::types::{Offset, TimestampMs, TopicName, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const STEPS_DEFAULT: u64 = 3;
/// Steps of one history.
const STEPS_PER_HISTORY: u64 = 12;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// What was taken by a call and not settled is free again after this; leases of streams go on with them.
const LEASES: Leases = Leases { lease_ms: Some(500), max_lease_ms: None };

/// Long enough for a clock that was set to be noticed (it is looked at each second), and for what is due to come.
const NOTICED: Duration = Duration::from_secs(30);

/// The machine's clock, with another time of day.
#[derive(Debug, Default)]
struct SetClock {
    off_ms: AtomicI64,
}

impl Clock for SetClock {
    fn now_ms(&self) -> TimestampMs {
        SystemClock.now_ms() + self.off_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        SystemClock.monotonic_ms()
    }

    fn boot_id(&self) -> String {
        SystemClock.boot_id()
    }
}

/// A schedule of which it is known when it may come.
#[derive(Debug)]
struct Probe {
    due_ms: TimestampMs,
    /// The highest time shown since it was added.
    shown_ms: TimestampMs,
}

/// All of them, by what is in their records.
#[derive(Debug)]
struct Probes {
    client: Client,
    clock: Arc<SetClock>,
    topic: TopicName,
    by_name: BTreeMap<String, Probe>,
    came: usize,
}

impl Probes {
    async fn new(client: Client, clock: Arc<SetClock>, number: u64) -> Self {
        let topic = TopicName::new(&format!("probes-{number}")).expect("valid");
        client.create_topic(&topic, 1, &TopicSettings::default()).await.expect("created");
        Self { client, clock, topic, by_name: BTreeMap::new(), came: 0 }
    }

    /// Adds some that are due at any time from an hour ago to two days from now.
    async fn add(&mut self, random: &mut Random) {
        let (now_ms, first) = (self.clock.now_ms(), self.by_name.len());
        let names: Vec<_> = (first..first + 20).map(|number| format!("{}-{number}", self.topic)).collect();
        let mut schedules = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let spread_ms = [2 * MINUTE_MS, 6 * 60 * MINUTE_MS, 2 * DAY_MS][number % 3];
            let due_ms = now_ms - 30_000 + i64::try_from(random.below(spread_ms)).expect("small");
            let (record, when) = (NewRecord::value(name.as_bytes()), When::At(due_ms));
            schedules.push(NewSchedule { id: Some(name), topic: &self.topic, record, when });
            self.by_name.insert(name.clone(), Probe { due_ms, shown_ms: now_ms });
        }
        self.client.add_schedules(&schedules).await.expect("nothing keeps them from being added");
    }

    /// Notes what the clock shows.
    fn look_at_clock(&mut self) {
        let now_ms = self.clock.now_ms();
        for probe in self.by_name.values_mut() {
            probe.shown_ms = probe.shown_ms.max(now_ms);
        }
    }

    /// Waits until all have come that the clock has passed; none of the others has.
    async fn check(&mut self, context: &str) {
        self.look_at_clock();
        let due: Vec<_> = self.by_name.iter().filter(|(_, probe)| probe.due_ms <= probe.shown_ms).collect();
        let due: Vec<String> = due.into_iter().map(|(name, _)| name.clone()).collect();
        let begun = Instant::now();
        loop {
            let came = self.read().await;
            self.look_at_clock();
            for (name, times) in &came {
                let Probe { due_ms, shown_ms } = self.by_name[name];
                assert!(due_ms <= shown_ms, "{name} came {} ms early; {context}", due_ms - shown_ms);
                assert_eq!(*times, 1, "{name} came again; {context}");
            }
            if due.iter().all(|name| came.contains_key(name)) {
                self.came = came.len();
                return;
            }
            assert!(begun.elapsed() < NOTICED, "{} of {} are there; {context}", came.len(), due.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How often each has come.
    async fn read(&self) -> BTreeMap<String, u32> {
        let (_, partitions) = self.client.topic(&self.topic).await.expect("it is there");
        let partition = TopicPartition { topic: self.topic.clone(), partition: 0 };
        let mut reader = PartitionReader::new(&self.client, partition, Offset::ZERO..partitions[0].high_watermark);
        let mut came = BTreeMap::new();
        while let Some(batch) = reader.next().await.expect("it can be read") {
            for record in batch.records() {
                let name = String::from_utf8(record.value.expect("it has one").to_vec()).expect("text");
                *came.entry(name).or_default() += 1;
            }
        }
        came
    }
}

/// How far the clock is set: back or forward, a little or a lot.
fn step_ms(random: &mut Random) -> i64 {
    let most = [5 * MINUTE_MS, 6 * 60 * MINUTE_MS, 2 * DAY_MS][usize::try_from(random.below(3)).expect("small")];
    let by = i64::try_from(1 + random.below(most)).expect("small");
    if random.below(2) == 0 { by } else { -by }
}

/// Sets it; what it has shown until then may have made something due.
fn set_clock(clock: &SetClock, by_ms: i64, probes: &mut Probes, world: &World) {
    probes.look_at_clock();
    world.recorder.record(Event::ClockSet { shown_ms: clock.now_ms() });
    clock.off_ms.fetch_add(by_ms, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_makes_nothing_early_and_ends_no_lease() {
    let (seed, begun) = (seed("clock steps"), Instant::now());
    let steps = asked("MILLSTREAM_STEPS").unwrap_or(STEPS_DEFAULT);
    let clock = Arc::new(SetClock::default());
    let mut broker = TestBroker::start_with(|setting| setting.clock = clock.clone()).await;
    let client = broker.client().await;
    let (mut delivered, mut came, mut came_due) = (0, 0, 0);
    for number in 0..steps.div_ceil(STEPS_PER_HISTORY) {
        let mut random = Random::new(seed ^ number << 48);
        let (world, topics) = load::prepare(&client, format!("clock-{number}-"), seed).await;
        let mut load = Load::start(&world, &topics, &client, LEASES, &mut random).await;
        let mut probes = Probes::new(client.clone(), Arc::clone(&clock), number).await;
        let steps = STEPS_PER_HISTORY.min(steps - number * STEPS_PER_HISTORY);
        let context = |step| format!("MILLSTREAM_SEED={seed}, history {number}, step {step}");
        for step in 1..=steps {
            probes.add(&mut random).await;
            tokio::time::sleep(Duration::from_millis(random.below(200))).await;
            set_clock(&clock, step_ms(&mut random), &mut probes, &world);
            probes.check(&context(step)).await;
            load.audit(&client, &context(step)).await;
        }
        load.settle().await;
        // Whatever was added while the clock was ahead is due.
        let ahead_ms = i64::try_from(5 * DAY_MS).expect("small") - clock.off_ms.load(Ordering::SeqCst).min(0);
        set_clock(&clock, ahead_ms, &mut probes, &world);
        probes.check(&context(steps)).await;
        load.finish(&client, &context(steps)).await;
        load::clean_up(&world).await;
        let counts = world.recorder.queue_counts();
        (delivered, came_due) = (delivered + counts.received, came_due + counts.came_due);
        came += probes.came;
    }
    println!(
        "clock: {steps} steps of up to 2 days: {delivered} deliveries, 0 with two leases, 0 lost; {came} probes and \
         {came_due} schedules came, 0 early, 0 twice in {:.0} s, seed={seed}",
        begun.elapsed().as_secs_f64()
    );
    drop(client);
    broker.stop().await;
}
