//! The loop of a reader: until it has seen everything that was acknowledged, or waited long enough for it.

use super::error::BenchError;
use super::latency::Latencies;
use super::stage::{Phase, Stage};
use super::tally::{Counts, Tally};
use super::target::Reader;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What was acknowledged and does not come for this long is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// A reader that waits for records looks up this often, to see whether the run is over.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Bytes that senders may be ahead of the slowest of the readers that are to keep up.
const LAG_BYTES_MAX: u64 = 64 << 20;

/// How many records a reader must see; known when the senders have ended.
#[derive(Debug)]
pub(super) struct Goal(AtomicU64);

impl Goal {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(u64::MAX)))
    }

    pub(super) fn set(&self, records: u64) {
        self.0.store(records, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps senders near their readers, so that what was sent is read while it is still in memory.
#[derive(Debug, Clone)]
pub(super) struct Lag {
    /// Records sent to all readers together, and read by each.
    sent: Arc<AtomicU64>,
    read: Arc<[AtomicU64]>,
    batch_records: u64,
    records_max: u64,
}

impl Lag {
    pub(super) fn new(readers: u32, batch_records: u32, record_bytes: usize) -> Self {
        let batch_records = u64::from(batch_records);
        let records_max = (LAG_BYTES_MAX / record_bytes as u64).max(batch_records * 4);
        Self {
            sent: Arc::default(),
            read: (0..readers).map(|_| AtomicU64::new(0)).collect(),
            batch_records,
            records_max,
        }
    }

    /// Whether senders must wait for a reader.
    pub(super) fn is_too_far(&self) -> bool {
        let slowest = self.read.iter().map(|read| read.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX);
        self.sent.load(Ordering::Relaxed).saturating_sub(slowest) > self.records_max
    }

    /// Counts a block that is sent.
    pub(super) fn sends_block(&self) {
        self.sent.fetch_add(self.batch_records, Ordering::Relaxed);
    }

    fn has_read(&self, reader: usize, records: u64) {
        self.read[reader].store(records, Ordering::Relaxed);
    }
}

/// What one reader has seen.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) who: String,
    pub(super) counts: Counts,
    pub(super) latencies: Option<Latencies>,
}

impl Read {
    pub(super) fn of(who: String, tally: Tally) -> Self {
        Self { who, counts: tally.counts(), latencies: tally.into_latencies() }
    }

    /// Whether it saw every record once, in order, and as many as were acknowledged.
    pub(super) fn check<E: std::error::Error>(&self, acked: u64) -> Result<(), BenchError<E>> {
        check_order(&self.who, &self.counts)?;
        if self.counts.records != acked {
            return Err(BenchError::Miscounted { who: self.who.clone(), acked, found: self.counts.records });
        }
        Ok(())
    }
}

/// Whether records came once, and in order.
pub(super) fn check_order<E: std::error::Error>(who: &str, counts: &Counts) -> Result<(), BenchError<E>> {
    let Counts { lost, repeated, foreign, .. } = *counts;
    if (lost, repeated, foreign) == (0, 0, 0) {
        return Ok(());
    }
    Err(BenchError::Unfaithful { who: who.to_owned(), lost, repeated, foreign })
}

/// Reads until the goal is reached. Ends at the first record that is wrong, and when nothing comes for long.
pub(super) async fn read_all<R: Reader>(
    mut reader: R,
    who: String,
    mut tally: Tally,
    goal: Arc<Goal>,
    lag: Option<(Lag, usize)>,
) -> Result<Read, BenchError<R::Error>> {
    let mut moved_at = Instant::now();
    loop {
        let before = tally.counts().records;
        if before >= goal.get() {
            break;
        }
        // Running out of this time is no error: the loop looks whether there is anything left to wait for.
        if let Ok(read) = tokio::time::timeout(LOOK_UP, reader.read(&mut tally)).await {
            read.map_err(BenchError::system("reading"))?;
        }
        check_order(&who, &tally.counts())?;
        if let Some((lag, place)) = &lag {
            lag.has_read(*place, tally.counts().records);
        }
        if tally.counts().records > before || goal.get() == u64::MAX {
            moved_at = Instant::now();
        } else if moved_at.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(Read::of(who, tally))
}

/// Reads the topic from its beginning while the stage lasts, with readers from `open`, and again from the beginning when
/// all `records` were read.
pub(super) async fn read_over_and_over<R, O>(
    open: impl Fn() -> O + Send,
    records: u64,
    who: String,
    mut tally: Tally,
    stage: Arc<Stage>,
) -> Result<Read, BenchError<R::Error>>
where
    R: Reader,
    O: Future<Output = Result<R, R::Error>> + Send,
{
    while stage.phase() != Phase::Over {
        let mut reader = open().await.map_err(BenchError::system("subscribing"))?;
        tally.restart();
        let end = tally.counts().records + records;
        let mut moved_at = Instant::now();
        while tally.counts().records < end && stage.phase() != Phase::Over {
            let before = tally.counts().records;
            if let Ok(read) = tokio::time::timeout(LOOK_UP, reader.read(&mut tally)).await {
                read.map_err(BenchError::system("reading"))?;
            }
            check_order(&who, &tally.counts())?;
            if tally.counts().records > before {
                moved_at = Instant::now();
            } else if moved_at.elapsed() > PATIENCE {
                let found = tally.counts().records + records - end;
                return Err(BenchError::Miscounted { who, acked: records, found });
            }
        }
    }
    Ok(Read::of(who, tally))
}
