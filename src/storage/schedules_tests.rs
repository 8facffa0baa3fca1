//! What must hold in every order of the threads, tried with thousands of orders: see `crate::sync`.
//!
//! Run by `.ci/schedules`. A scenario is small, so that a schedule takes well under a millisecond; how many are tried
//! of each kind is `MILLSTREAM_SCHEDULES`. A schedule that fails is printed, and `shuttle::replay` runs it again. A wait
//! that never ends shows as a deadlock.

use crate::clock::ManualClock;
use crate::partition::{AppendAck, AppendError, PartitionHandle, PartitionOptions, PendingAppend, StoragePool};
use crate::storage::error::StorageError;
use crate::storage::file_system::FileSystem;
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::reader::{LogReader, StoredBatch};
use crate::storage::retention::RetentionPolicy;
use crate::storage::segment::header::LogId;
use crate::storage::sim_disk::{Fault, Loss};
use crate::storage::sim_file_system::SimFileSystem;
use crate::sync::thread;
use crate::types::record_set::{self, encode_record};
use crate::types::{Durability, Offset, TopicId};
use bytes::BytesMut;
use futures_util::FutureExt as _;
use shuttle::future::block_on;
use shuttle::rand::Rng as _;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SCHEDULES_DEFAULT: usize = 2_000;
/// Changes of priority in one PCT schedule: bugs that take more than that many are left to the random ones.
const PCT_DEPTH: usize = 3;
const DIRECTORY: &str = "/log";

/// Two or three batches.
const SEGMENT_BYTES: u64 = 400;
const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };

/// Tries `scenario` in many orders of its threads.
fn explore(name: &str, scenario: fn()) {
    let asked = std::env::var("MILLSTREAM_SCHEDULES").ok();
    let schedules = asked.map_or(SCHEDULES_DEFAULT, |text| text.parse().expect("MILLSTREAM_SCHEDULES is a number"));
    run(name, "random", RandomScheduler::new(schedules), scenario);
    run(name, "PCT", PctScheduler::new(PCT_DEPTH, schedules), scenario);
}

