//! The course of a run: warm-up, measured, over. Senders and readers look at it; nobody is told.
//!
//! The conductor moves it on and reads processor time at the same moments, so that a rate and the cost of it are of the
//! same time. A run can be stopped early; what was measured until then counts.

use super::error::BenchError;
use super::usage::{Reading, Usage};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Nanoseconds since the run began, the same for everyone in it.
#[derive(Debug, Clone, Copy)]
pub struct RunClock(Instant);

impl RunClock {
    /// A clock that shows 0 now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What it shows.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Measured,
    /// Nothing more is sent; what is on its way is waited for.
    Over,
}

/// The phase of a run, and when it began to be measured and ceased to be.
#[derive(Debug)]
pub(super) struct Stage {
    clock: RunClock,
    phase: AtomicU8,
    measured_from_ns: AtomicU64,
    measured_until_ns: AtomicU64,
}

impl Stage {
    pub(super) fn new(clock: RunClock) -> Self {
        let never = || AtomicU64::new(u64::MAX);
        Self { clock, phase: AtomicU8::new(0), measured_from_ns: never(), measured_until_ns: never() }
    }

    #[inline]
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measured,
            _ => Phase::Over,
        }
    }

    /// Whether a record that was meant to be sent then is one of those measured.
    #[inline]
    pub(super) fn measures(&self, intended_ns: u64) -> bool {
        intended_ns >= self.measured_from_ns.load(Ordering::Relaxed)
            && intended_ns < self.measured_until_ns.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self, phase: Phase) {
        let now_ns = self.clock.now_ns();
        match phase {
            Phase::WarmUp => {}
            Phase::Measured => self.measured_from_ns.store(now_ns, Ordering::Relaxed),
            Phase::Over => self.measured_until_ns.store(now_ns, Ordering::Relaxed),
        }
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

/// Ends runs early.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<bool>);

/// Lets a run know that it is to end early.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A stop, and the handle that causes it.
    pub fn new() -> (StopHandle, Self) {
        let (sender, receiver) = watch::channel(false);
        (StopHandle(sender), Self(receiver))
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is time to stop; for ever, once the handle is gone.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl StopHandle {
    /// Ends the run.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub duration: Duration,
}

/// What was measured of the time itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) seconds: f64,
    /// Of the system under test, if its process is known.
    pub(super) system: Option<Usage>,
    /// Of this process.
    pub(super) client: Usage,
    pub(super) stopped: bool,
}

/// Takes the stage through its phases: what is measured ends after a time.
pub(super) async fn conduct<E: Error>(
    stage: Arc<Stage>,
    length: Length,
    process_id: Option<u32>,
    stop: Stop,
) -> Result<Span, BenchError<E>> {
    // The timer begins when it is looked at.
    let end = async { tokio::time::sleep(length.duration).await };
    conduct_until(stage, length.warm_up, end, process_id, stop).await
}

/// Takes the stage through its phases: what is measured ends with `end`, which is not looked at before it begins.
pub(super) async fn conduct_until<E: Error>(
    stage: Arc<Stage>,
    warm_up: Duration,
    end: impl Future<Output = ()>,
    process_id: Option<u32>,
    mut stop: Stop,
) -> Result<Span, BenchError<E>> {
    // Even a timer of no time takes until the next tick, in which a stop would still be one of the warm-up.
    if !warm_up.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(warm_up) => {}
            () = stop.wait() => {
                stage.enter(Phase::Over);
                return Err(BenchError::Stopped("during the warm-up"));
            }
        }
    }
    let reading = |process_id| Reading::of(process_id).ok();
    let before = (process_id.and_then(reading), reading(std::process::id()));
    stage.enter(Phase::Measured);
    let begun = Instant::now();
    let stopped = tokio::select! {
        () = end => false,
        () = stop.wait() => true,
    };
    stage.enter(Phase::Over);
    let seconds = begun.elapsed().as_secs_f64();
    let after = (process_id.and_then(reading), reading(std::process::id()));
    let used = |after: Option<Reading>, before: Option<Reading>| Some(after?.since(&before?));
    let client = used(after.1, before.1).unwrap_or_default();
    Ok(Span { seconds, system: used(after.0, before.0), client, stopped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_belongs_to_the_time_it_was_meant_for() {
        let clock = RunClock::start();
        let stage = Stage::new(clock);
        assert!(!stage.measures(clock.now_ns()), "the warm-up is not measured");
        stage.enter(Phase::Measured);
        let during = clock.now_ns();
        assert!(stage.measures(during));
        stage.enter(Phase::Over);
        assert!(stage.measures(during), "however late it comes");
        assert!(!stage.measures(clock.now_ns() + 1));
        assert_eq!(stage.phase(), Phase::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_stopped_says_so() {
        let stage = || Arc::new(Stage::new(RunClock::start()));
        let length = Length { warm_up: Duration::from_secs(1), duration: Duration::from_mins(1) };
        let (handle, stop) = Stop::new();
        let conductor = tokio::spawn(conduct::<std::io::Error>(stage(), length, None, stop.clone()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        handle.stop();
        let span = conductor.await.expect("no panic").expect("something was measured");
        assert!(span.stopped && span.system.is_none());
        let early = conduct::<std::io::Error>(stage(), length, None, stop).await;
        assert!(matches!(early, Err(BenchError::Stopped(_))));
    }
}
