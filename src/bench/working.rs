//! The loop of a worker of a queue, and what the workers have seen together: each message once, and each of them done.
//!
//! Messages come to a worker in no order of its own, so each keeps one bit for every message; the bits are laid over each
//! other when the run is over. The workers share one number, of the acknowledgements that were confirmed.

use super::error::BenchError;
use super::latency::Latencies;
use super::payload::Stamp;
use super::stage::{Phase, RunClock, Stage};
use super::target::Worker;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A queue that gives nothing for this long, with messages that are not done, has lost them.
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker that waits looks up this often, to see whether the run is over.
const LOOK_UP: Duration = Duration::from_millis(50);

/// How far the workers are, and how far they must come.
#[derive(Debug)]
pub(super) struct Progress {
    confirmed: AtomicU64,
    goal: AtomicU64,
    reached: Notify,
}

impl Progress {
    /// `goal`: messages that must be done; `u64::MAX` while that is not known.
    pub(super) fn new(goal: u64) -> Arc<Self> {
        Arc::new(Self { confirmed: AtomicU64::new(0), goal: AtomicU64::new(goal), reached: Notify::new() })
    }

    /// From now on it is known how many messages there are.
    pub(super) fn set_goal(&self, messages: u64) {
        self.goal.store(messages, Ordering::Relaxed);
    }

    /// Ends when all messages are done. For one waiter.
    pub(super) async fn reached(&self) {
        self.reached.notified().await;
    }

    fn add(&self, confirmed: u64) {
        if self.confirmed.fetch_add(confirmed, Ordering::Relaxed) + confirmed >= self.goal.load(Ordering::Relaxed) {
            self.reached.notify_one();
        }
    }

    fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    fn is_reached(&self) -> bool {
        self.confirmed() >= self.goal.load(Ordering::Relaxed)
    }
}

/// What one worker has seen.
#[derive(Debug)]
pub struct WorkTally {
    stage: Arc<Stage>,
    clock: RunClock,
    progress: Arc<Progress>,
    record_bytes: usize,
    /// By sender and partition, a bit for each sequence number.
    seen: HashMap<(u32, u32), Vec<u64>>,
    counts: WorkCounts,
    latencies: Latencies,
}

/// What workers have counted.
#[derive(Debug, Default, Clone, Copy)]
struct WorkCounts {
    /// Messages that came in the measured time.
    measured: u64,
    repeated: u64,
    foreign: u64,
}

impl WorkTally {
    pub(super) fn new(stage: &Arc<Stage>, clock: RunClock, progress: &Arc<Progress>, record_bytes: usize) -> Self {
        Self {
            stage: Arc::clone(stage),
            clock,
            progress: Arc::clone(progress),
            record_bytes,
            seen: HashMap::new(),
            counts: WorkCounts::default(),
            latencies: Latencies::new(),
        }
    }

    /// Takes a message of a partition.
    #[inline]
    pub fn message(&mut self, partition: u32, record: &[u8]) {
        if self.stage.phase() == Phase::Measured {
            self.counts.measured += 1;
        }
        let Some(stamp) = Stamp::of(record).filter(|_| record.len() == self.record_bytes) else {
            self.counts.foreign += 1;
            return;
        };
        let bits = self.seen.entry((stamp.sender, partition)).or_default();
        let (word, bit) = ((stamp.sequence / 64) as usize, 1 << (stamp.sequence % 64));
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        self.counts.repeated += u64::from(bits[word] & bit != 0);
        bits[word] |= bit;
        if self.stage.measures(stamp.intended_ns) {
            self.latencies.record(self.clock.now_ns().saturating_sub(stamp.intended_ns), 1);
        }
    }

    /// So many acknowledgements were confirmed.
    #[inline]
    pub fn confirmed(&mut self, messages: u64) {
        self.progress.add(messages);
    }

    /// Takes over what another worker has seen.
    fn merge(&mut self, other: Self) {
        for (place, bits) in other.seen {
            let mine = self.seen.entry(place).or_default();
            mine.resize(mine.len().max(bits.len()), 0);
            for (mine, bits) in mine.iter_mut().zip(bits) {
                self.counts.repeated += u64::from((*mine & bits).count_ones());
                *mine |= bits;
            }
        }
        self.counts.measured += other.counts.measured;
        self.counts.repeated += other.counts.repeated;
        self.counts.foreign += other.counts.foreign;
        self.latencies.merge(&other.latencies);
    }
}

