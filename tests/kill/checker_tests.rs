//! The checker itself: a history without fault has no anomaly, and each kind of fault, put into it by hand, is named.

use crate::history::event::dump;
use crate::history::{Anomaly, Batch, Checker, Event, Rule};
use std::io::{BufRead as _, BufReader};

fn log(topic: &str, log: u16, rule: Rule) -> Event {
    Event::Log { log, topic: topic.to_owned(), partition: 0, rule }
}

fn producer(producer: u16, topic: &str, idempotent: bool) -> Event {
    Event::Producer { producer, topic: topic.to_owned(), idempotent }
}

fn batch(base: u64, records: &[u32]) -> Batch {
    Batch { base, records: records.iter().copied().map(Some).collect() }
}

fn acked(first: u32, count: u32, offset: u64) -> Event {
    Event::Acked { first, count, log: 0, offset }
}

fn audited(start: u64, batches: Vec<Batch>) -> Event {
    let end = batches.last().map_or(start, Batch::end);
    Event::Audited { log: 0, start, end, bytes: 1_000, batches }
}

fn polled(stream: u32, batches: Vec<Batch>) -> Event {
    Event::Polled { stream, log: 0, batches }
}

fn assigned(stream: u32, generation: u64, offset: u64) -> Event {
    Event::Assigned { stream, log: 0, generation, offset }
}

fn opened(stream: u32) -> Event {
    Event::Opened { stream, group: 0 }
}

fn committed(offset: u64) -> [Event; 2] {
    [Event::CommitsAsked { group: 0 }, Event::Committed { group: 0, log: 0, offset: Some(offset) }]
}

/// Ten records of one producer (0), five of an idempotent one (1): 0 to 4 and 10 to 14 stand at offsets 0 to 9, and 5
/// to 9 were not answered when the broker went down. A group has read and committed the first five.
fn before_the_kill() -> Vec<Event> {
    vec![
        Event::TopicAsked { topic: "orders".to_owned(), exists: true },
        Event::TopicDone { topic: "orders".to_owned(), exists: true },
        log("orders", 0, Rule::Keep),
        producer(0, "orders", false),
        producer(1, "orders", true),
        Event::Sent { producer: 0, first: 0, count: 10 },
        Event::Sent { producer: 1, first: 10, count: 5 },
        acked(0, 5, 0),
        acked(10, 5, 5),
        opened(1),
        assigned(1, 1, 0),
        polled(1, vec![batch(0, &[0, 1, 2, 3, 4])]),
        Event::CommitAsked { group: 0, log: 0, offset: 5 },
        Event::CommitDone { group: 0, log: 0, offset: 5 },
        polled(1, vec![batch(5, &[10, 11])]),
        Event::Down,
    ]
}

/// After it: what was in doubt comes again, a part of it twice; the group goes on.
fn after_the_kill() -> Vec<Event> {
    let mut events = vec![
        audited(0, vec![batch(0, &[0, 1, 2, 3, 4]), batch(5, &[10, 11, 12, 13, 14]), batch(10, &[5, 6])]),
        opened(2),
        assigned(2, 2, 5),
        polled(2, vec![batch(5, &[10, 11, 12, 13, 14])]),
        acked(5, 5, 12),
        Event::DeleteAsked { log: 0, before: 3 },
        Event::DeleteDone { log: 0, start: 3 },
        Event::TopicsAudited { topics: vec!["orders".to_owned()] },
        Event::Down,
        audited(3, vec![batch(3, &[3, 4, 10, 11, 12, 13, 14, 5, 6, 5, 6, 7, 8, 9])]),
    ];
    events.extend(committed(5));
    events.push(Event::Finished);
    events
}

fn good() -> Vec<Event> {
    let mut events = before_the_kill();
    events.extend(after_the_kill());
    events
}

/// What is found in a history that begins like the good one and goes on as given.
fn judged(after: impl IntoIterator<Item = Event>) -> Vec<Anomaly> {
    let mut events = before_the_kill();
    events.extend(after);
    Checker::judge(&events)
}

