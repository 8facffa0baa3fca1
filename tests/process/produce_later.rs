//! `produce --delay` and `--deliver-at`: what is typed comes later, and what makes no sense with it is refused by name.

use crate::broker::{Broker, Launch};
use crate::command_line::{lines, millstream, run};
use millstream::client::admin::TopicSettings;
use millstream::types::TopicName;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// 2126-01-31T12:00:00Z, in milliseconds: far enough that nothing is due while a test runs.
const FAR_MS: i64 = 4_925_534_400_000;
const FAR: &str = "2126-01-31T12:00:00Z";

async fn broker(directory: &Path) -> Broker {
    let broker = Launch::new(directory).start();
    let topic = TopicName::new("orders").expect("valid");
    broker.client().await.create_topic(&topic, 2, &TopicSettings::default()).await.expect("created");
    broker
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What was typed into a command that reads its input.
fn typed(mut command: Command, input: &[u8]) -> Output {
    let mut running = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    running.stdin.take().expect("it is piped").write_all(input).expect("it reads");
    running.wait_with_output().expect("it ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_produced_with_a_delay_is_a_schedule_until_it_is_due() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path()).await;
    let output = run(&broker, &["produce", "orders", "--deliver-at", FAR, "-k", "table-7", "-H", "trace=t", "far"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", said(&output));
    let report = said(&output);
    assert!(report.starts_with("1 record is due 2126-01-31T12:00:00.000Z, as schedule "), "{report}");
    let id = report.trim().rsplit(' ').next().expect("it ends with the id").to_owned();

    let client = broker.client().await;
    let (schedule, record) = client.describe_schedule(&id).await.expect("it is there");
    assert_eq!((schedule.due, schedule.topic.as_str(), schedule.partition), (FAR_MS, "orders", None));
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"table-7"[..]), Some(&b"far"[..])));
    assert_eq!(record.headers[0].0, "trace");

    let output = run(&broker, &["produce", "orders", "--delay", "10ms", "-p", "1", "soon", "later"]);
    let report = said(&output);
    assert!(output.status.success() && report.starts_with("2 records are due "), "{report}");
    let read = run(&broker, &["consume", "orders", "-p", "1", "-o", "earliest", "-n", "2", "--timeout", "30s"]);
    let mut values = lines(&read);
    values.sort_unstable();
    assert_eq!(values, ["later", "soon"]);
    let output = run(&broker, &["produce", "orders", "--delay", "1h", "--quiet", "silent"]);
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_and_json_are_cut_into_records_as_without_a_delay() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path()).await;
    // More than one call takes, and a last line without its end.
    let many: Vec<String> = (0..2_500).map(|number| format!("key-{number}:{number}")).collect();
    let output =
        typed(millstream(&broker, &["produce", "orders", "--deliver-at", FAR, "-K", ":"]), many.join("\n").as_bytes());
    assert!(said(&output).contains("2500 records are due 2126-01-31T12:00:00.000Z"), "{}", said(&output));
    assert_eq!(lines(&run(&broker, &["schedule", "list", "--topic", "orders", "--json"])).len(), 2_500);

    let json = br#"{"partition":1,"key":"k","value":"v","timestamp_ms":5,"message_id":"payment-17"}"#;
    // By the name of its own, which is how people type it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream-produce"));
    command
        .args(["orders", "--json", "--keep-partition", "--delay", "0", "--broker"])
        .arg(broker.address().to_string());
    let output = typed(command, json);
    assert!(output.status.success(), "{}", said(&output));
    let read = run(&broker, &["consume", "orders", "-o", "earliest", "-n", "1", "--json", "--timeout", "30s"]);
    let read: serde_json::Value = serde_json::from_str(&lines(&read)[0]).expect("an object");
    assert_eq!((&read["partition"], &read["key"], &read["value"]), (&1.into(), &"k".into(), &"v".into()));
    assert_eq!((&read["message_id"], &read["timestamp_ms"]), (&"payment-17".into(), &5.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_with_a_delay_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path()).await;
    for option in [
        &["--producer-name", "p"][..],
        &["--no-idempotence"],
        &["--expected-offset", "0", "-p", "0"],
        &["--fencing-token", "1"],
        &["--rate", "5/s"],
        &["--durability", "written"],
        &["--batch-bytes", "1KiB"],
        &["--linger", "1ms"],
        &["--timeout", "1s"],
        &["--deliver-at", FAR],
    ] {
        let output = run(&broker, &[&["produce", "orders", "--delay", "1s", "x"], option].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{option:?}: {said}");
        assert!(said.contains(option[0]) && said.contains("cannot be used with"), "{option:?}: {said}");
    }
    for (code, words, arguments) in [
        (2, "500ms, 10s", &["produce", "orders", "--delay", "soon", "x"][..]),
        (2, "2026-01-31T12:00:00Z", &["produce", "orders", "--deliver-at", "tomorrow", "x"]),
        (3, "millstream topic create nowhere", &["produce", "nowhere", "--delay", "1s", "x"]),
        (3, "partition", &["produce", "orders", "--delay", "1s", "-p", "9", "x"]),
    ] {
        let output = run(&broker, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
    assert!(lines(&run(&broker, &["schedule", "list", "--json"])).is_empty(), "nothing of what was refused is added");
    let output = typed(millstream(&broker, &["produce", "orders", "--json", "--delay", "1h"]), b"{\"value\":\"a\"}\n{");
    // As without a delay: what stands before a bad line is kept, and it is said how much that is.
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("1 record was added") && said(&output).contains("line 2"), "{}", said(&output));
    assert_eq!(lines(&run(&broker, &["schedule", "list", "--json"])).len(), 1);
}
