//! Queues from the command line: any program as a worker, and what its end says about a message.

use crate::broker::{Broker, Launch};
use crate::command_line::{lines, millstream, run};
use millstream::client::admin::{QueueDescription, QueueSettings};
use millstream::client::{Client, NewRecord, ProducerOptions, Verdict};
use millstream::types::{Position, TopicName};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::Duration;

/// A condition that is not met for so long never is.
const PATIENCE: Duration = Duration::from_mins(1);

/// A broker with these messages in a queue `work`; of keys `k0`, `k1`, ..., each with a header.
async fn broker_with(directory: &Path, values: &[&str], settings: &QueueSettings) -> (Broker, Client) {
    let broker = Launch::new(directory).start();
    let client = broker.client().await;
    let topic = TopicName::new("orders").expect("valid");
    client.create_topic(&topic, 1, &millstream::client::admin::TopicSettings::default()).await.expect("created");
    client.create_queue("work", &[topic], Position::Earliest, settings).await.expect("created");
    let producer = client.producer("orders", ProducerOptions::default()).await.expect("opens");
    for (number, value) in values.iter().enumerate() {
        let (key, headers) = (format!("k{number}"), [("trace-id", b"t".as_slice())]);
        let record = NewRecord::value(value.as_bytes()).with_key(key.as_bytes()).with_headers(&headers);
        producer.send(record).await.expect("sent").wait().await.expect("appended");
    }
    (broker, client)
}

/// Retries at once, and gives up after so many attempts.
fn attempts(attempts_max: u32) -> QueueSettings {
    let (retry_min_ms, retry_max_ms) = (Some(0), Some(0));
    QueueSettings { attempts_max: Some(attempts_max), retry_min_ms, retry_max_ms, ..QueueSettings::default() }
}

/// Looks at the queue until it is so far.
async fn until(client: &Client, is_so_far: impl Fn(&QueueDescription) -> bool) -> QueueDescription {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        loop {
            looks.tick().await;
            let described = client.describe_queue("work").await.expect("it answers");
            if is_so_far(&described) {
                return described;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the queue comes so far")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_of_a_worker_decides_what_becomes_of_a_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = broker_with(directory.path(), &["0", "65", "3", "0"], &attempts(2)).await;
    let seen = directory.path().join("seen");
    let exec = format!(
        "read code; echo $code $MILLSTREAM_KEY $MILLSTREAM_QUEUE/$MILLSTREAM_TOPIC/$MILLSTREAM_PARTITION/\
         $MILLSTREAM_OFFSET $MILLSTREAM_ATTEMPT $MILLSTREAM_HEADER_TRACE_ID >> {}; exit $code",
        seen.display()
    );
    let mut worker = millstream(&broker, &["worker", "work", "-j", "3", "--exec", &exec]).spawn().expect("it starts");
    let described = until(&client, |found| found.partitions[0].low_watermark.0 == 4).await;
    assert_eq!((described.acked, described.dead_lettered, described.receivers), (2, 2, 1));
    let pid = Pid::from_raw(worker.id().cast_signed()).expect("it has one");
    kill_process(pid, Signal::INT).expect("it runs");
    assert_eq!(worker.wait().expect("it ends").code(), Some(0), "told to stop, it stops in order");

    let mut seen: Vec<_> = std::fs::read_to_string(&seen).expect("it ran").lines().map(str::to_owned).collect();
    seen.sort_unstable();
    let expected = [
        "0 k0 work/orders/0/0 1 t",
        "0 k3 work/orders/0/3 1 t",
        "3 k2 work/orders/0/2 1 t",
        "3 k2 work/orders/0/2 2 t",
        "65 k1 work/orders/0/1 1 t",
    ];
    assert_eq!(seen, expected);
    let letters = run(&broker, &["consume", "work.dlq", "-e", "--json"]);
    let letters = lines(&letters).join("\n");
    for fact in ["rejected", "attempts_exhausted", "the command ended with exit status: 3", "dead-letter-offset"] {
        assert!(letters.contains(fact), "{fact} is not in {letters}");
    }
    broker.stop();
}

/// The lease dies with the connection, at once, and the attempt counts; or else this would go on for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_its_worker_is_given_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = broker_with(directory.path(), &["poison"], &attempts(2)).await;
    for _ in 0..2 {
        let ended = run(&broker, &["worker", "work", "--exec", "kill -9 $PPID"]);
        assert_eq!(ended.status.code(), None, "it was killed");
    }
    let described = until(&client, |found| found.partitions[0].low_watermark.0 == 1).await;
    assert_eq!((described.delivered, described.dead_lettered), (2, 1));
    broker.stop();
}

/// What was answered is kept, and what was handed out counts: a message that kills its broker cannot do so for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_and_attempts_survive_kill_9_of_the_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = broker_with(directory.path(), &["a", "b", "c", "d"], &attempts(0)).await;
    let messages = client.receive("work", 3, PATIENCE).await.expect("there are some");
    let verdicts = vec![
        messages[0].settle(Verdict::Ack),
        messages[1].settle(Verdict::Nack { delay: Some(Duration::from_hours(1)), reason: String::new() }),
    ];
    assert!(client.settle("work", verdicts).await.expect("answered").is_empty());
    broker.kill();
    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    let mut again = client.receive("work", 9, PATIENCE).await.expect("there are some");
    again.sort_by_key(|message| message.record.offset);
    let seen: Vec<_> = again.iter().map(|message| (message.record.offset.0, message.attempt)).collect();
    assert_eq!(seen, [(2, 2), (3, 1)], "the first is done, the second waits");
    let refused = client.settle("work", vec![messages[2].settle(Verdict::Ack)]).await.expect("answered");
    assert_eq!(refused[0].refusal.reason, "LEASE_OVER");
    broker.stop();
}