/// All that a good broker holds after the kill.
const KEPT: &[u32] = &[0, 1, 2, 3, 4, 10, 11, 12, 13, 14];

fn kept_and(more: &[u32]) -> Event {
    audited(0, vec![batch(0, &[KEPT, more].concat())])
}

#[test]
fn a_history_without_fault_has_no_anomaly() {
    assert_eq!(Checker::judge(&good()), []);
    let mut checker = Checker::default();
    for event in good() {
        checker.take(&event);
    }
    let counts = checker.counts();
    assert_eq!((counts.acked, counts.repeated, counts.deleted, counts.commits), (15, 2, 3, 1));
}

#[test]
fn a_lost_record_is_named() {
    // The log is too short.
    let short = judged([audited(0, vec![batch(0, &KEPT[..9])])]);
    assert_eq!(short, [Anomaly::Lost { log: "orders/0".into(), offset: 9, record: Some(14) }]);
    // Another record stands in its place.
    let mut other = KEPT.to_vec();
    other[9] = 5;
    let other = judged([audited(0, vec![batch(0, &other)])]);
    assert_eq!(other, [Anomaly::Lost { log: "orders/0".into(), offset: 9, record: Some(14) }]);
    // The whole log is empty, or does not serve.
    assert_eq!(judged([audited(0, vec![])]).len(), 10);
    let offline = judged([Event::Offline { log: 0, why: "damaged".into() }]);
    assert!(matches!(&offline[..], [Anomaly::Offline { .. }]), "{offline:?}");
}

#[test]
fn a_duplicate_is_named_unless_its_acknowledgement_was_in_doubt() {
    // The first of an idempotent producer, acknowledged before the kill.
    let duplicated = judged([kept_and(&[10])]);
    assert!(matches!(&duplicated[..], [Anomaly::Duplicated { record: 10, offset: 10, copies: 2, most: 1, .. }]));
    // One that was acknowledged before the kill, and so was never sent again.
    assert!(matches!(&judged([kept_and(&[4])])[..], [Anomaly::Duplicated { record: 4, .. }]));
    // One in doubt may come twice, not three times.
    assert_eq!(judged([kept_and(&[5, 5])]), []);
    assert!(matches!(&judged([kept_and(&[5, 5, 5])])[..], [Anomaly::Duplicated { copies: 3, most: 2, .. }]));
}

#[test]
fn what_nobody_sent_is_named() {
    let altered = Batch { base: 10, records: vec![None] };
    let found = judged([audited(0, vec![batch(0, KEPT), altered])]);
    assert_eq!(found, [Anomaly::Invented { log: "orders/0".into(), offset: 10 }]);
    assert!(matches!(&judged([kept_and(&[15])])[..], [Anomaly::Invented { .. }]), "a number that was not given yet");
    let of_another_topic =
        [producer(2, "clicks", false), Event::Sent { producer: 2, first: 15, count: 1 }, kept_and(&[15])];
    assert!(matches!(&judged(of_another_topic)[..], [Anomaly::Invented { .. }]));
}

#[test]
fn a_record_that_was_refused_and_is_there_is_named() {
    let refused = |certain| [Event::Refused { first: 5, count: 1, certain }, kept_and(&[5])];
    assert!(matches!(&judged(refused(true))[..], [Anomaly::RefusedAndThere { record: 5, offset: 10, .. }]));
    assert_eq!(judged(refused(false)), [], "the broker did not know");
}

#[test]
fn records_out_of_order_are_named() {
    assert!(matches!(&judged([kept_and(&[6, 5])])[..], [Anomaly::Reordered { record: 5, behind: 6, .. }]));
    assert_eq!(judged([kept_and(&[5, 6, 5, 6])]), [], "sent again as a whole");
}

