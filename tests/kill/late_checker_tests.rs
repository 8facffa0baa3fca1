//! The parts of the checker that are about what comes later: letters that are sent back, schedules, and messages that a
//! filter leaves out. A life without fault has no anomaly, and each kind of fault, put into it by hand, is named.

use crate::history::event::{Delivered, Letter, Said};
use crate::history::payload::key_of;
use crate::history::{Anomaly, Batch, Checker, Event, RecordId, Rule};

const RECORDS: u32 = 8;

/// When what is scheduled is due.
const DUE_MS: i64 = 5_000;

/// Eight records in one log. Neighbours share a key: four and four. Then a queue of those with the first key, and two
/// schedules, of the records 8 and 9.
fn begin() -> Vec<Event> {
    let topic = || "orders".to_owned();
    vec![
        Event::TopicDone { topic: topic(), exists: true },
        Event::Log { log: 0, topic: topic(), partition: 0, rule: Rule::Keep },
        Event::Producer { producer: 0, topic: topic(), idempotent: true },
        Event::Sent { producer: 0, first: 0, count: RECORDS },
        Event::Acked { first: 0, count: RECORDS, log: 0, offset: 0 },
        Event::Scheduler { producer: 1, topic: topic() },
        Event::Sent { producer: 1, first: RECORDS, count: 2 },
        Event::Scheduled { record: RECORDS, due_ms: DUE_MS },
        Event::Scheduled { record: RECORDS + 1, due_ms: DUE_MS },
        Event::Queue { queue: 0, name: "work".into(), attempts_max: 1, keeps_order: false, only_keys: vec![key_of(0)] },
        Event::WorkerOpened { worker: 1, is_stream: true },
    ]
}

/// All there is in the log: the eight records, and these behind them.
fn audited(behind: &[RecordId]) -> Event {
    let records: Vec<_> = (0..RECORDS).chain(behind.iter().copied()).map(Some).collect();
    Event::Audited {
        log: 0,
        start: 0,
        end: records.len() as u64,
        bytes: 100,
        batches: vec![Batch { base: 0, records }],
    }
}

fn topics() -> Event {
    Event::TopicsAudited { topics: vec!["orders".to_owned()] }
}

fn waiting(records: &[RecordId]) -> Event {
    Event::SchedulesListed { waiting: records.to_vec() }
}

fn came_due(offset: u64, record: RecordId, appended_ms: i64) -> Event {
    Event::CameDue { log: 0, offset, record: Some(record), due_ms: DUE_MS, appended_ms }
}

fn came_back(offset: u64, record: RecordId, at: u64) -> Event {
    Event::CameBack { log: 0, offset, record: Some(record), queue: 0, at }
}

/// Record 0 as a dead letter.
fn letter(is_resolved: bool) -> Letter {
    Letter { at: 0, log: 0, offset: 0, attempts: 1, is_rejected: true, is_resolved, record: Some(0) }
}

fn letters(letters: &[Letter]) -> Event {
    Event::DeadLetters { queue: 0, letters: letters.to_vec() }
}

/// The record of this number stands at the offset of that number.
fn received(number: u32) -> Event {
    let (worker, queue, log, offset, record, attempt) = (1, 0, 0, number.into(), Some(number), 1);
    Event::Received(Delivered { worker, queue, log, offset, record, attempt, heard_ms: 0, kept_until_ms: 0 })
}

/// Record 0 is rejected, and its letter is there.
fn with_a_letter() -> Vec<Event> {
    let (worker, queue, log, offset, attempt, said) = (1, 0, 0, 0, 1, Said::Reject);
    let mut life = begin();
    life.extend([
        received(0),
        Event::SettleAsked { worker, queue, log, offset, attempt, said },
        Event::SettleDone { queue, log, offset, attempt, said },
        letters(&[letter(false)]),
    ]);
    life
}

fn told(offset: u64) -> Event {
    Event::RedriveTold { queue: 0, at: 0, log: 0, offset }
}

const ASKED: Event = Event::RedriveAsked { queue: 0 };
const ENDED: Event = Event::RedriveDone { queue: 0 };

fn judge(before: Vec<Event>, events: impl IntoIterator<Item = Event>) -> Vec<Anomaly> {
    Checker::judge(&before.into_iter().chain(events).collect::<Vec<_>>())
}

