//! Requests from the command line: ask and get the reply, from a pool of workers or by hand.

use crate::broker::{Broker, Launch, reason_of};
use crate::command_line::{lines, millstream, run};
use millstream::client::admin::{QueueSettings, TopicSettings};
use millstream::client::{NewRecord, QueueMessage, RequestOptions};
use millstream::types::{Position, TopicName};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

/// A condition that is not met for so long never is.
const PATIENCE: Duration = Duration::from_mins(1);

/// Ends with the test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A broker with topics `sums` and `results`, and a queue `work` on the first that tries twice, at once.
async fn start(directory: &Path) -> Broker {
    let broker = Launch::new(directory).start();
    let client = broker.client().await;
    let [sums, results] = ["sums", "results"].map(|name| TopicName::new(name).expect("valid"));
    client.create_topic(&sums, 2, &TopicSettings::default()).await.expect("created");
    client.create_topic(&results, 1, &TopicSettings::default()).await.expect("created");
    let (retry_min_ms, retry_max_ms) = (Some(0), Some(0));
    let settings = QueueSettings { attempts_max: Some(2), retry_min_ms, retry_max_ms, ..QueueSettings::default() };
    client.create_queue("work", &[sums], Position::Earliest, &settings).await.expect("created");
    broker
}

fn worker(broker: &Broker, exec: &str) -> Worker {
    let command = ["worker", "work", "-j", "4", "--reply", "--exec", exec];
    Worker(millstream(broker, &command).spawn().expect("it starts"))
}

fn ended(output: &Output) -> (Option<i32>, Vec<String>, String) {
    (output.status.code(), lines(output), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The next message of the queue, and its token.
async fn next(broker: &Broker) -> (QueueMessage, String) {
    let client = broker.client().await;
    let message = client.receive("work", 1, PATIENCE).await.expect("it answers").pop().expect("there is one");
    let token = message.record.reply_token().expect("it is a request").to_owned();
    (message, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_workers_answers_requests_with_the_output_of_any_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let _worker = worker(&broker, "read n; echo $((n * n))");
    let asked: Vec<_> = (0..8_u32)
        .map(|n| {
            let mut command = millstream(&broker, &["request", "sums", &n.to_string(), "--timeout", "60s"]);
            command.stdout(Stdio::piped()).spawn().expect("it starts")
        })
        .collect();
    for (n, child) in (0..8_u32).zip(asked) {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), lines(&output)), (Some(0), vec![(n * n).to_string()]));
    }
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_fails_when_its_work_has_failed_for_good_and_not_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let _worker = worker(&broker, "read code; echo attempt $MILLSTREAM_ATTEMPT; exit $code");
    let (code, out, error) = ended(&run(&broker, &["request", "sums", "3"]));
    assert_eq!((code, out), (Some(6), vec!["attempt 2".to_owned()]), "{error}");
    assert!(error.contains("the work has failed: the command ended with exit status: 3"), "{error}");
    let (code, out, error) = ended(&run(&broker, &["request", "sums", "65", "--json"]));
    let [line] = &out[..] else { panic!("one object: {out:?}") };
    assert_eq!(code, Some(6), "{error}");
    for fact in [r#""value":"attempt 1""#, r#""failure":"the command ended with exit status: 65""#, r#""topic":"sums""#]
    {
        assert!(line.contains(fact), "{fact} is not in {line}");
    }
    broker.stop();
}

/// The broker does not reply for a request that was given up; a worker on its dead letters can, as the documentation says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_on_the_dead_letters_says_that_the_work_has_failed_when_its_worker_cannot() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut asking = millstream(&broker, &["request", "sums", "1", "--timeout", "60s"]);
    let asking = asking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    for _ in 0..2 {
        // The command takes its worker with it, before it could say anything.
        let mut dies = worker(&broker, "kill -9 $PPID");
        assert!(!dies.0.wait().expect("it ends").success());
    }
    let create = ["queue", "create", "given-up", "--topic", "work.dlq", "--from", "earliest"];
    let created = run(&broker, &create);
    assert!(created.status.success(), "{}", ended(&created).2);
    let exec = format!(
        r#"{} reply "$MILLSTREAM_HEADER_REPLY_TOKEN" --failure "given up: $MILLSTREAM_HEADER_DEAD_LETTER_REASON" -b {}"#,
        env!("CARGO_BIN_EXE_millstream"),
        broker.address()
    );
    let command = ["worker", "given-up", "--exec", &exec];
    let _worker = Worker(millstream(&broker, &command).spawn().expect("it starts"));
    let (code, _, error) = ended(&asking.wait_with_output().expect("it ends"));
    assert_eq!(code, Some(6), "{error}");
    assert!(error.contains("the work has failed: given up: attempts_exhausted"), "{error}");
    broker.stop();
}

