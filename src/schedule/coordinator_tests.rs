//! What the coordinator promises with a log that is slow, full or lost, and with a clock that is set.

use super::coordinator::ScheduleCoordinator;
use super::entry::{Entry, Schedule};
use super::error::ScheduleError;
use super::ids::{Place, ScheduleId};
use super::log::{LogFailure, ScheduleLog};
use super::state::{Outcome, Replayed, Stage};
use crate::clock::ManualClock;
use crate::partition::journal::JournalEntry;
use crate::types::{Offset, TopicName};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

const START_MS: i64 = 1_000_000;

/// A log in memory. Its batches are seen; it can be made to wait, to refuse and to be lost.
struct MemoryLog {
    batches: Mutex<Vec<Vec<JournalEntry>>>,
    failure: Mutex<Option<LogFailure>>,
    gate: Semaphore,
}

impl MemoryLog {
    fn new() -> Arc<Self> {
        let (batches, failure, gate) = (Mutex::default(), Mutex::default(), Semaphore::new(Semaphore::MAX_PERMITS));
        Arc::new(Self { batches, failure, gate })
    }

    fn fail(&self, failure: Option<LogFailure>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Vec::len).collect()
    }
}

impl ScheduleLog for MemoryLog {
    fn append(
        &self,
        entries: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<Offset, LogFailure>> + Send + '_>> {
        Box::pin(async move {
            self.gate.acquire().await.expect("it is open").forget();
            if let Some(failure) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return Err(failure);
            }
            let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
            let base = batches.iter().map(Vec::len).sum::<usize>();
            batches.push(entries);
            Ok(Offset(base as u64))
        })
    }
}

struct World {
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    schedules: ScheduleCoordinator,
}

impl World {
    fn start() -> Self {
        let (log, clock) = (MemoryLog::new(), Arc::new(ManualClock::new(START_MS)));
        let schedules = ScheduleCoordinator::start(Arc::clone(&log) as _, Replayed::default(), Arc::clone(&clock) as _);
        Self { log, clock, schedules }
    }

    async fn add(&self, name: &str, after_ms: i64) {
        self.schedules.add(vec![entry(name, after_ms)]).await.expect("added");
    }

    async fn take(&self) -> Vec<Place> {
        let due = self.schedules.take_due(10, u64::MAX).await.expect("it runs");
        due.into_iter().map(|due| due.place).collect()
    }
}

fn id(name: &str) -> ScheduleId {
    ScheduleId::new(name).expect("valid")
}

fn entry(name: &str, after_ms: i64) -> Entry {
    let schedule = Schedule {
        topic: TopicName::new("orders").expect("valid"),
        partition: None,
        due_ms: START_MS + after_ms,
        recurrence: None,
        created_at_ms: START_MS,
        delivered: 0,
        last_delivered_ms: None,
    };
    Entry { id: id(name), schedule, record: Bytes::from_static(b"\x12\x01x") }
}

fn outcome(name: &str, place: Place) -> Outcome {
    Outcome { id: id(name), place, next: None, delivered: true }
}

