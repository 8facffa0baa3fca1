//! Replies that are lost: requests reach the broker, and the connection is cut before they are answered.
//!
//! Everybody is behind the proxy, and asks again: producers send again, workers settle again, members commit and join
//! again, redrives go on. So most requests that were under way reach the broker twice.

use crate::broker::{Launch, connect};
use crate::history::Event;
use crate::history::payload::Random;
use crate::load::{self, Load};
use crate::proxy::Proxy;
use crate::workers::Leases;
use crate::{asked, seed};
use std::time::{Duration, Instant};

const CUTS_DEFAULT: u64 = 12;
/// Cuts of one history.
const CUTS_PER_HISTORY: u64 = 60;
/// Cuts between two audits.
const CUTS_PER_AUDIT: u64 = 6;

/// What a call has taken and its worker never heard of is free again after this.
const LEASES: Leases = Leases { lease_ms: Some(500), max_lease_ms: None };

/// What was under way when a connection was cut has had its effect after this.
const AFTERMATH: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_because_the_reply_was_lost_is_done_once() {
    let (seed, begun) = (seed("lost replies"), Instant::now());
    let cuts = asked("MILLSTREAM_CUTS").unwrap_or(CUTS_DEFAULT);
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let (near, proxy) = (broker.client().await, Proxy::start(broker.address()).await);
    let far = connect(proxy.address()).await;

    let mut totals = Totals::default();
    for number in 0..cuts.div_ceil(CUTS_PER_HISTORY) {
        let mut random = Random::new(seed ^ number << 48);
        let (world, topics) = load::prepare(&far, format!("cut-{number}-"), seed).await;
        let mut load = Load::start(&world, &topics, &far, LEASES, &mut random).await;
        let cuts = CUTS_PER_HISTORY.min(cuts - number * CUTS_PER_HISTORY);
        let context = |cut| format!("MILLSTREAM_SEED={seed}, history {number}, cut {cut}");
        for cut in 1..=cuts {
            tokio::time::sleep(Duration::from_millis(20 + random.below(150))).await;
            proxy.hold_replies();
            tokio::time::sleep(Duration::from_millis(random.below(60))).await;
            // Before and after it: what is sent and answered at this moment is on either side.
            world.recorder.record(Event::Cut);
            proxy.cut();
            world.recorder.record(Event::Cut);
            if cut.is_multiple_of(CUTS_PER_AUDIT) {
                tokio::time::sleep(AFTERMATH).await;
                load.audit(&near, &context(cut)).await;
            }
        }
        load.settle().await;
        load.finish(&near, &context(cuts)).await;
        load::clean_up(&world).await;
        totals.add(&world.recorder);
    }
    println!("lost replies: {cuts} cuts: {} in {:.0} s, seed={seed}", totals.line(), begun.elapsed().as_secs_f64());
    broker.stop();
}

/// Of all histories together.
#[derive(Debug, Default)]
struct Totals {
    acked: u64,
    repeated: u64,
    commits: u64,
    settled: u64,
    repeats: u64,
    redriven: u64,
}

impl Totals {
    fn add(&mut self, recorder: &crate::history::Recorder) {
        let (logs, queues) = (recorder.counts(), recorder.queue_counts());
        self.acked += logs.acked;
        self.repeated += logs.repeated;
        self.commits += logs.commits;
        self.settled += queues.settled;
        self.repeats += queues.repeats;
        self.redriven += queues.redriven;
    }

    fn line(&self) -> String {
        let Self { acked, repeated, commits, settled, repeats, redriven } = self;
        format!(
            "{acked} records acked, 0 lost, 0 of idempotent producers doubled ({repeated} of others), {commits} commits, \
             0 gone back; {settled} settlements, {repeats} said twice, 0 done twice; {redriven} letters sent back, 0 lost"
        )
    }
}
