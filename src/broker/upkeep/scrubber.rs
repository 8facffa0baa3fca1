//! Scrubbing in the background: on a thread of its own, of the lowest priority and at a limited rate, all sealed
//! segments are read again, one pass each interval or when somebody asks.
//!
//! What is found goes to the log, to the metrics and to whoever describes the topic. Nothing is changed.

use crate::broker::Broker;
use crate::clock::SharedClock;
use crate::limits::SCRUB_BYTES_PER_SECOND_DEFAULT;
use crate::metrics::Metrics;
use crate::partition::PartitionHandle;
use crate::types::{TimestampMs, TopicPartition};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How often the thread looks whether the next pass is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// No pass has ended yet.
const NEVER: TimestampMs = TimestampMs::MIN;

/// How scrubbing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubOptions {
    /// How fast; 0 = only when somebody asks.
    pub bytes_per_second: u64,
    /// From the end of one pass to the beginning of the next.
    pub interval_ms: u64,
}

/// How far scrubbing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubStatus {
    /// How it is done.
    pub options: ScrubOptions,
    /// Whether a pass is under way.
    pub is_running: bool,
    /// Bytes read since the broker started.
    pub bytes: u64,
    /// When the last pass ended, also of an earlier process; `None` = never.
    pub ended_at_ms: Option<TimestampMs>,
}

