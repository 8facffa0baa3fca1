//! What must hold of a log after power cuts, dying processes and failing disks, tried with random scenarios.
//!
//! A seed is a disk ([`SimFileSystem`]) and a scenario on it; a [`Model`] says what may and what must be there. Replay
//! one with `MILLSTREAM_SEED=17`, run more with `MILLSTREAM_SEEDS=100000`.
//!
//! A crash alone never looks like damage: whatever the disk kept of what was not synced, the log opens, and nothing in
//! it is quarantined.

use crate::storage::context::StorageContext;
use crate::storage::error::StorageError;
use crate::storage::file_system::FileSystem;
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES};
use crate::storage::sim_disk::{Fault, Loss, Random};
use crate::storage::sim_file_system::SimFileSystem;
use crate::types::record_set::{self, encode_record};
use crate::types::{Offset, TopicId};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
const SEEDS_DEFAULT: u64 = 200;
const LIVES: u64 = 4;
const STEPS_MAX: u64 = 40;

type Value = Vec<u8>;

/// What was done to a log, and so what may be found in it.
#[derive(Debug, Default, Clone)]
struct Model {
    /// The value of each record from offset 0 on.
    values: Vec<Value>,
    /// Offsets at which a batch ends.
    ends: BTreeSet<usize>,
    /// Records whose append failed: they may or may not be there, in place of others or behind them.
    refused: Vec<(usize, Value)>,
    /// Everything before this is durable.
    synced: usize,
    /// What the log start was confirmed to be at least, and asked to be at most.
    start_confirmed: u64,
    start_asked: u64,
}

impl Model {
    /// Checks an open log against the model, and takes over which of the uncertain records are there.
    fn check(&mut self, log: &Log) {
        let (start, end) = (log.reader().log_start(), log.next_offset());
        assert_eq!(log.reader().damage(), [], "a crash alone is no damage");
        assert!(start.0 >= self.start_confirmed, "log start {start}, {} was confirmed", self.start_confirmed);
        assert!(start.0 <= self.start_asked, "log start {start}, at most {} was asked", self.start_asked);
        let found_end = index(end.0);
        assert!(found_end >= self.synced, "the log ends at {end}, {} records were synced", self.synced);
        assert!(
            end == start || self.ends.contains(&found_end) || found_end == 0,
            "the log ends at {end}, in the middle of a batch or behind all that was appended"
        );
        let (found, damaged) = self.read(log, start, end);
        assert_eq!(damaged, [], "a crash alone is no damage");
        self.values.resize(found_end, Value::new());
        self.values[index(start.0)..].clone_from_slice(&found);
        self.ends.retain(|known| *known < found_end);
        self.ends.insert(found_end);
        self.refused.clear();
        self.synced = found_end;
        (self.start_confirmed, self.start_asked) = (start.0, start.0);
    }

    /// The values from `start` to `end`, each of them one that may stand there, and the ranges that are damaged.
    fn read(&self, log: &Log, start: Offset, end: Offset) -> (Vec<Value>, Vec<Range<Offset>>) {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        let mut next = start;
        while next < end {
            let batches = match log.reader().read(next, end, 4096) {
                Err(StorageError::Damaged { first_offset, next_offset, .. }) => {
                    assert!(
                        first_offset <= next && next < next_offset,
                        "{next} is not in {first_offset}..{next_offset}"
                    );
                    damaged.push(next..next_offset);
                    next = next_offset;
                    continue;
                }
                read => read.unwrap_or_else(|error| panic!("not readable: {error}")),
            };
            assert!(!batches.is_empty(), "no progress at {next}");
            for batch in batches {
                assert_eq!(batch.base_offset, next, "a gap");
                for (at, record) in (index(next.0)..).zip(record_set::records(&batch.payload)) {
                    let value = record.value.expect("each has one").to_vec();
                    let known = self.values.get(at) == Some(&value) || self.refused.contains(&(at, value.clone()));
                    assert!(known, "the record at {at} was never appended there");
                    found.push(value);
                }
                next = batch.next_offset();
            }
        }
        assert_eq!(next, end);
        (found, damaged)
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("scenarios are short")
}

/// What happened in all scenarios, for the figures.
#[derive(Debug, Default)]
struct Tally {
    operations: u64,
    crashes: u64,
    kills: u64,
    faults: u64,
    refusals: u64,
    records: usize,
}

/// A log on a simulated disk, and what is known of it.
struct Scenario {
    random: Random,
    disk: SimFileSystem,
    directory: PathBuf,
    options: LogOptions,
    now_ms: i64,
    model: Model,
    tally: Tally,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let options = LogOptions { segment_bytes: 4096, seal_age_ms: 50_000, reserve_bytes: 0 };
        let disk = SimFileSystem::new(seed);
        let (model, tally) = (Model::default(), Tally::default());
        let directory = PathBuf::from("/log");
        Self { random: Random::new(!seed), disk, directory, options, now_ms: 1000, model, tally }
    }

