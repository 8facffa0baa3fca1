//! The only source of time.
//!
//! Everything that asks for the wall clock takes a [`Clock`], so that tests can hold time still and move it. Beside the
//! time of day, which anybody may set, it has a reading that nobody can: the two together show when the first was set.

use crate::types::TimestampMs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::sync::watch;

/// Tells the time of day.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970-01-01 00:00 UTC. May go backwards; who needs order keeps the latest value seen.
    fn now_ms(&self) -> TimestampMs;

    /// Milliseconds since some moment, on a clock that nobody sets and that goes on while the machine sleeps.
    fn monotonic_ms(&self) -> u64;

    /// Names the run of the machine within which values of [`Self::monotonic_ms`] can be compared, also between
    /// processes; empty if it is not known.
    fn boot_id(&self) -> String;

    /// Lets `ms` pass at once. Gives the new time of day; `None` if nobody can move this clock.
    fn advance_by(&self, ms: u64) -> Option<TimestampMs> {
        let _ = ms;
        None
    }

    /// How much was let pass by [`Self::advance_by`] so far, and when that changes; `None` if nobody can move this clock.
    fn advances(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// A clock that can be handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine for the time")]
    fn now_ms(&self) -> TimestampMs {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn monotonic_ms(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ms = |number: i64| u64::try_from(number).unwrap_or(0);
        ms(now.tv_sec).saturating_mul(1000) + ms(now.tv_nsec) / 1_000_000
    }

    fn boot_id(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
    }
}

/// The machine's clock, which can be moved forward besides: what takes a day takes no time in a test.
#[derive(Debug, Default)]
pub struct AdvancingClock {
    advanced_ms: watch::Sender<u64>,
}

impl Clock for AdvancingClock {
    fn now_ms(&self) -> TimestampMs {
        let advanced_ms = i64::try_from(*self.advanced_ms.borrow()).unwrap_or(i64::MAX);
        SystemClock.now_ms().saturating_add(advanced_ms)
    }

    fn monotonic_ms(&self) -> u64 {
        SystemClock.monotonic_ms().saturating_add(*self.advanced_ms.borrow())
    }

    fn boot_id(&self) -> String {
        // What another process has seen of its own clock says nothing of this one.
        String::new()
    }

    fn advance_by(&self, ms: u64) -> Option<TimestampMs> {
        self.advanced_ms.send_modify(|advanced_ms| *advanced_ms = advanced_ms.saturating_add(ms));
        Some(self.now_ms())
    }

    fn advances(&self) -> Option<watch::Receiver<u64>> {
        Some(self.advanced_ms.subscribe())
    }
}

/// Ends when the clock was moved; never, if nobody can.
pub async fn advanced(advances: &mut Option<watch::Receiver<u64>>) {
    if let Some(advances) = advances
        && advances.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    pub fn new(now_ms: TimestampMs) -> Self {
        Self { now_ms: AtomicI64::new(now_ms), monotonic_ms: AtomicU64::new(0) }
    }

    /// Lets `ms` pass; a negative number sets the time of day back instead.
    pub fn advance(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(u64::try_from(ms).unwrap_or(0), Ordering::SeqCst);
    }

    /// Sets the time of day forward by `ms` (backwards if negative), although no time passes.
    pub fn jump(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> TimestampMs {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }

    fn boot_id(&self) -> String {
        "manual".to_owned()
    }
}