/// What the thread and those who ask of it share.
#[derive(Debug)]
pub(in crate::broker) struct Scrubber {
    options: ScrubOptions,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    is_running: AtomicBool,
    bytes: AtomicU64,
    ended_at_ms: AtomicI64,
    wishes: Mutex<Wishes>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Wishes {
    pass: bool,
    stop: bool,
}

impl Scrubber {
    pub(in crate::broker) fn new(
        options: ScrubOptions,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        ended_at_ms: Option<TimestampMs>,
    ) -> Self {
        Self {
            options,
            clock,
            metrics,
            is_running: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            ended_at_ms: AtomicI64::new(ended_at_ms.unwrap_or(NEVER)),
            wishes: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    pub(in crate::broker) fn status(&self) -> ScrubStatus {
        ScrubStatus {
            options: self.options,
            is_running: self.is_running.load(Ordering::Acquire),
            bytes: self.bytes.load(Ordering::Acquire),
            ended_at_ms: self.ended_at_ms(),
        }
    }

    pub(in crate::broker) fn ended_at_ms(&self) -> Option<TimestampMs> {
        Some(self.ended_at_ms.load(Ordering::Acquire)).filter(|ended| *ended != NEVER)
    }

    /// Asks for a pass. `false` if one is under way or asked for.
    fn ask(&self) -> bool {
        let mut wishes = self.wishes();
        let is_new = !wishes.pass && !self.is_running.load(Ordering::Acquire);
        wishes.pass |= is_new;
        self.wake.notify_all();
        is_new
    }

    fn stop(&self) {
        self.wishes().stop = true;
        self.wake.notify_all();
    }

    /// Waits until a pass is due. `false` = the thread must end.
    fn wait_for_pass(&self, broker: &Weak<Broker>) -> bool {
        let mut wishes = self.wishes();
        loop {
            if wishes.stop || broker.strong_count() == 0 {
                return false;
            }
            if wishes.pass || self.is_due() {
                wishes.pass = false;
                self.is_running.store(true, Ordering::Release);
                return true;
            }
            wishes = self.wake.wait_timeout(wishes, LOOK_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_due(&self) -> bool {
        let since_ms = |ended: TimestampMs| u64::try_from(self.clock.now_ms().saturating_sub(ended)).unwrap_or(0);
        let is_over = self.ended_at_ms().is_none_or(|ended| since_ms(ended) >= self.options.interval_ms);
        self.options.bytes_per_second > 0 && is_over
    }

    /// Waits as long as `bytes` may take. `false` = the thread must end.
    fn pace(&self, bytes: u64) -> bool {
        let rate = match self.options.bytes_per_second {
            0 => SCRUB_BYTES_PER_SECOND_DEFAULT,
            rate => rate,
        };
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.metrics.scrubbed(bytes);
        let pause = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
        let waited = self.wake.wait_timeout_while(self.wishes(), pause, |wishes| !wishes.stop);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// One pass over everything there was when it began. `false` = the thread must end.
    fn run_pass(&self, broker: &Weak<Broker>) -> bool {
        // Looked up for each segment, not held: what is deleted meanwhile must not be kept on the disk by a pass that
        // takes days.
        let scrubber_of = |at: &TopicPartition| {
            let topic = broker.upgrade()?.topics.get(&at.topic)?;
            topic.partition(at.partition).ok().map(PartitionHandle::scrubber)
        };
        for at in broker.upgrade().map(|broker| broker.partitions_now()).unwrap_or_default() {
            for base in scrubber_of(&at).map(|scrubber| scrubber.sealed_segments()).unwrap_or_default() {
                let Some(scrubber) = scrubber_of(&at) else { break };
                match scrubber.scrub(base, &mut |bytes| self.pace(bytes)) {
                    Ok(done) if !done.is_complete => return false,
                    Ok(done) => {
                        for range in done.found {
                            tracing::error!(
                                partition = %at, file = %range.path.display(), position = range.position,
                                first_offset = %range.first_offset, next_offset = %range.next_offset, what = range.what,
                                "records on the disk are damaged: restore the file from a copy"
                            );
                        }
                    }
                    Err(error) => tracing::error!(partition = %at, %error, "a segment could not be scrubbed"),
                }
            }
        }
        let now_ms = self.clock.now_ms();
        self.ended_at_ms.store(now_ms, Ordering::Release);
        self.metrics.scrub_ended(now_ms);
        true
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// How far scrubbing is.
    pub fn scrub_status(&self) -> ScrubStatus {
        self.scrubber.status()
    }

    /// How many damaged ranges are known now, of all partitions.
    pub fn damaged_ranges(&self) -> u64 {
        let topics = self.topics.all();
        let partitions = topics.iter().flat_map(|topic| topic.partitions.iter().flatten());
        partitions.map(|partition| partition.damaged().len() as u64).sum()
    }

    /// Begins a pass over all sealed segments now. `false` if one is under way.
    pub fn start_scrub(&self) -> bool {
        self.scrubber.ask()
    }

    /// Starts the thread; it ends when the broker is gone or stops.
    pub(in crate::broker) fn start_scrubber(self: &Arc<Self>) {
        let (broker, scrubber) = (Arc::downgrade(self), Arc::clone(&self.scrubber));
        let started = std::thread::Builder::new().name("scrub".to_owned()).spawn(move || {
            // Of this thread alone. Where it is not allowed, the limited rate has to do.
            let _ = rustix::process::nice(19);
            while scrubber.wait_for_pass(&broker) {
                let is_complete = scrubber.run_pass(&broker);
                scrubber.is_running.store(false, Ordering::Release);
                let remembered = broker.upgrade().filter(|_| is_complete).map(|broker| broker.remember(true));
                if let Some(Err(error)) = remembered {
                    tracing::warn!(%error, "the end of a scrub is not kept for the next start");
                }
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "there is no thread for scrubbing; damage is found when it is read");
        }
        let (scrubber, shutdown) = (Arc::clone(&self.scrubber), self.shutdown.clone());
        tokio::spawn(async move {
            shutdown.draining().await;
            scrubber.stop();
        });
    }

    fn partitions_now(&self) -> Vec<TopicPartition> {
        let topics = self.topics.all();
        topics.iter().flat_map(|topic| (0..topic.entry.partitions).map(|number| topic.at(number))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};

    #[test]
    fn a_pass_is_due_at_first_and_then_once_an_interval() {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let options = ScrubOptions { bytes_per_second: 1, interval_ms: 60_000 };
        let new = |options, ended| Scrubber::new(options, Arc::clone(&clock) as _, Arc::default(), ended);
        let scrubber = new(options, None);
        assert!(scrubber.is_due());
        assert!(scrubber.run_pass(&Weak::new()));
        assert!(!scrubber.is_due());
        clock.advance(59_999);
        assert!(!scrubber.is_due());
        clock.advance(1);
        assert!(scrubber.is_due());
        assert!(!new(options, Some(clock.now_ms())).is_due(), "a restart begins no pass");
        assert!(!new(ScrubOptions { bytes_per_second: 0, ..options }, None).is_due(), "it is off");
    }

    #[test]
    fn a_pass_is_asked_for_once() {
        let options = ScrubOptions { bytes_per_second: 0, interval_ms: 60_000 };
        let scrubber = Scrubber::new(options, Arc::new(ManualClock::new(0)), Arc::default(), None);
        assert!(scrubber.ask());
        assert!(!scrubber.ask());
    }
}
