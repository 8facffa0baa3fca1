//! The task around the state: nothing is answered before it is durable, drops are heard, the journal stays short.

use super::coordinator::QueueCoordinator;
use super::error::QueueError;
use super::event::{ReceiverKind, Window};
use super::hand_out::LeasedMessage;
use super::policy::{QueuePolicy, QueueStart};
use super::queues::CreateQueue;
use super::receiver::QueueReceiver;
use super::settle::{Settle, Verb};
use super::test_support::{ListedLogs, MemoryJournal, WIDE, all_found, partition, queue, topic};
use crate::clock::ManualClock;
use crate::types::{Durability, Offset};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn start(journal: &Arc<MemoryJournal>, records: u64) -> QueueCoordinator {
    let entries = journal.entries.lock().unwrap().clone();
    let logs = Arc::new(ListedLogs::holding(&[(0, records)]));
    let journal = Arc::<MemoryJournal>::clone(journal);
    QueueCoordinator::start_cutting(journal, entries, Arc::new(ManualClock::new(1_000)), logs, 20_000).unwrap()
}

async fn with_queue(journal: &Arc<MemoryJournal>, records: u64) -> QueueCoordinator {
    let queues = start(journal, records);
    let request = CreateQueue {
        filter: None,
        patterns: Vec::new(),
        name: queue("work"),
        topics: vec![topic("orders")],
        start: QueueStart::Earliest,
        frontiers: vec![(partition(0), topic("orders"), Offset(0))],
        policy: QueuePolicy { lease_ms: 1_000, ..QueuePolicy::default() },
    };
    queues.create(request).await.unwrap();
    queues
}

async fn open(queues: &QueueCoordinator, kind: ReceiverKind) -> QueueReceiver {
    queues.open(queue("work"), kind, WIDE).await.unwrap()
}

async fn receive(queues: &QueueCoordinator, receiver: &QueueReceiver, most: u32) -> Vec<LeasedMessage> {
    match queues.reserve(receiver, most).await.unwrap().messages() {
        Some(reservation) => queues.deliver(receiver, all_found(&reservation, |_| None)).await.unwrap(),
        None => Vec::new(),
    }
}