/// One try would be enough for anybody, and more output than a reply holds does not get less by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_output_than_a_reply_holds_is_a_failure_and_large_ones_pass() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let _worker = worker(&broker, "read bytes; head -c $bytes /dev/zero; cat >/dev/null");
    let large = run(&broker, &["request", "sums", "1000000"]);
    assert_eq!((large.status.code(), large.stdout.len()), (Some(0), 1_000_001));
    let (code, out, error) = ended(&run(&broker, &["request", "sums", "9000000"]));
    assert_eq!((code, out), (Some(6), vec![String::new()]), "{error}");
    assert!(error.contains("wrote more than"), "{error}");
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_by_hand_reaches_whoever_waits_and_nobody_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let mut asking = millstream(&broker, &["request", "sums", "-k", "k", "-H", "trace=t", "--reply-topic", "results"]);
    let mut asking = asking.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut typed = asking.stdin.take().expect("it is piped");
    typed.write_all(b"two\nlines\n").expect("it reads");
    drop(typed);
    let (message, token) = next(&broker).await;
    assert_eq!(message.record.value.as_deref(), Some(b"two\nlines".as_slice()), "but for the last newline");
    assert_eq!(message.record.key.as_deref(), Some(b"k".as_slice()));
    let given = run(&broker, &["reply", &token, "a reply", "-H", "by=hand"]);
    assert_eq!(ended(&given), (Some(0), vec![], String::new()));
    let asked = asking.wait_with_output().expect("it ends");
    assert_eq!((asked.status.code(), lines(&asked)), (Some(0), vec!["a reply".to_owned()]));
    let kept = lines(&run(&broker, &["consume", "results", "-e", "--json"])).join("\n");
    for fact in [r#""value":"a reply""#, r#"["by","hand"]"#, "correlation-id"] {
        assert!(kept.contains(fact), "{fact} is not in {kept}");
    }
    let (code, _, error) = ended(&run(&broker, &["reply", &token, "another"]));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("has a reply already"), "{error}");
    assert_eq!(run(&broker, &["reply", "nonsense", "x"]).status.code(), Some(1));
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_reply_ends_when_its_time_is_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let (code, out, error) = ended(&run(&broker, &["request", "sums", "1", "--timeout", "20ms"]));
    assert_eq!((code, out), (Some(4), vec![]), "{error}");
    assert!(error.contains("no reply came within 20 ms; the request is at sums/"), "{error}");
    let (_, token) = next(&broker).await;
    let (code, _, error) = ended(&run(&broker, &["reply", &token, "--failure", "too late"]));
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("nobody waits for this reply"), "{error}");
    assert_eq!(run(&broker, &["request", "nowhere", "1"]).status.code(), Some(3));
    broker.stop();
}

/// What `kill -9` leaves: the request in its log, a caller that knows, and a token that is good for the reply topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_survives_kill_9_of_the_broker_and_its_reply_topic_gets_the_reply() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = start(directory.path()).await;
    let client = broker.client().await;
    let options = RequestOptions { reply_topic: Some("results".to_owned()), ..RequestOptions::default() };
    let asking = tokio::spawn(async move { client.request("sums", NewRecord::value(b"q"), &options).await });
    next(&broker).await;
    broker.kill();
    let lost = asking.await.expect("no panic").expect_err("the broker has gone");
    assert!(lost.is_retryable(), "the outcome is not known: {lost}");

    let broker = Launch::new(directory.path()).start();
    let (_, token) = next(&broker).await;
    let client = broker.client().await;
    let receipt = client.reply(&token, NewRecord::value(b"r"), None).await.expect("its topic is there");
    assert!(!receipt.delivered && receipt.appended.is_some_and(|at| at.offset.0 == 0));
    let again = client.reply(&token, NewRecord::value(b"r"), None).await.expect_err("it has one");
    assert_eq!(reason_of(&again), "REPLY_ALREADY_GIVEN");
    broker.stop();
}