    fn open(&self) -> Result<Log, StorageError> {
        let fs: Arc<dyn FileSystem> = Arc::new(self.disk.clone());
        // One file may be open: each is closed for the next as soon as that is allowed.
        Log::open(StorageContext::new(fs, 1), &self.directory, ID, self.options).map(|(log, _)| log)
    }

    /// Opens the log where nothing may be in the way of that, and checks it, twice.
    fn reopen(&mut self) -> Log {
        let log = self.open().unwrap_or_else(|error| panic!("does not open: {error}"));
        self.model.check(&log);
        let before = (log.reader().log_start(), log.next_offset());
        drop(log);
        let log = self.open().unwrap_or_else(|error| panic!("does not open a second time: {error}"));
        assert_eq!((log.reader().log_start(), log.next_offset()), before, "recovering twice is recovering once");
        self.model.check(&log);
        log
    }

    /// Whether an error can be explained by what was done to the disk.
    fn is_explained(&self) -> bool {
        self.disk.is_stopped() || self.disk.happened().is_some()
    }

    fn explain<T>(&self, result: Result<T, StorageError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(self.is_explained(), "an error without a cause: {error}");
                None
            }
        }
    }

    /// The life of one process, up to a power cut, and the log after it.
    fn live(&mut self, log: Option<Log>) -> Log {
        let mut log = log;
        let soon = self.disk.operations() + 1 + self.random.below(60);
        match self.random.below(8) {
            0 => self.disk.plan(soon, Fault::Io),
            1 => self.disk.plan(soon, Fault::Full),
            2 => self.disk.plan(soon, Fault::ShortWrite),
            3 => self.disk.plan(soon, Fault::Sync),
            _ => self.disk.stop_at(Some(soon)),
        }
        for _ in 0..self.random.below(STEPS_MAX) {
            log = match log {
                Some(log) => self.step(log),
                None => self.explain(self.open()).inspect(|log| self.model.check(log)),
            };
            if self.disk.is_stopped() {
                break;
            }
        }
        self.power_cut()
    }

    fn power_cut(&mut self) -> Log {
        let loss = if self.random.percent(60) { Loss::Ordered } else { Loss::AnyOrder };
        self.tally.crashes += 1;
        self.tally.faults += u64::from(self.disk.happened().is_some());
        self.disk = self.disk.crash(loss);
        if self.random.percent(30) {
            // The next power cut comes while the log recovers from this one.
            self.disk.stop_at(Some(self.disk.operations() + 1 + self.random.below(6)));
            let _ = self.open();
            self.tally.crashes += 1;
            self.disk = self.disk.crash(Loss::Ordered);
        }
        self.reopen()
    }

    /// One thing that a broker does with a log. `None` if the log has to be opened again.
    fn step(&mut self, mut log: Log) -> Option<Log> {
        self.now_ms += i64::try_from(self.random.below(20_000)).expect("small");
        match self.random.below(100) {
            0..=49 => self.append(&mut log),
            50..=69 => {
                let synced = log.sync();
                log.prepare_ahead();
                if self.explain(synced).is_some() {
                    self.model.synced = self.model.values.len();
                    let synced = self.model.synced;
                    self.model.refused.retain(|(at, _)| *at >= synced);
                }
            }
            70..=74 => drop(self.explain(log.seal_if_old(self.now_ms))),
            75..=81 => {
                let keeper = log.keeper();
                self.explain(keeper.sync_sealed().and_then(|()| keeper.checkpoint_active(1)));
            }
            82..=87 => {
                let span = log.next_offset().0 + 1 - self.model.start_confirmed;
                let offset = Offset(self.model.start_confirmed + self.random.below(span));
                self.model.start_asked = self.model.start_asked.max(offset.0);
                if let Some(start) = self.explain(log.keeper().delete_before(offset)) {
                    assert!(start >= offset, "deleted up to {start} only");
                    self.model.start_confirmed = self.model.start_confirmed.max(offset.0);
                }
            }
            88..=91 => {
                self.options.segment_bytes = 1000 + self.random.below(20_000);
                log.set_options(self.options);
            }
            92..=95 => {
                let next_offset = index(log.next_offset().0);
                if self.explain(log.close()).is_some() {
                    self.model.synced = next_offset;
                }
                return None;
            }
            _ => return self.kill(log),
        }
        Some(log)
    }

    /// The process dies: what was written is still there, unless a sync failed. Then memory holds what the disk does
    /// not, and the next start must not believe it.
    fn kill(&mut self, log: Log) -> Option<Log> {
        drop(log);
        self.tally.kills += 1;
        let synced = self.model.synced;
        if self.disk.happened() != Some(Fault::Sync) {
            self.model.synced = self.model.values.len();
        }
        let Some(log) = self.explain(self.open()) else {
            self.model.synced = synced;
            return None;
        };
        self.model.check(&log);
        Some(log)
    }

    fn append(&mut self, log: &mut Log) {
        let first = self.model.values.len();
        let mut batches = Vec::new();
        let mut values = Vec::new();
        for _ in 0..=self.random.below(4) {
            let count = 1 + self.random.below(5);
            let len_max = if self.random.percent(10) { 5000 } else { 400 };
            let len = 8 + self.random.below(len_max);
            let batch_values: Vec<Value> = (0..count).map(|_| self.value(index(len))).collect();
            batches.push(batch_of(&batch_values));
            values.push(batch_values);
        }
        assert!(first <= index(log.next_offset().0), "the log is behind the model");
        let outcome = log.append(&batches, self.now_ms);
        let mut refused_from = first + values.iter().take(outcome.results.len()).map(Vec::len).sum::<usize>();
        for (at, batch_values) in values.into_iter().enumerate() {
            if let Some(base) = outcome.base_offsets().get(at) {
                assert_eq!(index(base.0), self.model.values.len(), "offsets are dense");
                self.model.values.extend(batch_values);
                self.model.ends.insert(self.model.values.len());
            } else {
                let base = refused_from;
                refused_from += batch_values.len();
                self.model.ends.insert(refused_from);
                self.model.refused.extend((base..).zip(batch_values));
            }
        }
        if self.random.percent(50) {
            log.prepare_ahead();
        }
        if let Some(error) = outcome.error {
            assert!(self.is_explained(), "an append failed without a cause: {error}");
        }
        self.tally.records += self.model.values.len() - first;
    }

    fn value(&mut self, len: usize) -> Value {
        let mut value = self.random.next().to_le_bytes().to_vec();
        value.resize(len.max(8), u8::try_from(self.random.below(256)).expect("a byte"));
        value
    }
}

