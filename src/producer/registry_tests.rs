//! What an identity promises: given once, one life of a name at a time, also over a crash.

use super::ProducerError;
use super::registry::ProducerRegistry;
use super::state::{Identity, ProducerName};
use crate::clock::{SharedClock, SystemClock};
use crate::partition::journal::{Journal, JournalEntry, JournalError};
use crate::types::ProducerId;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// A journal in memory, which can be told to fail.
#[derive(Debug, Default)]
struct MemoryJournal {
    entries: Mutex<Vec<JournalEntry>>,
    failing: Mutex<bool>,
}

impl MemoryJournal {
    fn entries(&self) -> Vec<JournalEntry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, failing: bool) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = failing;
    }
}

impl Journal for MemoryJournal {
    fn append(
        &self,
        entries: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        let failed = *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            self.entries.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
        }
        let error = || JournalError { journal: "__producers".into(), cause: "told to fail".into() };
        Box::pin(async move { if failed { Err(error()) } else { Ok(()) } })
    }
}

/// What a broker that was just started knows.
fn start(journal: &Arc<MemoryJournal>) -> ProducerRegistry {
    let clock: SharedClock = Arc::new(SystemClock);
    ProducerRegistry::start(Arc::clone(journal) as Arc<dyn Journal>, &journal.entries(), clock).expect("it is ours")
}

fn name(text: &str) -> ProducerName {
    ProducerName::new(text).expect("valid")
}

async fn init(registry: &ProducerRegistry, name: impl Into<Option<ProducerName>>) -> Identity {
    registry.init(name.into()).await.expect("there is one")
}

#[tokio::test]
async fn an_id_is_given_once_over_any_number_of_crashes() {
    let journal = Arc::new(MemoryJournal::default());
    let mut given = HashSet::new();
    for life in 0..5 {
        let registry = start(&journal);
        for number in 0..700 {
            let with_name =
                (number % 100 == 0).then(|| ProducerName::new(&format!("p-{life}-{number}")).expect("valid"));
            let id = init(&registry, with_name).await.id;
            assert!(given.insert(id), "{id} was given before, in life {life}");
        }
    }
    let entries = journal.entries().len();
    assert!(entries < 100, "most ids cost no entry, but there are {entries}");
}

#[tokio::test]
async fn the_same_name_has_the_same_id_and_the_next_epoch_after_a_restart_too() {
    let journal = Arc::new(MemoryJournal::default());
    let first = init(&start(&journal), name("billing")).await;
    let registry = start(&journal);
    let second = init(&registry, name("billing")).await;
    assert_eq!((second.id, second.epoch), (first.id, first.epoch + 1));
    assert_ne!(init(&registry, name("other")).await.id, first.id);
    assert!(matches!(registry.admit(first), Err(ProducerError::Fenced { current: Some(2), .. })));
    assert!(registry.admit(second).is_ok());
    let unheard = Identity { epoch: second.epoch + 1, ..second };
    assert!(matches!(registry.admit(unheard), Err(ProducerError::NeverGiven { .. })));
}

#[tokio::test]
async fn a_producer_without_a_name_sends_with_what_it_was_given_and_nothing_else() {
    let journal = Arc::new(MemoryJournal::default());
    let registry = start(&journal);
    let given = init(&registry, None).await;
    assert!(matches!(registry.admit(given), Ok(None)));
    assert!(matches!(registry.admit(Identity { epoch: 1, ..given }), Err(ProducerError::Fenced { current: None, .. })));
    let next = Identity { id: ProducerId(given.id.0 + 1), epoch: 0 };
    assert!(matches!(registry.admit(next), Err(ProducerError::NeverGiven { .. })));
    assert!(start(&journal).admit(given).is_ok(), "it goes on after a restart");
}

#[tokio::test]
async fn the_next_life_waits_for_what_is_under_way_in_the_one_before() {
    let registry = Arc::new(start(&Arc::new(MemoryJournal::default())));
    let first = init(&registry, name("billing")).await;
    let under_way = registry.admit(first).expect("it may send").expect("a named producer holds a permit");
    let next = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.init(Some(name("billing"))).await }
    });
    // From the moment the epoch is durable the old life is refused; the new one is answered only when it is over.
    for _ in 0..10_000 {
        if registry.admit(first).is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(registry.admit(first).is_err(), "the old life is over");
    assert!(!next.is_finished());
    drop(under_way);
    assert_eq!(next.await.expect("it ends").expect("given").epoch, first.epoch + 1);
}