/// Time is paused, so a timer of an hour is over at once; but the wall clock only moves when it is told to.
#[tokio::test(start_paused = true)]
async fn nothing_is_handed_out_before_the_clock_says_so() {
    let world = World::start();
    world.add("a", 3_600_000).await;
    let early = timeout(Duration::from_hours(2), world.schedules.take_due(10, u64::MAX)).await;
    early.expect_err("the timer is over, the clock stands still");
    world.clock.advance(3_599_999);
    let early = timeout(Duration::from_secs(1), world.schedules.take_due(10, u64::MAX)).await;
    early.expect_err("a millisecond is left");
    world.clock.advance(1);
    assert_eq!(world.take().await, [Place { due_ms: START_MS + 3_600_000, offset: Offset(0) }]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_is_noticed_within_a_second() {
    let world = World::start();
    world.add("a", 3_600_000).await;
    let taking = tokio::spawn({
        let schedules = world.schedules.clone();
        async move { schedules.take_due(10, u64::MAX).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.clock.jump(3_600_000);
    let set = Instant::now();
    assert_eq!(taking.await.expect("no panic").expect("it runs").len(), 1);
    assert!(set.elapsed() <= Duration::from_secs(1), "{:?}", set.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_failed_comes_again_later_and_later_and_may_be_cancelled_between() {
    let world = World::start();
    world.add("a", 0).await;
    let mut waits = Vec::new();
    for failures in 1..9 {
        let begun = Instant::now();
        let places = world.take().await;
        waits.push(begun.elapsed().as_millis());
        let under_way = world.schedules.find(id("a")).await.expect("it is there");
        assert_eq!((under_way.stage, under_way.failures), (Stage::UnderWay, failures - 1));
        let cancelled = world.schedules.cancel(id("a")).await;
        assert_eq!(cancelled, Err(ScheduleError::UnderWay { id: id("a") }));
        world.schedules.put_off(vec![(places[0], "no room".into())]).await.expect("it runs");
    }
    assert_eq!(waits, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
    let listed = world.schedules.find(id("a")).await.expect("it is there");
    assert_eq!((listed.stage, listed.last_error.as_deref()), (Stage::Retrying, Some("no room")));
    world.schedules.cancel(id("a")).await.expect("cancelled");
    let counts = world.schedules.counts().await.expect("it runs");
    assert_eq!((counts.schedules, counts.retrying, counts.failed), (0, 0, 8));
    timeout(Duration::from_secs(1_000), world.schedules.take_due(10, u64::MAX)).await.expect_err("there is nothing");
}

/// Requests that came while the log was syncing share the next batch; of one schedule it holds one change.
#[tokio::test]
async fn one_append_takes_what_came_meanwhile_and_of_one_schedule_one_change() {
    let world = World::start();
    world.log.gate.forget_permits(Semaphore::MAX_PERMITS);
    let first = tokio::spawn({
        let schedules = world.schedules.clone();
        async move { schedules.add(vec![entry("first", 1)]).await }
    });
    let add = |name: &'static str| {
        let schedules = world.schedules.clone();
        async move { schedules.add(vec![entry(name, 1)]).await }
    };
    let others = tokio::spawn(futures_util::future::join_all([add("a"), add("b"), add("a"), add("c")]));
    tokio::task::yield_now().await;
    // Whatever of them is in which batch: the same id is never twice in one, and never twice at all.
    world.log.gate.add_permits(100);
    first.await.expect("no panic").expect("added");
    let others = others.await.expect("no panic");
    let refused = others.iter().filter(|added| **added == Err(ScheduleError::Exists { id: id("a") })).count();
    assert_eq!((refused, others.len()), (1, 4));
    assert_eq!(world.log.batches().iter().sum::<usize>(), 4);
    assert!(world.log.batches().len() < 5, "{:?}", world.log.batches());
}

#[tokio::test]
async fn a_log_that_refuses_changes_nothing_and_takes_the_next() {
    let world = World::start();
    world.add("a", 0).await;
    let places = world.take().await;
    world.log.fail(Some(LogFailure::Refused("no room".to_owned())));
    let refused = Err(ScheduleError::Refused { cause: "no room".to_owned() });
    assert_eq!(world.schedules.add(vec![entry("b", 0)]).await, refused);
    assert_eq!(world.schedules.conclude(vec![outcome("a", places[0])]).await, refused);
    assert!(world.schedules.find(id("b")).await.is_err());
    assert_eq!(world.schedules.find(id("a")).await.expect("it is there").stage, Stage::UnderWay);
    world.log.fail(None);
    world.schedules.conclude(vec![outcome("a", places[0])]).await.expect("it is told again");
    assert!(world.schedules.find(id("a")).await.is_err());
    world.add("b", 0).await;
    assert_eq!(world.log.batches(), [1, 1, 1]);
}

#[tokio::test]
async fn a_log_that_is_lost_ends_everything_with_its_cause() {
    let world = World::start();
    world.log.fail(Some(LogFailure::Lost("the disk failed".to_owned())));
    let stopped = Err(ScheduleError::Stopped { cause: "the disk failed".to_owned() });
    assert_eq!(world.schedules.add(vec![entry("a", 0)]).await, stopped);
    assert_eq!(world.schedules.cancel(id("a")).await, stopped);
    assert!(world.schedules.take_due(1, 1).await.is_err());
}

/// Whoever took its place must find what the one before was given and never heard of.
#[tokio::test(start_paused = true)]
async fn a_taker_that_went_away_takes_nothing_with_it() {
    let world = World::start();
    let waiting = timeout(Duration::from_millis(10), world.schedules.take_due(10, u64::MAX)).await;
    waiting.expect_err("there is nothing");
    world.add("a", 0).await;
    assert_eq!(world.take().await.len(), 1);
}

#[tokio::test]
async fn a_batch_is_bounded_by_number_and_by_bytes() {
    let world = World::start();
    let large = |name: &str| Entry { record: Bytes::from(vec![0; 600]), ..entry(name, 0) };
    world.schedules.add(vec![large("a"), large("b"), large("c")]).await.expect("added");
    assert_eq!(world.schedules.take_due(2, u64::MAX).await.expect("it runs").len(), 2);
    assert_eq!(world.schedules.take_due(2, u64::MAX).await.expect("it runs").len(), 1);
    world.schedules.add(vec![large("d"), large("e"), large("f")]).await.expect("added");
    let one_at_least = world.schedules.take_due(10, 1).await.expect("it runs");
    assert_eq!(one_at_least.len(), 1);
    assert_eq!(world.schedules.take_due(10, 601).await.expect("it runs").len(), 2);
}