fn batch_of(values: &[Value]) -> NewBatch {
    let mut set = BytesMut::new();
    for value in values {
        encode_record(&mut set, None, Some(value), std::iter::empty(), None);
    }
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

/// Runs a scenario for each seed, or for the one asked for, and says which of them fail.
fn for_each_seed(default: u64, run: impl Fn(u64) -> Tally) -> Tally {
    let asked = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (first, count) = match asked("MILLSTREAM_SEED") {
        Some(seed) => (seed, 1),
        None => (0, asked("MILLSTREAM_SEEDS").unwrap_or(default)),
    };
    let mut sum = Tally::default();
    let mut failing = Vec::new();
    for seed in first..first + count {
        let Ok(tally) = catch_unwind(AssertUnwindSafe(|| run(seed))) else {
            println!("that was MILLSTREAM_SEED={seed}");
            failing.push(seed);
            continue;
        };
        sum.operations += tally.operations;
        sum.crashes += tally.crashes;
        sum.kills += tally.kills;
        sum.faults += tally.faults;
        sum.refusals += tally.refusals;
        sum.records += tally.records;
    }
    println!("{count} seeds: {sum:?}");
    let replay = failing.first();
    assert!(failing.is_empty(), "{} of {count} seeds fail; replay with MILLSTREAM_SEED={replay:?}", failing.len());
    sum
}

#[test]
fn what_was_synced_survives_every_power_cut_and_nothing_else_appears() {
    let tally = for_each_seed(SEEDS_DEFAULT, |seed| {
        let mut scenario = Scenario::new(seed);
        let mut log = None;
        for _ in 0..LIVES {
            log = Some(scenario.live(log));
            scenario.tally.operations += scenario.disk.operations();
        }
        scenario.tally
    });
    assert!(tally.crashes > 0, "the test is about power cuts");
}

/// One scenario, cut off at each of its operations in turn.
#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    let tally = for_each_seed(2, |seed| {
        let mut sum = Tally::default();
        for operation in 1.. {
            let mut scenario = Scenario::new(seed);
            scenario.disk.stop_at(Some(operation));
            let mut log = scenario.explain(scenario.open());
            for _ in 0..STEPS_MAX {
                log = match log {
                    Some(log) => scenario.step(log),
                    None => scenario.explain(scenario.open()),
                };
            }
            let is_over = !scenario.disk.is_stopped();
            drop(scenario.power_cut());
            sum.crashes += scenario.tally.crashes;
            if is_over {
                break;
            }
        }
        sum
    });
    assert!(tally.crashes > 0, "the test is about power cuts");
}