#[tokio::test]
async fn what_could_not_be_made_durable_is_not_given() {
    let journal = Arc::new(MemoryJournal::default());
    let registry = start(&journal);
    let first = init(&registry, name("billing")).await;
    journal.fail(true);
    assert!(matches!(registry.init(Some(name("billing"))).await, Err(ProducerError::Unavailable { .. })));
    assert!(registry.admit(first).is_ok(), "the epoch is what it was");
    journal.fail(false);
    assert_eq!(init(&registry, name("billing")).await.epoch, first.epoch + 1);
}

#[tokio::test]
async fn a_snapshot_says_the_same_as_what_it_replaces() {
    let journal = Arc::new(MemoryJournal::default());
    let registry = start(&journal);
    let mut last = None;
    for round in 0..30 {
        last = Some(init(&registry, name(&format!("p-{}", round % 3))).await);
    }
    let last = last.expect("there were rounds");
    let rewritten = Arc::new(MemoryJournal::default());
    rewritten.append(registry.snapshot()).await.expect("in memory");
    assert!(rewritten.entries().len() < journal.entries().len());
    let restarted = start(&rewritten);
    assert!(restarted.admit(last).is_ok());
    let fresh = init(&restarted, None).await.id;
    assert!((1..=30).all(|round| registry.admit(Identity { id: fresh, epoch: round }).is_err()));
    assert_eq!(init(&restarted, name("p-2")).await, Identity { epoch: last.epoch + 1, ..last });
}

#[test]
fn epochs_that_are_used_up_bring_a_new_id() {
    use super::state::{Event, Identities, Named};
    let mut identities = Identities::default();
    identities.apply(&Event::Reserved { below: 100 });
    identities.begin();
    let last = Named { identity: Identity { id: ProducerId(5), epoch: u16::MAX }, used_at_ms: 0 };
    let billing = ProducerName::new("billing").expect("valid");
    identities.apply(&Event::NameTaken { name: billing.clone(), named: last });
    assert!(identities.needs_id(&billing));
    let events = identities.decide_named(&billing, Some(ProducerId(6)), 1, |_| false).expect("there is room");
    for event in &events {
        identities.apply(event);
    }
    assert!(identities.admit(Identity { id: ProducerId(6), epoch: 1 }).is_ok());
    assert!(
        matches!(identities.admit(last.identity), Err(ProducerError::Fenced { .. })),
        "the old id is not forgotten as one without a name"
    );
}

#[test]
fn a_name_makes_room_only_when_it_was_not_used_for_long() {
    use super::state::{Event, Identities, Named};
    use crate::limits::{PRODUCER_IDLE_MS_MAX, PRODUCER_NAMES_MAX};
    let mut identities = Identities::default();
    identities.apply(&Event::Reserved { below: 1 << 41 });
    identities.begin();
    for number in 0..PRODUCER_NAMES_MAX as u64 {
        let identity = Identity { id: ProducerId(number + 1), epoch: 1 };
        let named = Named { identity, used_at_ms: number.cast_signed() };
        identities.apply(&Event::NameTaken { name: ProducerName::new(&format!("p{number}")).expect("valid"), named });
    }
    let fresh = Some(ProducerId(1 << 40));
    let newcomer = ProducerName::new("newcomer").expect("valid");
    let soon = identities.decide_named(&newcomer, fresh, 1_000, |_| false);
    assert!(matches!(soon, Err(ProducerError::TooManyNames { .. })), "{soon:?}");
    let later_ms = PRODUCER_IDLE_MS_MAX.cast_signed() + 5;
    let first_in_use = |name: &ProducerName| name.as_str() == "p0";
    let events = identities.decide_named(&newcomer, fresh, later_ms, first_in_use).expect("p1 makes room");
    for event in &events {
        identities.apply(event);
    }
    let fenced = identities.admit(Identity { id: ProducerId(2), epoch: 1 });
    assert!(matches!(fenced, Err(ProducerError::Fenced { current: None, .. })), "{fenced:?}");
    assert!(identities.admit(Identity { id: ProducerId(1), epoch: 1 }).is_ok());
}

/// A journal that reserved all numbers was believed, and whoever asked for an id then waited for ever. Found by fuzzing.
#[test]
fn a_journal_that_reserves_all_numbers_is_refused() {
    let value = format!("{{\"reserved_below\":{}}}", u64::MAX);
    let entry = JournalEntry { key: "ids".into(), value: Some(value.into()) };
    let refused = ProducerRegistry::start(Arc::new(MemoryJournal::default()), &[entry], Arc::new(SystemClock));
    assert!(matches!(refused, Err(ProducerError::Corrupt { .. })), "{refused:?}");
}