/// A worker that is told to stop finishes what runs and gives back nothing that was worked on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_worker_finishes_what_is_under_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = broker_with(directory.path(), &["slow"], &attempts(9)).await;
    // The command interrupts its worker, and goes on for a while.
    let exec = "kill -INT $PPID; sleep 0.3; exit 0";
    let ended = run(&broker, &["worker", "work", "--exec", exec]);
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let described = client.describe_queue("work").await.expect("it answers");
    assert_eq!((described.partitions[0].low_watermark.0, described.delivered, described.acked), (1, 1, 1));
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_looked_at_given_back_and_taken_from_the_command_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, _client) = broker_with(directory.path(), &["a", "b", "c"], &attempts(0)).await;
    let peeked = run(&broker, &["queue", "peek", "work", "--json"]);
    assert_eq!(lines(&peeked).len(), 3);
    assert!(lines(&peeked)[0].contains(r#""state":"available""#), "{peeked:?}");
    let given_back = run(&broker, &["queue", "receive", "work", "-n", "2", "--no-ack"]);
    assert_eq!(lines(&given_back), ["a", "b"]);
    let taken = run(&broker, &["queue", "receive", "work", "-n", "9", "--json"]);
    assert_eq!(lines(&taken).len(), 3, "{taken:?}");
    assert!(lines(&taken)[0].contains(r#""attempt":1"#), "what was given back does not count: {taken:?}");
    let nothing = run(&broker, &["queue", "receive", "work"]);
    assert_eq!((nothing.status.code(), nothing.stdout.len()), (Some(4), 0));
    assert_eq!(run(&broker, &["queue", "receive", "nope"]).status.code(), Some(3));

    for (verb, shown) in [("pause", "paused"), ("resume", "active")] {
        assert!(run(&broker, &["queue", verb, "work"]).status.success());
        let listed = lines(&run(&broker, &["queue", "list"])).join("\n");
        assert!(listed.contains(shown), "{listed}");
    }
    let mail = ["queue", "create", "mail", "-t", "orders", "--attempts", "3", "--ordered-by-key"];
    let created = run(&broker, &[&mail[..], &["--durability", "written"]].concat());
    assert!(created.status.success(), "{created:?}");
    assert!(run(&broker, &["queue", "update", "mail", "--lease", "5m"]).status.success());
    let described = lines(&run(&broker, &["queue", "describe", "mail"])).join("\n");
    for fact in ["lease 5m", "3 attempts, then mail.dlq", "settlements confirmed when written"] {
        assert!(described.contains(fact), "{fact}: {described}");
    }
    assert!(run(&broker, &["queue", "delete", "mail", "--yes"]).status.success());
    assert_eq!(run(&broker, &["queue", "describe", "mail"]).status.code(), Some(3));
    broker.stop();
}