/// Records 5 to 9 were sent, nobody answered, and they were sent again: 7 and 9 were the last of their keys before that.
#[test]
fn what_compaction_left_of_a_first_copy_explains_the_order_of_the_second() {
    let history = |rule, idempotent| {
        let mut events = before_the_kill();
        events[2] = log("orders", 0, rule);
        events[3] = producer(0, "orders", idempotent);
        let seen = if rule == Rule::Compact { vec![batch(0, KEPT), batch(12, &[7])] } else { vec![batch(0, KEPT)] };
        let again = batch(if rule == Rule::Compact { 14 } else { 10 }, &[9, 5, 6, 7, 8, 9]);
        events.push(audited(0, [seen, vec![again]].concat()));
        Checker::judge(&events)
    };
    assert_eq!(history(Rule::Compact, false), []);
    let reordered = |found: &[Anomaly]| matches!(found, [Anomaly::Reordered { record: 5, behind: 9, .. }, ..]);
    assert!(reordered(&history(Rule::Compact, true)), "an idempotent producer has one copy");
    assert!(reordered(&history(Rule::Keep, false)), "nothing takes a first copy from a log that keeps all");
}

/// The same with a deletion in the middle of the first copy, before anyone looked.
#[test]
fn what_a_deletion_left_of_a_first_copy_explains_the_order_of_the_second() {
    let history = |idempotent, deleted: bool| {
        let mut events = before_the_kill();
        events[3] = producer(0, "orders", idempotent);
        let again = batch(15, &[5, 6, 7, 8, 9]);
        if deleted {
            events.push(Event::DeleteAsked { log: 0, before: 12 });
            events.push(audited(12, vec![batch(12, &[7, 8, 9]), again]));
        } else {
            events.push(audited(0, vec![batch(0, KEPT), batch(10, &[7, 8, 9]), batch(13, &[5, 6, 7, 8, 9])]));
        }
        Checker::judge(&events)
    };
    assert_eq!(history(false, true), []);
    let reordered = |found: &[Anomaly]| matches!(found, [Anomaly::Reordered { record: 5, behind: 9, .. }, ..]);
    assert!(reordered(&history(true, true)), "an idempotent producer has one copy");
    assert!(reordered(&history(false, false)), "nothing was taken");
}

#[test]
fn two_records_at_one_offset_are_named() {
    let found = judged([acked(5, 1, 4)]);
    let log = "orders/0".to_owned();
    assert_eq!(found, [Anomaly::Inconsistent { log, offset: 4, one: 4, other: 5 }]);
    let read = judged([opened(2), assigned(2, 2, 5), polled(2, vec![batch(5, &[11])])]);
    assert!(matches!(&read[..], [Anomaly::Inconsistent { offset: 5, one: 10, other: 11, .. }]), "{read:?}");
}

#[test]
fn what_a_reader_saw_and_is_gone_is_named() {
    let seen = [opened(2), assigned(2, 2, 5), polled(2, vec![batch(5, &[10, 11, 12, 13, 14, 5])]), Event::Down];
    let gone = judged(seen.iter().cloned().chain([kept_and(&[])]));
    assert_eq!(gone, [Anomaly::DirtyRead { log: "orders/0".into(), offset: 10, record: Some(5) }]);
    let replaced = judged(seen.iter().cloned().chain([kept_and(&[6])]));
    assert!(matches!(&replaced[..], [Anomaly::DirtyRead { offset: 10, record: Some(5), .. }]), "{replaced:?}");
}

#[test]
fn a_gap_is_named() {
    let found = judged([audited(0, vec![batch(0, KEPT), batch(11, &[5])])]);
    assert_eq!(found, [Anomaly::Gap { log: "orders/0".into(), expected: 10, found: 11 }]);
    let mut short = kept_and(&[]);
    if let Event::Audited { end, .. } = &mut short {
        *end = 12;
    }
    assert!(matches!(&judged([short])[..], [Anomaly::Gap { expected: 10, found: 12, .. }]), "the end says more");
}

