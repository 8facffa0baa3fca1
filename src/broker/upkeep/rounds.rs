//! What goes on in the background: segments are sealed by age, synced, and deleted by retention, as long as the clock
//! can be believed; groups that lost records by it are told of.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::upkeep::clock_watch::{ClockReading, ClockTurn, ClockWatch};
use crate::broker::upkeep::dead_groups::forget_dead_groups;
use crate::broker::upkeep::expired::{Expired, tell_of_unread};
use crate::broker::upkeep::memory::UpkeepMemory;
use crate::clock::{Clock, advanced};
use crate::limits;
use crate::storage::file_system::FileSystem;
use crate::types::TimestampMs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// What upkeep remembers is stored this often, as far as nothing happens. After the machine was off, a clock that is
/// further behind than this and an hour is noticed.
const REMEMBER_INTERVAL_MS: i64 = 600_000;

/// How the broker's clock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStatus {
    /// Whether retention by time is suspended.
    pub retention_suspended: bool,
    /// How far the time of day is from what it should be; negative = it is behind.
    pub off_by_ms: i64,
}

/// The state of upkeep.
#[derive(Debug)]
pub(in crate::broker) struct Upkeep {
    /// Never held while the disk is waited for.
    clock_watch: Mutex<ClockWatch>,
    boot_id: String,
    /// What was stored last; held while it is stored.
    stored: Mutex<Option<UpkeepMemory>>,
    path: PathBuf,
}

impl Upkeep {
    /// Takes up what the last process left at `path`.
    pub(in crate::broker) fn load(fs: &dyn FileSystem, path: &Path, clock: &dyn Clock) -> Self {
        let stored = UpkeepMemory::load(fs, path);
        let boot_id = clock.boot_id();
        let memory = stored.as_ref().map(|stored| &stored.clock);
        let clock_watch = Mutex::new(ClockWatch::start(read(clock), &boot_id, memory));
        Self { clock_watch, boot_id, stored: Mutex::new(stored), path: path.into() }
    }

    /// When the last scrub ended that an earlier process knew of.
    pub(in crate::broker) fn scrubbed_at_ms(&self) -> Option<TimestampMs> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.scrubbed_at_ms
    }

    fn clock_watch(&self) -> MutexGuard<'_, ClockWatch> {
        self.clock_watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(clock: &dyn Clock) -> ClockReading {
    ClockReading { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() }
}

