//! Clients that stand still, as SIGSTOP makes them or a machine that sleeps, for longer than their leases.
//!
//! Streams of queues and members of groups are behind a proxy that holds everything back; workers by calls are not, and
//! get what the others have. Then everything that was held back goes on: messages that are no longer theirs, and acks
//! that come too late and must be refused.

use crate::broker::{Launch, connect};
use crate::history::Event;
use crate::history::payload::Random;
use crate::load::{self, Load};
use crate::proxy::Proxy;
use crate::workers::Leases;
use crate::{asked, seed};
use std::time::{Duration, Instant};

const FREEZES_DEFAULT: u64 = 1;
/// Freezes of one history: all of it is read at each.
const FREEZES_PER_HISTORY: u64 = 6;

const MAX_LEASE_MS: u64 = 2_000;
const LEASES: Leases = Leases { lease_ms: Some(400), max_lease_ms: Some(MAX_LEASE_MS) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stand_still_lose_what_they_have_and_are_told() {
    let (seed, begun) = (seed("freezes"), Instant::now());
    let freezes = asked("MILLSTREAM_FREEZES").unwrap_or(FREEZES_DEFAULT);
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let (near, proxy) = (broker.client().await, Proxy::start(broker.address()).await);
    let far = connect(proxy.address()).await;

    let (mut delivered, mut acked, mut late) = (0, 0, 0);
    for number in 0..freezes.div_ceil(FREEZES_PER_HISTORY) {
        let mut random = Random::new(seed ^ number << 48);
        let (world, topics) = load::prepare(&near, format!("frozen-{number}-"), seed).await;
        let mut load = Load::start(&world, &topics, &far, LEASES, &mut random).await;
        let freezes = FREEZES_PER_HISTORY.min(freezes - number * FREEZES_PER_HISTORY);
        let context = |freeze| format!("MILLSTREAM_SEED={seed}, history {number}, freeze {freeze}");
        for freeze in 1..=freezes {
            tokio::time::sleep(Duration::from_millis(50 + random.below(400))).await;
            proxy.freeze();
            world.recorder.record(Event::Frozen);
            tokio::time::sleep(Duration::from_millis(MAX_LEASE_MS + 100 + random.below(500))).await;
            load.audit(&near, &context(freeze)).await;
            proxy.thaw();
        }
        load.settle().await;
        load.finish(&near, &context(freezes)).await;
        load::clean_up(&world).await;
        let counts = world.recorder.queue_counts();
        delivered += counts.received;
        acked += counts.acked;
        late += counts.refused;
    }
    assert!(late > 0, "nobody was late: nothing was tried");
    println!(
        "freezes: {freezes} of clients for {MAX_LEASE_MS} ms and more: {delivered} deliveries, {acked} acks, {late} late \
         settlements refused, 0 confirmed, 0 with two leases, 0 lost, 0 after their end, 0 overtaken in {:.0} s, seed={seed}",
        begun.elapsed().as_secs_f64()
    );
    broker.stop();
}