fn run(name: &str, kind: &str, scheduler: impl Scheduler + 'static, scenario: fn()) {
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = Count { name: name.to_owned(), kind: kind.to_owned(), begun: Arc::clone(&begun) };
    Runner::new(scheduler, Config::new()).run(move || {
        begun.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    drop(counter);
}

/// Prints its figure also when a schedule fails: that is how many it took.
struct Count {
    name: String,
    kind: String,
    begun: Arc<AtomicUsize>,
}

impl Drop for Count {
    fn drop(&mut self) {
        let (begun, how) =
            (self.begun.load(Ordering::Relaxed), if std::thread::panicking() { "; the last one fails" } else { "" });
        println!("schedules: {}: {begun} {}{how}", self.name, self.kind);
    }
}

/// A partition on a simulated disk, with threads that work for it.
struct Stage {
    disk: SimFileSystem,
    pool: StoragePool,
    partition: PartitionHandle,
}

impl Stage {
    fn open(durability: Durability) -> Self {
        Self::open_with(durability, SEGMENT_BYTES)
    }

    fn open_with(durability: Durability, segment_bytes: u64) -> Self {
        let disk = SimFileSystem::new(shuttle::rand::thread_rng().r#gen());
        let options = PartitionOptions {
            log: LogOptions { segment_bytes, seal_age_ms: 1000, reserve_bytes: 0 },
            durability,
            retention: RetentionPolicy { retention_ms: 0, retention_bytes: 0 },
            compaction: None,
        };
        let pool = StoragePool::start(2).expect("threads start");
        let clock = Arc::new(ManualClock::new(1));
        let log = open(&disk, options.log);
        let partition = PartitionHandle::new(log, options, &pool, clock, Arc::default());
        Self { disk, pool, partition }
    }

    /// Lets the threads of the pool end, and opens what the partition left behind.
    fn reopen(self) -> BTreeMap<Offset, Vec<u8>> {
        let Self { disk, pool, partition } = self;
        drop((partition, pool));
        values_of(&disk)
    }
}

fn open(disk: &SimFileSystem, options: LogOptions) -> Log {
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    Log::open(fs, Path::new(DIRECTORY), ID, options).unwrap_or_else(|error| panic!("does not open: {error}")).0
}

/// The records of the log on `disk`, by offset.
fn values_of(disk: &SimFileSystem) -> BTreeMap<Offset, Vec<u8>> {
    let log = open(disk, LogOptions { segment_bytes: SEGMENT_BYTES, seal_age_ms: 1000, reserve_bytes: 0 });
    let mut next = log.reader().log_start();
    let mut values = BTreeMap::new();
    while next < log.next_offset() {
        for batch in log.reader().read(next, log.next_offset(), 1 << 20).expect("readable") {
            next = batch.next_offset();
            values.extend(records_of(&batch));
        }
    }
    values
}

fn records_of(batch: &StoredBatch) -> Vec<(Offset, Vec<u8>)> {
    let value = |record: record_set::Record| record.value.expect("each has one").to_vec();
    (0..).zip(record_set::records(&batch.payload)).map(|(i, r)| (batch.base_offset.advance(i), value(r))).collect()
}

/// A batch of one record that says who sent it and as which.
fn batch_of(producer: u8, number: u8) -> NewBatch {
    let mut set = BytesMut::new();
    encode_record(&mut set, None, Some(&[&[producer, number][..], &[7; 60]].concat()), std::iter::empty(), None);
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

fn value_of(producer: u8, number: u8) -> Vec<u8> {
    [&[producer, number][..], &[7; 60]].concat()
}

type Answers = Vec<(Vec<u8>, Result<AppendAck, AppendError>)>;

/// Appends `count` batches without waiting, then waits for the last: those before it must be answered by then, unless
/// the last was refused at the door.
fn produce(partition: &PartitionHandle, producer: u8, count: u8, durability: Option<Durability>) -> Answers {
    let send = |number| partition.append(batch_of(producer, number), durability, None);
    let mut pending: Vec<PendingAppend> = (0..count).map(send).collect();
    let last = pending.pop().map(block_on);
    let is_refused = matches!(last, Some(Err(AppendError::Closed)));
    let before = pending.into_iter().map(|answer| match is_refused {
        true => block_on(answer),
        false => answer.now_or_never().expect("answers come in order"),
    });
    let answers = before.chain(last);
    (0..count).zip(answers).map(|(number, answer)| (value_of(producer, number), answer)).collect()
}

/// Looks at the partition a few times: what is shown never goes back, is readable, and survives a power cut.
fn look(partition: &PartitionHandle, disk: &SimFileSystem) {
    let mut shown = Offset::ZERO;
    for _ in 0..3 {
        let batches = block_on(partition.read(partition.offsets().log_start, 1 << 20)).expect("readable");
        let seen = batches.last().map_or(Offset::ZERO, StoredBatch::next_offset);
        let watermark = partition.high_watermark();
        assert!(watermark >= shown.max(seen), "{watermark} is shown, after {shown} was, and {seen} was read");
        shown = watermark;
        let left = values_of(&disk.crash(Loss::Ordered));
        assert!(left.len() as u64 >= shown.0, "{} records survive a power cut, {shown} were shown", left.len());
        for (offset, value) in batches.iter().flat_map(records_of) {
            assert_eq!(left.get(&offset), Some(&value), "what was read is what is on disk");
        }
        thread::yield_now();
    }
}

/// Everything that was acknowledged is at its offset, and nothing else is there but what is unknown.
fn check_answers(answers: &Answers, left: &BTreeMap<Offset, Vec<u8>>) {
    let mut acknowledged = 0;
    let mut unknown = 0;
    for (value, answer) in answers {
        match answer {
            Ok(ack) => {
                assert_eq!(
                    left.get(&ack.appended.base_offset),
                    Some(value),
                    "it was acknowledged at {}",
                    ack.appended.base_offset
                );
                acknowledged += 1;
            }
            Err(AppendError::OutcomeUnknown(_)) => unknown += 1,
            Err(AppendError::Refused(_) | AppendError::Denied(_) | AppendError::Closed) => {
                assert!(left.values().all(|found| found != value), "what was refused is not there");
            }
        }
    }
    assert!((acknowledged..=acknowledged + unknown).contains(&left.len()), "nothing is there twice");
}

fn two_producers_and_a_reader() {
    let stage = Stage::open(Durability::Synced);
    let producers: Vec<_> = (0..2)
        .map(|producer| {
            let partition = stage.partition.clone();
            thread::spawn(move || produce(&partition, producer, 3, None))
        })
        .collect();
    let (partition, disk) = (stage.partition.clone(), stage.disk.clone());
    let reader = thread::spawn(move || look(&partition, &disk));
    let answers: Answers = producers.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
    reader.join().expect("it ends");
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(stage.partition.high_watermark(), Offset(6));
    let disk = stage.disk.crash(Loss::Ordered);
    check_answers(&answers, &values_of(&disk));
    check_answers(&answers, &stage.reopen());
}

#[test]
fn readers_see_only_what_survives_a_power_cut() {
    explore("two producers, a reader", two_producers_and_a_reader);
}

fn written_and_synced_requests() {
    let stage = Stage::open(Durability::Written);
    let threads = [None, Some(Durability::Synced)].map(|durability| {
        let (partition, disk) = (stage.partition.clone(), stage.disk.clone());
        thread::spawn(move || {
            let producer = u8::from(durability.is_some());
            let answers = produce(&partition, producer, 2, durability);
            if durability == Some(Durability::Synced) {
                check_survivors(&answers, &values_of(&disk.crash(Loss::Ordered)));
            }
            answers
        })
    });
    let answers: Answers = threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
    check_answers(&answers, &stage.reopen());
}

/// Small ones are written by whoever waits for them, or by storage threads, and some by nobody who waits.
fn small_appends_before_a_close() {
    // One segment: whoever begins one is a storage thread.
    let stage = Stage::open_with(Durability::Written, 1 << 20);
    block_on(stage.partition.append(batch_of(2, 0), None, None)).expect("the disk is well");
    let waiting = [0, 1].map(|producer| {
        let partition = stage.partition.clone();
        thread::spawn(move || produce(&partition, producer, 2, None))
    });
    let going = stage.partition.clone();
    let going = thread::spawn(move || (1..3).for_each(|number| drop(going.append(batch_of(2, number), None, None))));
    let answers: Answers = waiting.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
    going.join().expect("it ends");
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
    block_on(stage.partition.close()).expect("it closes");
    let (unwaited, waited): (BTreeMap<_, _>, BTreeMap<_, _>) =
        stage.reopen().into_iter().partition(|(_, value)| value[0] == 2);
    assert_eq!(
        unwaited.into_values().collect::<Vec<_>>(),
        (0..3).map(|number| value_of(2, number)).collect::<Vec<_>>()
    );
    check_answers(&answers, &waited);
}

/// It is written before anybody closes the partition, though nobody asks for it.
fn an_append_and_nothing_else() {
    let stage = Stage::open(Durability::Written);
    drop(stage.partition.append(batch_of(0, 0), None, None));
    drop(stage.partition.append(batch_of(0, 1), None, None));
    assert_eq!(stage.reopen().len(), 2);
}

#[test]
fn what_nobody_waits_for_is_written_and_what_somebody_waits_for_is_answered() {
    explore("small appends before a close", small_appends_before_a_close);
    explore("an append and nothing else", an_append_and_nothing_else);
}

/// Of these, each was acknowledged as synced and is there.
fn check_survivors(answers: &Answers, left: &BTreeMap<Offset, Vec<u8>>) {
    for (value, answer) in answers {
        let ack = answer.as_ref().expect("the disk is well");
        assert_eq!(ack.durability, Durability::Synced);
        assert_eq!(
            left.get(&ack.appended.base_offset),
            Some(value),
            "it was acknowledged as synced at {}",
            ack.appended.base_offset
        );
    }
}

#[test]
fn an_answer_is_never_ahead_of_the_durability_it_states() {
    explore("written and synced requests", written_and_synced_requests);
}

fn appends_while_closing() {
    let stage = Stage::open(Durability::Synced);
    let partition = stage.partition.clone();
    let producer = thread::spawn(move || produce(&partition, 0, 3, None));
    let partition = stage.partition.clone();
    let closer = thread::spawn(move || block_on(partition.close()).expect("it closes"));
    let answers = producer.join().expect("it ends");
    closer.join().expect("it ends");
    let is_refused = |answer: &Result<_, _>| matches!(answer, Err(AppendError::Closed));
    let first_refused = answers.iter().position(|(_, answer)| is_refused(answer)).unwrap_or(answers.len());
    assert!(answers[..first_refused].iter().all(|(_, answer)| answer.is_ok()), "in order: {answers:?}");
    assert!(answers[first_refused..].iter().all(|(_, answer)| is_refused(answer)), "in order: {answers:?}");
    check_answers(&answers, &stage.reopen());
}

#[test]
fn an_append_that_meets_a_close_is_answered_and_kept_or_refused() {
    explore("appends while closing", appends_while_closing);
}

fn a_sync_that_fails() {
    let stage = Stage::open(Durability::Synced);
    let operation = stage.disk.operations() + shuttle::rand::thread_rng().gen_range(1..12);
    stage.disk.plan(operation, Fault::Sync);
    let producers = [0, 1].map(|producer| {
        let partition = stage.partition.clone();
        thread::spawn(move || produce(&partition, producer, 3, None))
    });
    let partition = stage.partition.clone();
    let upkeep = thread::spawn(move || {
        // It may meet the failure, or its consequences.
        let _ = partition.keep(Some(0));
        let _ = partition.keep(Some(0));
    });
    let answers: Answers = producers.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
    upkeep.join().expect("it ends");
    let shown = stage.partition.high_watermark();
    let left = values_of(&stage.disk.crash(Loss::Ordered));
    assert!(left.len() as u64 >= shown.0, "{} records survive a power cut, {shown} were shown", left.len());
    check_answers(&answers, &left);
}

#[test]
fn after_a_failed_sync_everyone_is_answered_and_nobody_is_told_too_much() {
    explore("a sync that fails", a_sync_that_fails);
}

const SMALL: LogOptions = LogOptions { segment_bytes: SEGMENT_BYTES, seal_age_ms: 50, reserve_bytes: 0 };

/// Reads all there is a few times, while segments come and go.
fn read_beside(reader: &LogReader) {
    for _ in 0..4 {
        let (start, end) = (reader.log_start(), reader.log_end());
        match reader.read(start, end, 1 << 20) {
            Ok(batches) => {
                assert_eq!(batches.is_empty(), start == end, "from {start} to {end}");
                let mut next = start;
                for (offset, value) in batches.iter().flat_map(records_of) {
                    assert_eq!(offset, next, "without a gap");
                    let number = u8::try_from(offset.0).expect("few records");
                    assert_eq!(value, value_of(0, number), "the record that was appended at {offset}");
                    next = next.advance(1);
                }
            }
            Err(StorageError::OutOfRange { .. }) => assert!(reader.log_start() > start, "it was there before"),
            Err(error) => panic!("{error}"),
        }
        thread::yield_now();
    }
}

fn segments_come_and_go() {
    let disk = SimFileSystem::new(shuttle::rand::thread_rng().r#gen());
    let mut log = open(&disk, SMALL);
    let readers = [log.reader(), log.reader()].map(|reader| thread::spawn(move || read_beside(&reader)));
    let (keeper, reader) = (log.keeper(), log.reader());
    let keeper = thread::spawn(move || {
        for _ in 0..3 {
            keeper.sync_sealed().expect("the disk is well");
            let end = reader.log_end();
            keeper.delete_before(Offset(end.0.saturating_sub(2))).expect("the disk is well");
        }
    });
    for number in 0..8 {
        let now_ms = i64::from(number) * 20;
        let outcome = log.append(&[batch_of(0, number)], now_ms);
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        if number % 3 == 2 {
            log.sync().expect("the disk is well");
        }
        log.seal_if_old(now_ms + 20).expect("the disk is well");
    }
    readers.into_iter().for_each(|thread| thread.join().expect("it ends"));
    keeper.join().expect("it ends");
    let start = log.reader().log_start();
    log.close().expect("the disk is well");
    let left = values_of(&disk.crash(Loss::Ordered));
    let expected = (start.0..8).map(|number| (Offset(number), value_of(0, u8::try_from(number).expect("few"))));
    assert_eq!(left, expected.collect());
}

#[test]
fn readers_keep_their_bytes_while_segments_come_and_go() {
    explore("segments come and go", segments_come_and_go);
}