#[test]
fn a_start_that_no_deletion_explains_is_named() {
    let from_3 = || audited(3, vec![batch(3, &KEPT[3..])]);
    assert!(matches!(&judged([from_3()])[..], [Anomaly::StartMoved { start: 3, .. }]));
    assert_eq!(judged([Event::DeleteAsked { log: 0, before: 3 }, from_3()]), []);
    // What was deleted stays deleted.
    let back =
        judged([Event::DeleteAsked { log: 0, before: 3 }, Event::DeleteDone { log: 0, start: 3 }, kept_and(&[])]);
    assert!(matches!(&back[..], [Anomaly::StartMoved { start: 0, .. }]), "{back:?}");
    // Retention explains it only if as much is left as it leaves.
    let retained = |least| {
        let mut events = before_the_kill();
        events[2] = log("orders", 0, Rule::Retain { bytes_min: least });
        events.push(from_3());
        Checker::judge(&events).len()
    };
    assert_eq!((retained(1_000), retained(1_001)), (0, 1));
}

#[test]
fn a_reader_that_misses_records_or_gets_them_twice_is_named() {
    let reads = |batches| judged([opened(2), assigned(2, 2, 5), polled(2, batches)]);
    assert_eq!(reads(vec![batch(5, &[10, 11]), batch(7, &[12])]), []);
    assert!(matches!(
        &reads(vec![batch(5, &[10]), batch(7, &[12])])[..],
        [Anomaly::Skipped { expected: 6, found: 7, .. }]
    ));
    assert!(matches!(
        &reads(vec![batch(5, &[10, 11]), batch(6, &[11])])[..],
        [Anomaly::ReadTwice { expected: 7, found: 6, .. }]
    ));
    assert!(matches!(&judged([opened(2), assigned(2, 2, 6)])[..], [Anomaly::Skipped { expected: 5, found: 6, .. }]));
    let revoked =
        [opened(2), assigned(2, 2, 5), Event::Revoked { stream: 2, log: 0 }, polled(2, vec![batch(5, &[10])])];
    assert!(matches!(&judged(revoked)[..], [Anomaly::NotAssigned { .. }]));
}

#[test]
fn a_place_that_retention_never_reaches_is_no_explanation() {
    let history = |start: u64| {
        let mut events = before_the_kill();
        events[2] = log("orders", 0, Rule::Retain { bytes_min: 0 });
        events.extend([opened(2), assigned(2, 2, 7), kept_and(&[])]);
        let rest = usize::try_from(start).expect("small");
        events.extend([Event::Refused { first: 5, count: 5, certain: true }, Event::Down]);
        events.extend([audited(start, vec![batch(start, &KEPT[rest..])]), Event::Finished]);
        Checker::judge(&events)
    };
    assert_eq!(history(7), []);
    assert!(matches!(&history(6)[..], [Anomaly::Skipped { found: 7, .. }]));
}

/// Records 0 to 3 have one key, 4 to 7 the next, and so on: see `payload::key_of`.
#[test]
fn what_compaction_may_not_remove_is_named() {
    let compacted = |after: Vec<Event>| {
        let mut events = before_the_kill();
        events[2] = log("orders", 0, Rule::Compact);
        events.extend(after);
        Checker::judge(&events)
    };
    let kept = |batches: &[(u64, &[u32])]| audited(0, batches.iter().map(|(base, ids)| batch(*base, ids)).collect());
    let removed = [kept(&[(3, &[3, 4]), (6, &[11, 12, 13, 14])])];
    assert_eq!(compacted(removed.to_vec()), [], "0 to 2 before 3, and 10 before 11");
    let lost = compacted(vec![kept(&[(4, &[4]), (6, &[11, 12, 13, 14])])]);
    // Without record 3, nothing explains where those before it are.
    assert!(matches!(&lost[..], [.., Anomaly::Lost { offset: 3, record: Some(3), .. }]), "{lost:?}");
    assert_eq!(lost.len(), 4);
    // A reader is led past what is gone, and only past that.
    let reads = |from: u64, ids: &[u32]| {
        let mut events = vec![opened(2), assigned(2, 2, 5), polled(2, vec![batch(from, ids)])];
        events.extend(removed.clone());
        compacted(events)
    };
    assert_eq!(reads(6, &[11, 12]), []);
    assert!(matches!(&reads(7, &[12])[..], [Anomaly::Skipped { expected: 6, found: 7, .. }]));
}

