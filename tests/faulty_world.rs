//! A world in which things go wrong around a broker that does not: clients that stand still, replies that are lost,
//! clocks that are set. The load and the judge are those of `tests/kill.rs`; a broker that dies is there, one on a full
//! disk in `tests/full_disk.rs`.
//!
//! ```sh
//! cargo test --test faulty_world -- --nocapture                       # the short form, with its figures
//! MILLSTREAM_FREEZES=60 cargo test --test faulty_world clients_that_stand_still -- --nocapture
//! MILLSTREAM_CUTS=2000 cargo test --test faulty_world what_is_asked_again -- --nocapture
//! MILLSTREAM_STEPS=200 cargo test --test faulty_world a_clock_that_is_set -- --nocapture
//! MILLSTREAM_SEED=1234 cargo test --test faulty_world                 # the choices of a run again
//! ```
//!
//! As with the kills, a seed repeats the choices, and not what depends on the operating system's timing.

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "the other process tests use all of it")]
mod broker;
#[path = "kill/changes.rs"]
mod changes;
#[path = "faulty_world/clock_steps.rs"]
mod clock_steps;
#[expect(dead_code, reason = "the tests of the interface use all of it")]
mod common;
#[path = "faulty_world/frozen_clients.rs"]
mod frozen_clients;
#[path = "history/mod.rs"]
#[expect(dead_code, reason = "the tests of the checker are with the kill loop")]
mod history;
#[path = "kill/load.rs"]
mod load;
#[path = "faulty_world/lost_replies.rs"]
mod lost_replies;
#[path = "kill/producers.rs"]
mod producers;
#[path = "faulty_world/proxy.rs"]
mod proxy;
#[path = "kill/readers.rs"]
mod readers;
#[path = "kill/redrives.rs"]
mod redrives;
#[path = "kill/schedules.rs"]
mod schedules;
#[path = "faulty_world/stopped_processes.rs"]
mod stopped_processes;
#[path = "kill/workers.rs"]
mod workers;
#[path = "kill/world.rs"]
mod world;

use std::hash::{BuildHasher as _, RandomState};

/// A number from the environment.
fn asked(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it must be a number")))
}

/// What a run's choices come from; it is printed before anything is done.
fn seed(what: &str) -> u64 {
    let seed = asked("MILLSTREAM_SEED").unwrap_or_else(|| RandomState::new().hash_one(0_u8) >> 16);
    println!("{what}: MILLSTREAM_SEED={seed}");
    seed
}