impl Broker {
    /// Looks after every partition each `interval`, until the broker is gone or stops.
    pub fn start_upkeep(self: &Arc<Self>, interval: Duration) {
        self.start_compaction(interval);
        self.start_disk_watch();
        self.start_scrubber();
        let broker = Arc::downgrade(self);
        let shutdown = self.shutdown.clone();
        let mut advances = self.clock.advances();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = advanced(&mut advances) => {}
                    () = shutdown.draining() => return,
                }
                let round_of = Weak::clone(&broker);
                // A round that panics must not end retention for good; the panic itself is reported by its hook.
                let round = tokio::task::spawn_blocking(move || round_of.upgrade().map(|broker| broker.keep_all()));
                let (expired, now_ms) = match round.await {
                    Ok(None) => return,
                    Ok(Some(round)) => round,
                    Err(_) => (Vec::new(), None),
                };
                let Some((groups, metrics, keep_ms)) = broker
                    .upgrade()
                    .map(|b| (b.groups().ok().cloned(), Arc::clone(&b.metrics), b.options.group_offsets_retention_ms))
                else {
                    return;
                };
                if let (Some(groups), Some(now_ms)) = (&groups, now_ms.filter(|_| keep_ms > 0)) {
                    forget_dead_groups(groups, &metrics, now_ms, keep_ms).await;
                }
                tell_of_unread(groups, metrics, expired).await;
            }
        });
    }

    /// Lets time pass at once, on a clock for tests. Gives the new time of day.
    pub fn advance_clock(&self, ms: u64) -> Result<TimestampMs, BrokerError> {
        if ms > limits::CLOCK_ADVANCE_MS_MAX {
            let what = format!("{ms} ms are more than {}", limits::CLOCK_ADVANCE_MS_MAX);
            return Err(BrokerError::invalid("advance_ms", what));
        }
        let now_ms = self.clock.advance_by(ms).ok_or(BrokerError::ClockNotManual)?;
        tracing::info!(ms, "the clock was moved forward by hand");
        Ok(now_ms)
    }

    /// One round over all partitions. Gives what was deleted and is not told yet, and the time if it can be believed.
    fn keep_all(&self) -> (Vec<Expired>, Option<TimestampMs>) {
        let begun = Instant::now();
        let now_ms = self.watch_clock();
        let mut expired = Vec::new();
        for topic in self.topics.all() {
            for (number, partition) in (0..).zip(&topic.partitions) {
                let Ok(partition) = partition else { continue };
                match partition.keep(now_ms) {
                    Ok(None) => {}
                    Ok(Some(log_start)) => {
                        tracing::info!(partition = %topic.at(number), %log_start, "retention deleted old segments");
                    }
                    Err(error) => tracing::error!(partition = %topic.at(number), %error, "upkeep failed"),
                }
                expired.extend(topic.take_expired(number));
            }
        }
        self.metrics.upkept(begun.elapsed());
        if !expired.is_empty() {
            self.disk.look();
        }
        (expired, now_ms)
    }

    /// The time of day if it can be believed, so that retention and the grace time of tombstones may go by it.
    pub(in crate::broker) fn watch_clock(&self) -> Option<TimestampMs> {
        let now = read(&*self.clock);
        let mut watch = self.upkeep.clock_watch();
        let (turn, suspended) = (watch.observe(now), watch.is_suspended());
        drop(watch);
        self.metrics.set_retention_suspended(suspended);
        match turn {
            Some(ClockTurn::Jumped { off_by_ms }) => tracing::warn!(
                off_by_ms,
                "the clock jumped: retention by time is suspended until it is set right, or until somebody says that \
                 it is right: millstream broker confirm-clock"
            ),
            Some(ClockTurn::Returned) => tracing::warn!("the clock is right again: retention by time goes on"),
            None => {}
        }
        if let Err(error) = self.remember(turn.is_some()) {
            tracing::warn!(%error, "the time is not kept for the next start");
        }
        (!suspended).then_some(now.wall_ms)
    }

    /// How the clock stands.
    pub fn clock_status(&self) -> ClockStatus {
        let watch = self.upkeep.clock_watch();
        ClockStatus { retention_suspended: watch.is_suspended(), off_by_ms: watch.off_by_ms(read(&*self.clock)) }
    }

    /// Takes the present time for right: retention by time goes on.
    pub fn confirm_clock(&self) -> Result<ClockStatus, BrokerError> {
        let before = self.clock_status();
        self.upkeep.clock_watch().confirm(read(&*self.clock));
        self.metrics.set_retention_suspended(false);
        tracing::warn!(off_by_ms = before.off_by_ms, "an operator confirmed the clock: retention by time goes on");
        self.blocking(|| self.remember(true))?;
        Ok(before)
    }

    /// Stores what the next process should know, if it is `news` or the last time is long ago.
    pub(in crate::broker) fn remember(&self, news: bool) -> Result<(), crate::storage::StorageError> {
        let clock = self.upkeep.clock_watch().memory(read(&*self.clock), &self.upkeep.boot_id);
        let mut stored = self.upkeep.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = stored.as_ref().is_some_and(|stored| {
            let age_ms = clock.wall_ms.saturating_sub(stored.clock.wall_ms);
            age_ms < REMEMBER_INTERVAL_MS && stored.clock.boot_id == clock.boot_id
        });
        if is_fresh && !news {
            return Ok(());
        }
        let memory = UpkeepMemory::new(clock, self.scrubber.ended_at_ms());
        memory.store(&*self.fs, &self.upkeep.path)?;
        *stored = Some(memory);
        Ok(())
    }
}
