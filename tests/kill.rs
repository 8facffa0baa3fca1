//! `kill -9` of a real broker under load, again and again, and a history that must be explained.
//!
//! The parent is the judge, the child is the broker. Eight producers (half of them idempotent), schedules, two groups of
//! two members, three queues of three workers (one has a filter), redrives, deletions and new topics go on while the
//! broker is killed at moments that a seeded generator chooses: under load, right after an acknowledgement, and while it
//! starts. After each restart everything is read, and `tests/history` says whether every promise was kept.
//!
//! ```sh
//! MILLSTREAM_KILLS=500 cargo test --release --test kill -- --nocapture    # prints one line of figures
//! MILLSTREAM_SEED=1234 cargo test --test kill                            # the choices of a run again
//! ```
//!
//! What depends on the operating system's timing is not repeated by a seed; the history of a failure is kept in a file.

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "the other process tests use all of it")]
mod broker;
#[path = "kill/changes.rs"]
mod changes;
#[path = "kill/checker_tests.rs"]
mod checker_tests;
#[path = "history/mod.rs"]
mod history;
#[path = "kill/late_checker_tests.rs"]
mod late_checker_tests;
#[path = "kill/load.rs"]
mod load;
#[path = "kill/producers.rs"]
mod producers;
#[path = "kill/queue_checker_tests.rs"]
mod queue_checker_tests;
#[path = "kill/readers.rs"]
mod readers;
#[path = "kill/redrives.rs"]
mod redrives;
#[path = "kill/round.rs"]
mod round;
#[path = "kill/schedules.rs"]
mod schedules;
#[path = "kill/workers.rs"]
mod workers;
#[path = "kill/world.rs"]
mod world;

use broker::Launch;
use history::payload::Random;
use round::{Round, Totals};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

/// Kills in one round: a history with topics and groups of its own, which are deleted at its end. All of a round is
/// read after each restart, so a round must not grow long.
const KILLS_PER_ROUND: u64 = 12;

/// Kills of a run of which nobody asked for more.
const KILLS_DEFAULT: u64 = 12;

/// A number from the environment.
fn asked(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it must be a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kill_9_is_explained_by_what_was_promised() {
    let seed = asked("MILLSTREAM_SEED").unwrap_or_else(|| RandomState::new().hash_one(0_u8) >> 16);
    let kills_wanted = asked("MILLSTREAM_KILLS").unwrap_or(KILLS_DEFAULT);
    println!("kill: MILLSTREAM_SEED={seed} MILLSTREAM_KILLS={kills_wanted}");
    let begun = Instant::now();
    let directory = tempfile::tempdir().expect("a directory");
    let launch = |address: &str| {
        // Retention must have its turn in lives of half a second.
        Launch::new(directory.path()).variable("MILLSTREAM_BROKER_RETENTION_CHECK_MS", "100").listen(address)
    };
    let mut broker = launch("127.0.0.1:0").start();
    let launch = launch(&broker.address().to_string());

    let mut totals = Totals::default();
    for number in 0..kills_wanted.div_ceil(KILLS_PER_ROUND) {
        let kills = KILLS_PER_ROUND.min(kills_wanted - number * KILLS_PER_ROUND);
        let random = Random::new(seed ^ number << 48);
        let round = Round { number, kills, seed, launch: launch.clone(), random };
        broker = round.run(broker, &mut totals).await;
        if asked("MILLSTREAM_KILLS").is_some() {
            println!("kill: round {number} done after {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    broker.stop();
    println!("{} in {:.0} s, seed={seed}", totals.line(), begun.elapsed().as_secs_f64());
}