#[test]
fn a_life_without_fault_has_no_anomaly() {
    let mut life = with_a_letter();
    // Cut off between the two writes: it is sent, and sent once more by the next redrive, which tells of it.
    life.extend([ASKED, Event::Down, ASKED, told(9), ENDED]);
    life.extend([waiting(&[9]), came_back(8, 0, 0), came_back(9, 0, 0), came_due(10, 8, DUE_MS)]);
    life.extend([audited(&[0, 0, 8]), topics(), letters(&[letter(true)])]);
    // A schedule that was delivered before a kill, and is delivered once more after it.
    life.extend([Event::Down, waiting(&[]), came_due(11, 9, DUE_MS + 7), came_due(12, 9, DUE_MS + 9)]);
    life.extend([came_back(8, 0, 0), came_back(9, 0, 0), came_due(10, 8, DUE_MS)]);
    life.extend([audited(&[0, 0, 8, 9, 9]), topics(), letters(&[letter(true)]), Event::Finished]);
    assert_eq!(Checker::judge(&life), []);
}

#[test]
fn a_letter_that_is_resolved_and_nowhere_is_lost() {
    let lost = |events: Vec<Event>| match &judge(with_a_letter(), events)[..] {
        [Anomaly::LetterLost { why, .. }] => why.clone(),
        found => panic!("{found:?}"),
    };
    assert_eq!(lost(vec![ASKED, Event::Down, letters(&[letter(true)])]), "it did not come back");
    assert_eq!(lost(vec![letters(&[])]), "it was read, and is not there");
    let elsewhere = vec![ASKED, told(9), ENDED, came_back(8, 0, 0), audited(&[0]), letters(&[letter(true)])];
    assert_eq!(lost(elsewhere), "it is not at orders/0 offset 9");
}

#[test]
fn what_was_told_of_stays_resolved_and_does_not_come_again() {
    let told_of = || [ASKED, told(8), ENDED, came_back(8, 0, 0), audited(&[0])];
    let found = judge(with_a_letter(), told_of().into_iter().chain([letters(&[letter(false)])]));
    assert!(matches!(found[..], [Anomaly::LetterOpenAgain { at: 0, .. }]), "{found:?}");
    let again = told_of().into_iter().chain([ASKED, Event::Down, came_back(9, 0, 0)]);
    let found = judge(with_a_letter(), again);
    assert!(matches!(found[..], [Anomaly::RedrivenAgain { offset: 9, .. }]), "{found:?}");
    // Nor does a letter come twice of which nobody was told, if nothing was cut off.
    let found = judge(with_a_letter(), [ASKED, ENDED, came_back(8, 0, 0), came_back(9, 0, 0)]);
    assert!(matches!(found[..], [Anomaly::RedrivenAgain { offset: 9, .. }]), "{found:?}");
}

#[test]
fn what_came_back_was_a_letter_that_somebody_sent() {
    let why = |events: Vec<Event>| match &judge(with_a_letter(), events)[..] {
        [Anomaly::RedriveInvented { why, .. }] => why.clone(),
        found => panic!("{found:?}"),
    };
    let unresolved = || letters(&[letter(false)]);
    assert_eq!(why(vec![came_back(8, 0, 0), unresolved()]), "nobody asked for it");
    assert_eq!(why(vec![ASKED, came_back(8, 0, 1), unresolved()]), "there is no such letter");
    assert_eq!(why(vec![ASKED, came_back(8, 1, 0), unresolved()]), "that is another record");
    // A copy that does not say that it was a letter is an ordinary one too many.
    let found = judge(with_a_letter(), [audited(&[0])]);
    assert!(matches!(found[..], [Anomaly::Duplicated { record: 0, copies: 2, .. }]), "{found:?}");
}

#[test]
fn a_schedule_that_neither_waits_nor_came_is_lost() {
    let found = judge(begin(), [waiting(&[8]), audited(&[]), topics()]);
    assert!(matches!(found[..], [Anomaly::ScheduleLost { record: 9 }]), "{found:?}");
    let found = judge(begin(), [came_due(8, 8, DUE_MS), audited(&[8]), Event::Finished]);
    assert!(matches!(found[..], [Anomaly::ScheduleLost { record: 9 }]), "{found:?}");
}