/// Damage that no crash explains: it is named, costs the batch it is in (the segment, if it is in its header), and
/// everything else is there; never other records, never fewer than were synced. Only the header of the last segment
/// takes the whole log offline, until it is repaired.
#[test]
fn a_flipped_bit_never_shows_as_other_records() {
    for_each_seed(SEEDS_DEFAULT, |seed| {
        let mut scenario = Scenario::new(seed);
        let mut log = scenario.explain(scenario.open());
        for _ in 0..STEPS_MAX {
            log = match log {
                Some(log) => scenario.step(log),
                None => scenario.explain(scenario.open()),
            };
        }
        drop(log);
        // What was synced last has no witness until a later frame or a checkpoint says so; an open log leaves one.
        let has_witness = seed % 2 == 0;
        if has_witness {
            scenario.model.synced = index(scenario.open().expect("nothing is wrong yet").next_offset().0);
        }
        let files = scenario.disk.files();
        let at = index(scenario.random.below(files.len().max(1) as u64));
        let Some((path, bytes)) = files.iter().filter(|(_, bytes)| !bytes.is_empty()).nth(at) else {
            return scenario.tally;
        };
        let bit = index(scenario.random.below(bytes.len() as u64 * 8));
        scenario.disk.flip_bit(path, bit);
        let is_in_header = bit / 8 < SEGMENT_HEADER_BYTES && path.extension().is_some_and(|kind| kind == "log");
        match scenario.open() {
            Err(StorageError::Corrupt { .. }) if is_in_header => scenario.tally.refusals += 1,
            Err(error) => panic!("does not open: {error}"),
            Ok(log) => {
                let (start, end) = (log.reader().log_start(), log.next_offset());
                let (_, damaged) = scenario.model.read(&log, start, end);
                let torn = scenario.disk.files().keys().any(|path| path.to_string_lossy().contains(".torn-"));
                assert!(index(end.0) >= scenario.model.synced || torn && !has_witness, "synced records were cut");
                assert!(damaged.len() <= 1, "one bit damaged {damaged:?}");
                let is_one_batch = |range: &Range<Offset>| {
                    let ends = &scenario.model.ends;
                    ends.range(index(range.start.0) + 1..=index(range.end.0)).count() <= 1
                };
                assert!(is_in_header || damaged.iter().all(is_one_batch), "one bit damaged {damaged:?}");
            }
        }
        scenario.tally
    });
}
