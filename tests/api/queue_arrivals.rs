//! New records and the receivers that wait for them: each record wakes one, and none is left lying while somebody has room.

use crate::common::queue_stream::{QueueStream, ack, open_with_window};
use crate::common::records::{numbered, set};
use crate::common::{TestBroker, within};
use crate::queues::{broker_with, patient};
use millstream::broker::queues::receiving::Receiver;
use millstream::broker::{ReceiverKind, Window};
use std::time::Duration;
use tokio::sync::mpsc;

/// Long for a wake-up, short for a test.
const A_WHILE: Duration = Duration::from_millis(200);

/// Receivers that wait; each comes out when it is woken.
struct Waiting {
    woken: mpsc::Receiver<Receiver>,
    wait: mpsc::Sender<Receiver>,
}

impl Waiting {
    async fn with(broker: &TestBroker, count: usize) -> Self {
        let (wait, woken) = mpsc::channel(16);
        let mut waiting = Self { woken, wait };
        for _ in 0..count {
            let window = Window { messages: 10, bytes: 1 << 20 };
            let opened = broker.inside().open_receiver("work", ReceiverKind::Stream, window).await;
            waiting.let_wait(opened.expect("it opens"));
        }
        // One is woken when it finds out which logs there are.
        for mut receiver in waiting.all_that_are_woken().await {
            assert_eq!(receiver.take(10, 1 << 20).await.expect("the queue is there").len(), 0);
            waiting.let_wait(receiver);
        }
        assert!(waiting.all_that_are_woken().await.is_empty(), "there was nothing to look for");
        waiting
    }

    /// Lets it wait until there are messages for it.
    fn let_wait(&self, mut receiver: Receiver) {
        let woken = self.wait.clone();
        tokio::spawn(async move {
            receiver.more().await;
            // At the end of the test nobody wants to know.
            let _ = woken.send(receiver).await;
        });
    }

    /// The next that is woken and finds messages; those that find none wait again.
    async fn next_with_messages(&mut self) -> (Receiver, usize) {
        loop {
            let mut receiver = within("a receiver to be woken", self.woken.recv()).await.expect("it is open");
            let messages = receiver.take(10, 1 << 20).await.expect("the queue is there");
            if !messages.is_empty() {
                return (receiver, messages.len());
            }
            self.let_wait(receiver);
        }
    }

    async fn all_that_are_woken(&mut self) -> Vec<Receiver> {
        tokio::time::sleep(A_WHILE).await;
        std::iter::from_fn(|| self.woken.try_recv().ok()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_wakes_one_of_those_who_wait() {
    let broker = broker_with(0, patient()).await;
    let mut waiting = Waiting::with(&broker, 6).await;
    for i in 0..10 {
        broker.append("orders", 0, set(numbered(&format!("m{i}"), 1))).await;
        let (receiver, messages) = waiting.next_with_messages().await;
        assert_eq!(messages, 1);
        assert!(waiting.all_that_are_woken().await.is_empty(), "others were woken for nothing");
        waiting.let_wait(receiver);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_before_it_has_looked_hands_its_turn_on() {
    let broker = broker_with(0, patient()).await;
    let mut waiting = Waiting::with(&broker, 4).await;
    broker.append("orders", 0, set(numbered("m", 1))).await;
    for _ in 0..3 {
        drop(within("a receiver to be woken", waiting.woken.recv()).await.expect("it is open"));
    }
    assert_eq!(waiting.next_with_messages().await.1, 1);
}

/// Streams with a window of one message, most of them full, some of which vanish: a record that comes always finds the one
/// that has room.
#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_left_lying_while_somebody_has_room() {
    let broker = broker_with(0, patient()).await;
    let open = async || QueueStream::open(&broker, open_with_window("work", 1)).await.expect("it opens");
    let mut full = Vec::new();
    for round in 0..30_u64 {
        let mut idle = open().await;
        broker.append("orders", 0, set(numbered(&format!("m{round}-"), 1))).await;
        let messages = idle.take(1).await;
        match round % 3 {
            // Stays, and has no room.
            0 => full.push(idle),
            // Vanishes with nothing in its hands.
            1 => assert_eq!(idle.settle(vec![ack(&messages[0])]).await, []),
            // Vanishes: its message is somebody else's.
            _ => {
                drop(idle);
                let mut next = open().await;
                let messages = next.take(1).await;
                assert_eq!(next.settle(vec![ack(&messages[0])]).await, []);
                next.close().await;
            }
        }
    }
}