/// What all workers did.
#[derive(Debug)]
pub(super) struct Worked {
    pub(super) messages_measured: u64,
    pub(super) latencies: Latencies,
}

/// Lays what the workers saw over each other: `messages` there were, and each must have come once.
pub(super) fn worked<E: std::error::Error>(
    tallies: impl IntoIterator<Item = WorkTally>,
    messages: u64,
) -> Result<Option<Worked>, BenchError<E>> {
    let mut tallies = tallies.into_iter();
    let Some(mut all) = tallies.next() else { return Ok(None) };
    tallies.for_each(|tally| all.merge(tally));
    let distinct: u64 = all.seen.values().flatten().map(|word| u64::from(word.count_ones())).sum();
    let (lost, WorkCounts { measured, repeated, foreign, .. }) = (messages.saturating_sub(distinct), all.counts);
    if (lost, repeated, foreign) != (0, 0, 0) {
        return Err(BenchError::Unfaithful { who: "the workers".to_owned(), lost, repeated, foreign });
    }
    Ok(Some(Worked { messages_measured: measured, latencies: all.latencies }))
}

/// Works until everything is done, then leaves.
pub(super) async fn work<W: Worker>(mut worker: W, mut tally: WorkTally) -> Result<WorkTally, BenchError<W::Error>> {
    let progress = Arc::clone(&tally.progress);
    let mut moved = (progress.confirmed(), Instant::now());
    while !progress.is_reached() {
        // Running out of this time is no error: the loop looks whether there is anything left to wait for.
        if let Ok(worked) = tokio::time::timeout(LOOK_UP, worker.work(&mut tally)).await {
            worked.map_err(BenchError::system("working"))?;
        }
        let confirmed = progress.confirmed();
        if confirmed > moved.0 || progress.goal.load(Ordering::Relaxed) == u64::MAX {
            moved = (confirmed, Instant::now());
        } else if moved.1.elapsed() > PATIENCE {
            let acked = progress.goal.load(Ordering::Relaxed);
            return Err(BenchError::Miscounted { who: "done by the workers".to_owned(), acked, found: confirmed });
        }
    }
    worker.leave().await.map_err(BenchError::system("leaving the queue"))?;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::super::payload::BlockBuffer;
    use super::*;
    use std::io::Error;

    fn tally(progress: &Arc<Progress>, sequences: &[u64]) -> WorkTally {
        let clock = RunClock::start();
        let stage = Arc::new(Stage::new(clock));
        stage.enter(Phase::Measured);
        let mut tally = WorkTally::new(&stage, clock, progress, 16);
        let mut buffer = BlockBuffer::new(0, 1, 16);
        for sequence in sequences {
            let intended_ns = clock.now_ns();
            buffer.stamp(*sequence, 1, |_| intended_ns).records().for_each(|record| tally.message(0, record));
        }
        tally
    }

    #[test]
    fn each_message_must_come_to_one_worker_once() {
        let progress = Progress::new(u64::MAX);
        let of = |workers: &[&[u64]], messages| {
            worked::<Error>(workers.iter().map(|sequences| tally(&progress, sequences)), messages)
        };
        let right = of(&[&[0, 3, 70], &[1, 2]], 5).expect("each came once").expect("there are workers");
        assert_eq!((right.messages_measured, right.latencies.count()), (5, 5));
        assert!(matches!(of(&[&[0, 3], &[1, 3, 2]], 4), Err(BenchError::Unfaithful { repeated: 1, lost: 0, .. })));
        assert!(matches!(of(&[&[0, 0]], 1), Err(BenchError::Unfaithful { repeated: 1, .. })));
        assert!(matches!(of(&[&[0], &[2]], 3), Err(BenchError::Unfaithful { lost: 1, repeated: 0, .. })));
    }

    #[tokio::test]
    async fn the_goal_is_reached_when_all_are_confirmed() {
        let progress = Progress::new(3);
        let mut tally = tally(&progress, &[]);
        tally.confirmed(2);
        assert!(!progress.is_reached());
        tally.confirmed(1);
        progress.reached().await;
        assert!(progress.is_reached());
    }
}