#[test]
fn a_commit_that_went_back_is_named() {
    let log = || "orders/0".to_owned();
    let back = |found| [Anomaly::CommitWentBack { group: 0, log: log(), committed: 5, found }];
    assert_eq!(judged(committed(4)), back(Some(4)));
    let forgotten = [Event::CommitsAsked { group: 0 }, Event::Committed { group: 0, log: 0, offset: None }];
    assert_eq!(judged(forgotten), back(None));
    assert_eq!(judged([opened(2), assigned(2, 2, 4)]), back(Some(4)));
    assert_eq!(judged(committed(6)), [Anomaly::CommitInvented { group: 0, log: log(), asked: 5, found: 6 }]);
}

#[test]
fn a_generation_that_went_back_or_has_two_owners_is_named() {
    assert!(matches!(
        &judged([opened(2), assigned(2, 1, 5)])[..],
        [Anomaly::GenerationWentBack { before: 1, generation: 1, .. }, Anomaly::TwoOwners { one: 1, other: 2, .. }]
    ));
    let two = judged([opened(2), opened(3), assigned(2, 2, 5), assigned(3, 2, 5)]);
    assert!(matches!(&two[..], [Anomaly::TwoOwners { generation: 2, one: 2, other: 3, .. }]), "{two:?}");
}

#[test]
fn topics_that_vanish_or_come_back_are_named() {
    let there = |names: &[&str]| Event::TopicsAudited { topics: names.iter().map(ToString::to_string).collect() };
    assert!(matches!(&judged([there(&[])])[..], [Anomaly::TopicLost { .. }]));
    assert!(matches!(&judged([there(&["orders", "other"])])[..], [Anomaly::TopicCameBack { .. }]));
    let asked = |exists| Event::TopicAsked { topic: "orders".to_owned(), exists };
    let done = |exists| Event::TopicDone { topic: "orders".to_owned(), exists };
    assert!(matches!(&judged([asked(false), done(false), there(&["orders"])])[..], [Anomaly::TopicCameBack { .. }]));
    assert_eq!(judged([asked(false), there(&["orders"]), there(&["orders"])]), []);
    assert_eq!(judged([asked(false), there(&[])]), []);
    // In doubt once, certain from the first look on.
    assert!(matches!(&judged([asked(false), there(&["orders"]), there(&[])])[..], [Anomaly::TopicLost { .. }]));
}

#[test]
fn a_record_without_an_answer_is_named() {
    let found = judged([kept_and(&[]), Event::Finished]);
    assert_eq!(found.len(), 5);
    assert!(matches!(&found[0], Anomaly::NoAnswer { record: 5 }));
}

#[test]
fn a_history_in_a_file_is_judged_as_the_one_in_memory() {
    let mut events = good();
    events.insert(events.len() - 1, kept_and(&[15]));
    let directory = tempfile::tempdir().expect("a directory");
    let path = dump(&events, &directory.path().join("history.jsonl")).expect("written");
    let file = std::fs::OpenOptions::new().read(true).open(path).expect("it is there");
    let lines = BufReader::new(file).lines().map(|line| line.expect("text"));
    let read: Vec<Event> = lines.map(|line| serde_json::from_str(&line).expect("an event")).collect();
    assert_eq!(read, events);
    let anomalies = Checker::judge(&read);
    assert!(!anomalies.is_empty());
    assert_eq!(anomalies, Checker::judge(&events));
}
