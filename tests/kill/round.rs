//! One history: topics and groups of its own, load, kills, and after each an audit.

use crate::broker::{Broker, Launch};
use crate::history::Event;
use crate::history::checker::{Counts, QueueCounts};
use crate::history::payload::Random;
use crate::load::{self, Load};
use crate::workers::Leases;
use crate::world::World;
use std::time::{Duration, Instant};

/// Of all rounds together.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    kills: u64,
    kills_at_start: u64,
    counts: Counts,
    queues: QueueCounts,
    restarts: Vec<Duration>,
}

impl Totals {
    /// The line of figures.
    pub(crate) fn line(mut self) -> String {
        self.restarts.sort_unstable();
        let at = |percent: usize| self.restarts[(self.restarts.len() - 1) * percent / 100].as_millis();
        let Counts { acked, repeated, polled, commits, deleted, audited } = self.counts;
        let QueueCounts { received, settled, acked: done, dead, redriven, came_due, due_repeats, .. } = self.queues;
        format!(
            "kill: {} kills (+{} while starting), {acked} acked, 0 lost, 0 duplicated, 0 invented, 0 reordered, 0 \
             dirty reads ({repeated} repeated in doubt, {polled} polled, {commits} commits, {deleted} deleted, \
             {audited} audited); queues: {received} deliveries, {settled} settlements, {done} acks, {dead} dead letters, 0 \
             lost, 0 with two leases, 0 after their end, 0 overtaken, 0 against the filter, 0 unaccounted; {redriven} \
             letters sent back, 0 lost, 0 told of and sent again; {came_due} schedules, 0 lost, 0 early ({due_repeats} \
             repeated by kills); restart p50 {} ms, p99 {} ms, max {} ms",
            self.kills,
            self.kills_at_start,
            at(50),
            at(99),
            at(100)
        )
    }
}

/// A round that is about to begin.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) number: u64,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    pub(crate) launch: Launch,
    pub(crate) random: Random,
}

impl Round {
    /// Runs it to its end. Gives the broker that runs then.
    pub(crate) async fn run(mut self, mut broker: Broker, totals: &mut Totals) -> Broker {
        let client = broker.client().await;
        let (world, topics) = load::prepare(&client, format!("round-{}-", self.number), self.seed).await;
        let mut load = Load::start(&world, &topics, &client, Leases::default(), &mut self.random).await;
        for kill in 1..self.kills {
            self.wait_for_the_moment(&world).await;
            broker = self.kill_and_restart(broker, &world, totals);
            load.audit(&broker.client().await, &self.context(kill)).await;
        }
        load.settle().await;
        broker = self.kill_and_restart(broker, &world, totals);
        load.finish(&broker.client().await, &self.context(self.kills)).await;
        totals.add(world.recorder.counts(), world.recorder.queue_counts());
        load::clean_up(&world).await;
        broker
    }

    /// Some time under load; or the moment after something was promised, which must hold by then.
    async fn wait_for_the_moment(&mut self, world: &World) {
        if self.random.below(3) == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(500), world.acked.notified()).await;
            tokio::time::sleep(Duration::from_micros(self.random.below(3_000))).await;
        } else {
            tokio::time::sleep(Duration::from_millis(5 + self.random.below(496))).await;
        }
    }

    /// Kills the broker and starts it again; every third time on average it is killed while it starts, too.
    fn kill_and_restart(&mut self, broker: Broker, world: &World, totals: &mut Totals) -> Broker {
        broker.kill();
        totals.kills += 1;
        world.recorder.record(Event::Down);
        while self.random.below(3) == 0 {
            let moment = Duration::from_micros(self.random.below(60_000));
            // However far it came: dropped, it is killed.
            drop(self.launch.spawn().wait(moment));
            totals.kills_at_start += 1;
            world.recorder.record(Event::Down);
        }
        let begun = Instant::now();
        let broker = self.launch.start();
        totals.restarts.push(begun.elapsed());
        world.lives.send_modify(|lives| *lives += 1);
        broker
    }

    fn context(&self, kill: u64) -> String {
        format!("MILLSTREAM_SEED={}, round {}, after kill {kill}", self.seed, self.number)
    }
}

impl Totals {
    fn add(&mut self, counts: Counts, queues: QueueCounts) {
        self.queues.received += queues.received;
        self.queues.settled += queues.settled;
        self.queues.acked += queues.acked;
        self.queues.dead += queues.dead;
        self.queues.redriven += queues.redriven;
        self.queues.came_due += queues.came_due;
        self.queues.due_repeats += queues.due_repeats;
        let total = &mut self.counts;
        total.acked += counts.acked;
        total.repeated += counts.repeated;
        total.polled += counts.polled;
        total.commits += counts.commits;
        total.deleted += counts.deleted;
        total.audited += counts.audited;
    }
}
