//! A real broker that is killed at each system call which changes a file, or whose disk fails there once.
//!
//! A fixed scenario (topics, batches of both durabilities, new segments, commits, deletions, a kill, recovery,
//! retention, a clean stop) runs once for each call that it makes: that call is not done, and the broker is killed, or
//! the call answers EIO or ENOSPC. Then the broker is started again, and `tests/history` says whether every promise was
//! kept. Calls are counted over all threads, so no point is left out.
//!
//! ```sh
//! cargo test --release --test syscalls -- --nocapture                # every call
//! MILLSTREAM_STEP=10 cargo test --test syscalls -- --nocapture       # every tenth
//! MILLSTREAM_CALL=pwritev cargo test --test syscalls killed          # every one of this name
//! ```
//!
//! It traces processes of its own (`ptrace`), which some containers forbid; then it fails and says so.

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "the other process tests use all of it")]
mod broker;
#[path = "history/mod.rs"]
#[expect(dead_code, reason = "the kill loop uses all of it")]
mod history;
#[path = "syscalls/life.rs"]
mod life;
#[path = "syscalls/scenario.rs"]
mod scenario;
#[path = "syscalls/tracer.rs"]
mod tracer;

use broker::Launch;
use life::Life;
use nix::errno::Errno;
use rustix::process::Signal;
use scenario::Actor;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracer::{Call, Deed, Strike, Traced};

/// Runs at the same time.
const WORKERS: usize = 2;

/// One call of a scenario takes no longer, or hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// What one run showed.
struct Run {
    /// Where the deed was done; `None` if the scenario has fewer calls.
    struck: Option<Call>,
    /// The broker decided to end.
    stopped: bool,
    violations: Vec<String>,
}

/// Runs the scenario with one deed.
fn run(strike: &Strike) -> Run {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("it is there").join("data");
    let launch = Launch::new(&root)
        .variable("MILLSTREAM_BROKER_STORAGE_THREADS", "1")
        // Only the round that each start begins with.
        .variable("MILLSTREAM_BROKER_RETENTION_CHECK_MS", "1d")
        .variable("MILLSTREAM_BROKER_DRAIN_TIMEOUT_MS", "1s");
    let mut actor = Actor::new();
    let mut violations = Vec::new();
    let (mut struck, mut counted, mut stopped) = (None, 0, false);
    // The first life is ended by a kill when all is quiet, the second one by a stop.
    for (number, signal) in [(1, Signal::KILL), (2, Signal::TERM)] {
        let rest = Strike { after: strike.after.wrapping_sub(counted), ..strike.clone() };
        let life = Life::begin(&launch, &root, rest);
        if let Some(address) = life.address {
            let in_time =
                if number == 1 { within(actor.first_life(address)) } else { within(actor.second_life(address)) };
            if in_time.is_none() {
                violations.push(format!("life {number} hangs"));
            }
        }
        let (traced, log) = life.end(signal);
        actor.down();
        violations.extend(wrong_end(&traced, strike.deed, number, &log));
        counted += traced.counted;
        stopped |= traced.code.is_some_and(|code| code != 0);
        struck = struck.or(traced.struck);
        if strike.deed == Deed::Kill && struck.is_some() {
            break;
        }
    }
    let broker = launch.start();
    within(actor.audit(broker.address())).expect("the audit hangs");
    violations.extend(actor.into_violations());
    broker.stop();
    Run { struck, stopped, violations }
}

/// A broker ends by the signal that was sent, by its own decision, or never.
fn wrong_end(traced: &Traced, deed: Deed, life: u32, log: &str) -> Option<String> {
    let last = log.lines().last().unwrap_or_default();
    match (deed, traced.code) {
        // Killed by us, at the call or at the end of the first life.
        (Deed::Kill, None) if life == 1 || traced.struck.is_some() => None,
        (Deed::Fail(_), None) if life == 1 => None,
        (_, Some(0)) if life == 2 => None,
        (Deed::Fail(_), Some(1)) if last.starts_with("millstream: ") => None,
        (_, code) => Some(format!("life {life} ended with {code:?}: {last}")),
    }
}

/// Nothing if it hangs.
fn within<T>(future: impl Future<Output = T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.ok() })
}

/// All points of one deed.
#[derive(Default)]
struct Points {
    by_call: Mutex<BTreeMap<&'static str, u64>>,
    violations: Mutex<Vec<String>>,
    /// Runs in which the broker decided to end.
    stopped: AtomicU64,
    next: AtomicU64,
    complete: AtomicBool,
}

impl Points {
    /// Tries every `step`-th point, until the scenario comes to its end untouched.
    fn try_all(deed: Deed, step: u64) -> Self {
        let points = Self::default();
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while !points.complete.load(Ordering::Acquire) {
                        points.try_next(deed, step);
                    }
                });
            }
        });
        points
    }

    fn try_next(&self, deed: Deed, step: u64) {
        let after = self.next.fetch_add(step, Ordering::AcqRel);
        let Run { struck, stopped, violations } =
            run(&Strike { deed, only: std::env::var("MILLSTREAM_CALL").ok(), after });
        self.stopped.fetch_add(stopped.into(), Ordering::AcqRel);
        let place = match &struck {
            Some(call) => format!("{deed:?} at call {}, {call}", after + 1),
            None => format!("{deed:?}, untouched"),
        };
        let mut all = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        // One fault shows in many records; the first say enough.
        all.extend(violations.iter().take(3).map(|violation| format!("{place}: {violation}")));
        match struck {
            Some(call) => {
                let mut by_call = self.by_call.lock().unwrap_or_else(PoisonError::into_inner);
                *by_call.entry(call.name).or_default() += 1;
            }
            None => self.complete.store(true, Ordering::Release),
        }
    }

    /// Prints the figures; fails if anything was violated.
    #[track_caller]
    fn report(self, what: &str, begun: Instant) {
        let by_call = self.by_call.into_inner().unwrap_or_else(PoisonError::into_inner);
        let violations = self.violations.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut calls = String::new();
        for (name, count) in &by_call {
            let _ = write!(calls, "{}{name} {count}", if calls.is_empty() { "" } else { ", " });
        }
        let (total, seconds) = (by_call.values().sum::<u64>(), begun.elapsed().as_secs_f64());
        let (wrong, stopped) = (violations.len(), self.stopped.into_inner());
        let ends = if stopped > 0 { format!(", {stopped} stops by the broker") } else { String::new() };
        println!("syscalls: {what}: {total} points ({calls}), {wrong} violations{ends}, {seconds:.0} s");
        assert!(violations.is_empty(), "{}", violations.join("\n"));
        assert!(total > 0, "nothing was tried");
    }
}

fn step() -> u64 {
    let Ok(text) = std::env::var("MILLSTREAM_STEP") else { return 1 };
    text.parse().ok().filter(|step| *step > 0).unwrap_or_else(|| panic!("MILLSTREAM_STEP is {text:?}, not a number"))
}

#[test]
fn a_broker_killed_at_any_call_keeps_its_promises() {
    let begun = Instant::now();
    Points::try_all(Deed::Kill, step()).report("kill", begun);
}

#[test]
fn a_disk_that_fails_once_at_any_call_costs_nothing_acknowledged() {
    for (what, error) in [("EIO", Errno::EIO), ("ENOSPC", Errno::ENOSPC)] {
        let begun = Instant::now();
        Points::try_all(Deed::Fail(error), step()).report(what, begun);
    }
}