fn acks(messages: &[LeasedMessage]) -> Vec<Settle> {
    messages.iter().map(|message| Settle { token: message.token.clone(), verb: Verb::Ack }).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_frees_its_messages_and_wakes_who_waits() {
    let queues = with_queue(&Arc::default(), 2).await;
    let (one, two) = (open(&queues, ReceiverKind::Stream).await, open(&queues, ReceiverKind::Stream).await);
    assert_eq!(receive(&queues, &one, 2).await.len(), 2);
    assert_eq!(receive(&queues, &two, 2).await, []);
    tokio::join!(two.stirred(), async { drop(one) });
    let again = receive(&queues, &two, 2).await;
    assert_eq!(again.iter().map(|message| message.attempt).collect::<Vec<_>>(), [2, 2], "it counts");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_over_keeps_its_leases_until_they_expire() {
    let queues = with_queue(&Arc::default(), 1).await;
    let call = open(&queues, ReceiverKind::Call).await;
    let messages = receive(&queues, &call, 1).await;
    drop(call);
    let other = open(&queues, ReceiverKind::Stream).await;
    assert_eq!(receive(&queues, &other, 1).await, []);
    let before = tokio::time::Instant::now();
    while receive(&queues, &other, 1).await.is_empty() {
        other.stirred().await;
    }
    assert_eq!(before.elapsed(), Duration::from_secs(1));
    let results = queues.settle(queue("work"), acks(&messages)).await.unwrap();
    assert!(results[0].is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failed_journal_stops_everything_with_its_cause() {
    let journal: Arc<MemoryJournal> = Arc::default();
    let queues = with_queue(&journal, 5).await;
    let receiver = open(&queues, ReceiverKind::Stream).await;
    let messages = receive(&queues, &receiver, 1).await;
    journal.fails.store(true, Ordering::SeqCst);
    let stopped = |result: Result<(), QueueError>| {
        let Err(QueueError::Stopped { cause }) = result else { panic!("not stopped: {result:?}") };
        assert!(cause.contains("the disk is gone"), "{cause}");
    };
    stopped(queues.settle(queue("work"), acks(&messages)).await.map(drop));
    stopped(queues.list(String::new()).await.map(drop));
    receiver.stirred().await;
}

/// What is handed out waits for no sync, what is settled does; unless the queue promises less.
#[tokio::test(start_paused = true)]
async fn a_settlement_is_confirmed_when_it_is_as_durable_as_the_queue_promises() {
    let journal: Arc<MemoryJournal> = Arc::default();
    let queues = with_queue(&journal, 3).await;
    let receiver = open(&queues, ReceiverKind::Stream).await;
    journal.hold_syncs(true);
    let (one, two) = (receive(&queues, &receiver, 1).await, receive(&queues, &receiver, 1).await);
    let mut settled = tokio::spawn({
        let (queues, acks) = (queues.clone(), acks(&one));
        async move { queues.settle(queue("work"), acks).await.unwrap() }
    });
    let early = tokio::time::timeout(Duration::from_secs(1), &mut settled).await;
    early.expect_err("not before it is synced");
    assert_eq!(receive(&queues, &receiver, 1).await.len(), 1, "others go on");
    journal.hold_syncs(false);
    assert!(settled.await.unwrap()[0].is_ok());

    let written = QueuePolicy { durability: Durability::Written, ..QueuePolicy::default() };
    queues.update(queue("work"), Some(written), None).await.unwrap();
    journal.hold_syncs(true);
    assert!(queues.settle(queue("work"), acks(&two)).await.unwrap()[0].is_ok());
}

/// A sync for each delivery would be most of what a message costs; without any, a message that takes the machine with it
/// could do so for ever.
#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_synced_now_and_then() {
    let journal: Arc<MemoryJournal> = Arc::default();
    let queues = with_queue(&journal, 100).await;
    let receiver = open(&queues, ReceiverKind::Stream).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    journal.asked.lock().unwrap().clear();
    for _ in 0..30 {
        assert_eq!(receive(&queues, &receiver, 1).await.len(), 1);
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let asked = journal.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 30);
    let synced: Vec<_> = (0..30).filter(|i| asked[*i] == Durability::Synced).collect();
    assert_eq!(synced, [0, 10, 20]);

    let written = QueuePolicy { durability: Durability::Written, ..QueuePolicy::default() };
    queues.update(queue("work"), Some(written), None).await.unwrap();
    journal.asked.lock().unwrap().clear();
    for _ in 0..30 {
        assert_eq!(receive(&queues, &receiver, 1).await.len(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(*journal.asked.lock().unwrap(), [Durability::Written; 30], "it does not ask for the disk");
}

/// Whatever is asked while the disk hangs, only so many drains are under way; all is answered when it goes on.
#[tokio::test(start_paused = true)]
async fn while_nothing_is_synced_requests_wait_in_the_inbox() {
    let journal: Arc<MemoryJournal> = Arc::default();
    let queues = with_queue(&journal, 100).await;
    let receiver = open(&queues, ReceiverKind::Stream).await;
    let messages = receive(&queues, &receiver, 100).await;
    let written_before = journal.entries.lock().unwrap().len();
    journal.hold_syncs(true);
    let mut pending = Vec::new();
    for message in &messages {
        pending.push(queues.begin_settle(queue("work"), acks(std::slice::from_ref(message))).await.unwrap());
        tokio::task::yield_now().await;
    }
    let written = journal.entries.lock().unwrap().len() - written_before;
    assert!((1..100).contains(&written), "{written} of 100 settlements were written");
    journal.hold_syncs(false);
    for settle in pending {
        assert!(settle.await.unwrap()[0].is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_out_with_one_receiver_however_many_ask() {
    let queues = with_queue(&Arc::default(), 1_000).await;
    let mut workers = Vec::new();
    for _ in 0..8 {
        let queues = queues.clone();
        workers.push(tokio::spawn(async move {
            let receiver = queues.open(queue("work"), ReceiverKind::Stream, Window { messages: 7, bytes: 1 << 20 });
            let receiver = receiver.await.unwrap();
            let mut seen = Vec::new();
            loop {
                let messages = receive(&queues, &receiver, 7).await;
                if messages.is_empty() {
                    return seen;
                }
                seen.extend(messages.iter().map(|message| (message.offset.0, message.attempt)));
                let results = queues.settle(queue("work"), acks(&messages)).await.unwrap();
                assert!(results.iter().all(Result::is_ok));
            }
        }));
    }
    let mut seen = Vec::new();
    for worker in workers {
        seen.extend(worker.await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..1_000).map(|offset| (offset, 1)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_long_journal_is_cut_while_it_is_in_use_and_says_the_same() {
    let journal: Arc<MemoryJournal> = Arc::default();
    let queues = with_queue(&journal, 1).await;
    let receiver = open(&queues, ReceiverKind::Stream).await;
    let mut longest = 0;
    loop {
        let messages = receive(&queues, &receiver, 1).await;
        let release = Settle { token: messages[0].token.clone(), verb: Verb::Release };
        queues.settle(queue("work"), vec![release]).await.unwrap();
        let length = journal.entries.lock().unwrap().len();
        if length < longest {
            break;
        }
        longest = length;
    }
    assert!(longest > 50, "it is not cut all the time");
    let snapshot = queues.snapshot().await.unwrap();
    let again = start(&journal, 1);
    let same = again.snapshot().await.unwrap();
    assert_eq!(snapshot[1..], same[1..], "all but the number of the start");
}
