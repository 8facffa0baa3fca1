//! What a person does to a group from a terminal: move it, fork it, pause it, take a member out, read as it.

use crate::broker::{Broker, Launch};
use crate::command_line::{lines, millstream, run};
use millstream::client::admin::TopicSettings;
use millstream::client::{NewRecord, ProducerOptions};
use millstream::types::TopicName;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

/// A broker with ten records, `0` to `9`, in `orders`.
async fn broker_with_records(directory: &Path) -> Broker {
    let broker = Launch::new(directory).start();
    let client = broker.client().await;
    let topic = TopicName::new("orders").expect("valid");
    client.create_topic(&topic, 1, &TopicSettings::default()).await.expect("created");
    let producer = client.producer("orders", ProducerOptions::default()).await.expect("opens");
    for number in 0..10 {
        let value = number.to_string();
        producer.send(NewRecord::value(value.as_bytes())).await.expect("sent").wait().await.expect("appended");
    }
    broker
}

fn object(output: &Output) -> Value {
    let printed = lines(output);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(printed.len(), 1, "{printed:?}");
    serde_json::from_str(&printed[0]).expect("one object")
}

/// What is wrong with a call that was refused.
fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{:?}", lines(output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_moved_forked_paused_and_read_from_the_command_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker_with_records(directory.path()).await;
    let seek = ["group", "seek", "audit", "--topic", "orders", "--to", "4", "--json"];
    let would = run(&broker, &[&seek[..], &["--dry-run"]].concat());
    assert_eq!(object(&would)["offset"], 4);
    assert!(refusal(&run(&broker, &["group", "describe", "audit"])).contains("audit"), "nothing was set");
    assert_eq!(object(&run(&broker, &seek))["offset"], 4);

    let fork = ["group", "fork", "audit", "audit-try", "--json"];
    assert_eq!(object(&run(&broker, &fork))["offset"], 4);
    assert!(refusal(&run(&broker, &fork)).contains("audit-try"), "it has offsets by now");
    let read = run(&broker, &["consume", "--pattern", "ord*", "-g", "audit-try", "-n", "6"]);
    assert_eq!(lines(&read), ["4", "5", "6", "7", "8", "9"]);
    let lag_of = |group: &str| object(&run(&broker, &["group", "describe", group, "--json"]))["lag"]["records"].clone();
    assert_eq!((lag_of("audit-try"), lag_of("audit")), (0.into(), 6.into()), "the one it came from did not move");

    let is_paused = || object(&run(&broker, &["group", "describe", "audit", "--json"]))["paused"].clone();
    assert!(run(&broker, &["group", "pause", "audit"]).status.success());
    assert_eq!(is_paused(), true);
    let nothing = run(&broker, &["consume", "orders", "-g", "audit", "-n", "1", "--timeout", "300ms"]);
    assert_eq!((nothing.status.code(), lines(&nothing).len()), (Some(4), 0));
    assert!(run(&broker, &["group", "resume", "audit"]).status.success());
    assert_eq!(is_paused(), false);
    let one = run(&broker, &["consume", "orders", "-g", "audit", "-n", "1", "--instance-id", "desk"]);
    assert_eq!(lines(&one), ["4"]);
    let away = object(&run(&broker, &["group", "describe", "audit", "--json"]));
    assert_eq!(away["members"][0]["instance_id"], "desk");
    assert_eq!(away["members"][0]["away"], true, "its partitions wait for it");
    let kept = refusal(&run(&broker, &["group", "delete", "audit", "--yes"]));
    assert!(kept.contains("member"), "{kept}");
    assert!(run(&broker, &["group", "delete", "audit-try", "--yes"]).status.success());
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_member_is_found_and_taken_out_from_the_command_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker_with_records(directory.path()).await;
    let read = ["consume", "--pattern", "ord*", "-g", "audit", "--assignor", "range", "-o", "earliest", "--json"];
    let mut reader = millstream(&broker, &read);
    let mut reader = reader.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut first = String::new();
    BufReader::new(reader.stdout.as_mut().expect("it is piped")).read_line(&mut first).expect("it reads");
    let described = object(&run(&broker, &["group", "describe", "audit", "--json"]));
    let member = &described["members"][0];
    assert_eq!((&described["assignor"], &member["assignor"]), (&"range".into(), &"range".into()));
    assert_eq!((&member["topics"], &member["topic_patterns"]), (&json!([]), &json!(["ord*"])));
    let id = member["member_id"].as_str().expect("it has one").to_owned();
    let table = lines(&run(&broker, &["group", "describe", "audit"]));
    assert!(table[0].ends_with("shared in ranges"), "{table:?}");
    let line = table.iter().find(|line| line.starts_with(&id)).expect("it is listed");
    assert!(line.contains("ord*") && line.contains("range"), "{line}");

    let evicted = run(&broker, &["group", "evict", "audit", &id]);
    assert!(evicted.status.success(), "{}", String::from_utf8_lossy(&evicted.stderr));
    let ended = reader.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("taken out of its group"), "{said}");
    let again = run(&broker, &["group", "evict", "audit", &id]);
    assert_eq!(again.status.code(), Some(3));
    assert!(refusal(&again).contains("millstream group describe audit"), "it says where to look");
    let empty = object(&run(&broker, &["group", "describe", "audit", "--json"]));
    assert_eq!((&empty["assignor"], &empty["members"]), (&Value::Null, &json!([])));
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_meant_is_refused_before_anything_is_done() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker_with_records(directory.path()).await;
    for (arguments, named) in [
        (&["group", "pause", "nobody"][..], "nobody"),
        (&["group", "evict", "nobody", "member-1"], "nobody"),
        (&["group", "fork", "nobody", "other"], "nobody"),
        (&["group", "seek", "audit", "--topic", "nowhere", "--to", "earliest"], "nowhere"),
        (&["group", "seek", "audit", "--topic", "orders", "--to", "yesterday"], "yesterday"),
        (&["consume", "--pattern", "ord*"], "--group"),
    ] {
        let output = millstream(&broker, arguments).output().expect("the binary was built by cargo");
        let said = refusal(&output);
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    assert_eq!(lines(&run(&broker, &["group", "list", "--json"])), [""; 0]);
    broker.stop();
}
