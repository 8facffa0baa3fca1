//! Schedules from the command line, as a person types them.

use crate::broker::{Broker, Launch};
use crate::command_line::{lines, millstream, run};
use millstream::client::admin::TopicSettings;
use millstream::types::TopicName;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

async fn broker(directory: &Path) -> Broker {
    let broker = Launch::new(directory).start();
    let topic = TopicName::new("orders").expect("valid");
    broker.client().await.create_topic(&topic, 1, &TopicSettings::default()).await.expect("created");
    broker
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lines(output).iter().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// The exit code and the words of a call that fails.
fn refusal(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_added_listed_shown_changed_cancelled_and_delivered_as_typed() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path()).await;
    let add = ["schedule", "add", "orders", "--delay", "1h", "--id", "a", "-k", "k", "-H", "trace=t", "hello"];
    assert_eq!(lines(&run(&broker, &add)), ["a"]);
    let cron = ["schedule", "add", "orders", "--cron", "0 9 * * 1-5", "--time-zone", "Europe/Berlin", "--id", "b", "x"];
    assert_eq!(lines(&run(&broker, &cron)), ["b"]);
    let at = ["schedule", "add", "orders", "--at", "2126-01-31T12:00:00+01:00", "--json", "far"];
    let far = &objects(&run(&broker, &at))[0];
    assert_eq!(far["due_ms"], 4_925_530_800_000_i64);

    let listed = objects(&run(&broker, &["schedule", "list", "--json"]));
    assert_eq!(listed.len(), 3);
    assert_eq!((&listed[0]["id"], &listed[0]["state"], &listed[2]["id"]), (&"a".into(), &"waiting".into(), &far["id"]));
    let table = lines(&run(&broker, &["schedule", "list", "--topic", "orders", "-n", "2"]));
    assert!(table.len() == 3 && table[0].starts_with("DUE"), "{table:?}");
    let cron_line = table.iter().find(|line| line.contains("  b  ")).expect("it is listed");
    assert!(cron_line.contains("0 9 * * 1-5 Europe/Berlin"), "{cron_line}");

    let shown = &objects(&run(&broker, &["schedule", "show", "a", "--json"]))[0];
    assert_eq!((&shown["record"]["key"], &shown["record"]["value"]), (&"k".into(), &"hello".into()));
    assert_eq!(shown["record"]["headers"], serde_json::json!([["trace", "t"]]));
    let shown = lines(&run(&broker, &["schedule", "show", "b"])).join("\n");
    assert!(shown.contains("0 9 * * 1-5 Europe/Berlin") && shown.contains("waiting"), "{shown}");

    assert!(run(&broker, &["schedule", "reschedule", "a", "--delay", "10ms"]).status.success());
    let read = run(&broker, &["consume", "orders", "-o", "earliest", "-n", "1", "--json", "--timeout", "30s"]);
    let delivered = &objects(&read)[0];
    assert_eq!((&delivered["key"], &delivered["value"]), (&"k".into(), &"hello".into()));
    assert_eq!(delivered["headers"][1], serde_json::json!(["schedule-id", "a"]));
    let (append_ms, due_ms) = (delivered["append_time_ms"].as_i64(), delivered["headers"][2][1].as_str());
    assert!(append_ms >= due_ms.map(|due| due.parse().expect("a number")), "{delivered}");

    assert!(run(&broker, &["schedule", "cancel", "b"]).status.success());
    assert_eq!(refusal(&run(&broker, &["schedule", "show", "b"])).0, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_the_input_are_a_record_each() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path()).await;
    let mut adding = millstream(&broker, &["schedule", "add", "orders", "--delay", "0"]);
    let mut adding = adding.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut input = adding.stdin.take().expect("it is piped");
    for number in 0..2_500 {
        writeln!(input, "line {number}").expect("it reads");
    }
    drop(input);
    let added = lines(&adding.wait_with_output().expect("it ends"));
    assert_eq!(added.len(), 2_500);
    let read = run(&broker, &["consume", "orders", "-o", "earliest", "-n", "2500", "--timeout", "30s"]);
    let mut values = lines(&read);
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 2_500);
    assert!(values.iter().all(|value| value.starts_with("line ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path()).await;
    for (code, words, arguments) in [
        (2, "--delay", &["schedule", "add", "orders", "x"][..]),
        (2, "cannot be used with", &["schedule", "add", "orders", "--delay", "1s", "--at", "1", "x"]),
        (2, "500ms, 10s", &["schedule", "add", "orders", "--delay", "soon", "x"]),
        (2, "2026-01-31T12:00:00Z", &["schedule", "add", "orders", "--at", "tomorrow", "x"]),
        (2, "cannot be used with", &["schedule", "add", "orders", "--delay", "1s", "--time-zone", "UTC", "x"]),
        (2, "for one record", &["schedule", "add", "orders", "--delay", "1s", "--id", "a", "x", "y"]),
        (1, "4 fields", &["schedule", "add", "orders", "--cron", "0 9 * *", "x"]),
        (1, "Europe/Berlin", &["schedule", "add", "orders", "--cron", "0 9 * * *", "--time-zone", "Nowhere", "x"]),
        (1, "id is not valid", &["schedule", "add", "orders", "--delay", "1s", "--id", "a b", "x"]),
        (3, "millstream topic create nowhere", &["schedule", "add", "nowhere", "--delay", "1s", "x"]),
        (3, "there is no schedule", &["schedule", "cancel", "none"]),
        (3, "there is no schedule", &["schedule", "reschedule", "none", "--delay", "1s"]),
    ] {
        let (found, said) = refusal(&run(&broker, arguments));
        assert_eq!(found, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert!(lines(&run(&broker, &["schedule", "list", "--json"])).is_empty());
}