#[test]
fn nothing_comes_early_or_again_without_a_kill() {
    let found = judge(begin(), [came_due(8, 8, DUE_MS - 1)]);
    assert!(matches!(found[..], [Anomaly::Early { record: 8, due_ms: DUE_MS, .. }]), "{found:?}");
    // Whatever its header says: this is when it was confirmed to be due.
    let changed = Event::CameDue { log: 0, offset: 8, record: Some(8), due_ms: 0, appended_ms: 1 };
    assert!(matches!(judge(begin(), [changed])[..], [Anomaly::Early { record: 8, due_ms: DUE_MS, .. }]));
    // A clock that was set back has shown that it was due; what it showed before does not count.
    let set = |shown_ms| Event::ClockSet { shown_ms };
    assert_eq!(judge(begin(), [set(DUE_MS), came_due(8, 8, 1)]), []);
    assert!(matches!(judge(begin(), [set(DUE_MS - 1), came_due(8, 8, 1)])[..], [Anomaly::Early { record: 8, .. }]));
    let later = [set(DUE_MS), Event::Sent { producer: 1, first: 10, count: 1 }, came_due(8, 10, 1)];
    assert!(matches!(judge(begin(), later)[..], [Anomaly::Early { record: 10, .. }]));
    let found = judge(begin(), [came_due(8, 8, DUE_MS), came_due(9, 8, DUE_MS)]);
    assert!(matches!(found[..], [Anomaly::ScheduledAgain { record: 8, copies: 2, kills: 0, .. }]), "{found:?}");
    let found = judge(begin(), [came_due(8, 0, DUE_MS)]);
    assert!(matches!(found[..], [Anomaly::Invented { offset: 8, .. }]), "record 0 was not scheduled: {found:?}");
}

#[test]
fn what_does_not_match_is_passed_over_and_all_that_matches_is_done() {
    let done = |done_below, open| Event::QueueAudited { queue: 0, log: 0, done_below, frontier: done_below, open };
    let life = || with_a_letter().into_iter().chain([audited(&[])]).collect::<Vec<_>>();
    let found = judge(life(), [done(1, 0), letters(&[letter(false)])]);
    assert_eq!(found, []);
    // The records 1 to 3 match too, 4 to 7 do not.
    let found = judge(life(), [done(RECORDS.into(), 3), letters(&[letter(false)])]);
    let lost = found.iter().map(|found| matches!(found, Anomaly::MessageLost { .. })).collect::<Vec<_>>();
    assert_eq!(lost, [true; 3], "{found:?}");
    assert!(matches!(judge(life(), [received(4)])[..], [Anomaly::FilterIgnored { offset: 4, .. }]));
    let dead = Letter { at: 1, offset: 4, record: Some(4), ..letter(false) };
    let found = judge(life(), [letters(&[letter(false), dead])]);
    assert!(matches!(&found[..], [Anomaly::LetterInvented { why, .. }] if why == "it does not match"), "{found:?}");
}

#[test]
fn every_message_is_done_or_open() {
    let audit = |done_below, frontier, open| {
        let audited = Event::QueueAudited { queue: 0, log: 0, done_below, frontier, open };
        [Event::QueueAsked { queue: 0 }, audited, letters(&[letter(false)])]
    };
    let (worker, queue, log, offset, attempt, said) = (1, 0, 0, 1, 1, Said::Ack);
    let mut life = with_a_letter();
    life.extend([
        audited(&[]),
        received(1),
        Event::SettleAsked { worker, queue, log, offset, attempt, said },
        Event::SettleDone { queue, log, offset, attempt, said },
    ]);
    // Of four that were handed out one is acked and one is dead, and two are open.
    assert_eq!(judge(life.clone(), audit(0, 4, 2)), []);
    let found = judge(life.clone(), audit(0, 4, 1));
    assert!(matches!(found[..], [Anomaly::Unaccounted { done: 3, least: 1, most: 2, .. }]), "{found:?}");
    let found = judge(life, audit(0, 4, 4));
    assert!(matches!(found[..], [Anomaly::Unaccounted { done: 0, least: 1, most: 2, .. }]), "{found:?}");
}
