//! What a person says about a queue from a terminal, beyond working on it: ages, priorities, the breaker, blocked keys, and
//! time that is let pass.

use crate::broker::{Broker, Launch};
use crate::command_line::{lines, run};
use serde_json::Value;
use std::path::Path;

/// A broker for tests, with nothing in it.
fn broker(directory: &Path) -> Broker {
    Launch::new(directory).argument("--ephemeral").argument("--manual-clock").start()
}

/// What a verb printed, one object a line.
fn objects(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let output = run(broker, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    lines(&output).iter().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// What is wrong with a call that was refused.
fn refusal(broker: &Broker, arguments: &[&str]) -> String {
    let output = run(broker, arguments);
    assert!(!output.status.success(), "{arguments:?}: {:?}", lines(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn ages_priorities_and_the_breaker_are_set_shown_and_taken_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path());
    assert!(run(&broker, &["topic", "create", "alerts", "--partitions", "10"]).status.success());
    let create = ["queue", "create", "alerts", "--topic", "alerts", "--from", "earliest", "--priority-by-partition"];
    let settings = ["--message-ttl", "1h", "--breaker", "50", "--breaker-pause", "5m", "--retry-multiplier", "300"];
    let created = &objects(&broker, &[&create[..], &settings, &["--json"]].concat())[0];
    assert_eq!((&created["message_ttl_ms"], &created["priority_by_partition"]), (&3_600_000.into(), &true.into()));
    assert_eq!((&created["breaker_failures_percent"], &created["breaker_pause_ms"]), (&50.into(), &300_000.into()));
    assert_eq!(
        (&created["dead_letter_topic"], &created["retry_multiplier_percent"]),
        (&"alerts.dlq".into(), &300.into())
    );
    let described = String::from_utf8_lossy(&run(&broker, &["queue", "describe", "alerts"]).stdout).into_owned();
    for words in ["messages live 1h", "higher partitions first", "pauses 5m when 50% of 20 deliveries fail", "0 failed"]
    {
        assert!(described.contains(words), "{words:?} is not in {described}");
    }

    for (partition, value) in [("0", "calm"), ("9", "fire")] {
        assert!(run(&broker, &["produce", "alerts", "--partition", partition, value]).status.success());
    }
    assert_eq!(lines(&run(&broker, &["queue", "receive", "alerts", "-n", "1"])), ["fire"]);
    let now = run(&broker, &["broker", "advance-clock", "2h"]);
    assert!(lines(&now)[0].starts_with("the clock shows "), "{now:?}");
    assert_eq!(lines(&run(&broker, &["queue", "receive", "alerts", "-n", "1"])), [""; 0], "the other one is too old");

    let taken = ["queue", "update", "alerts", "--message-ttl", "0s", "--breaker", "0", "--priority-by-partition=false"];
    let updated = &objects(&broker, &[&taken[..], &["--json"]].concat())[0];
    assert_eq!((&updated["message_ttl_ms"], &updated["priority_by_partition"]), (&0.into(), &false.into()));
    assert_eq!(updated["breaker_failures_percent"], 0);
    let refused = refusal(&broker, &["queue", "update", "alerts", "--breaker", "101"]);
    assert!(refused.contains("breaker.failures_percent: 101 is not from 1 to 100"), "{refused}");
    broker.stop();
}

#[test]
fn keys_that_hold_up_others_are_shown_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path());
    assert!(run(&broker, &["topic", "create", "orders"]).status.success());
    assert!(
        run(&broker, &["queue", "create", "work", "--topic", "orders", "--ordered-by-key", "--from", "earliest"])
            .status
            .success()
    );
    for (key, value) in [("ada", "1"), ("ada", "2"), ("ben", "3"), ("ada", "4")] {
        assert!(run(&broker, &["produce", "orders", "--key", key, value]).status.success());
    }
    // Reads all of it, gives the first of each key back, and so leaves the others where they are.
    assert!(run(&broker, &["queue", "receive", "work", "-n", "4", "--no-ack"]).status.success());
    let blocked = objects(&broker, &["queue", "blocked", "work", "--json"]);
    let told: Vec<_> =
        blocked.iter().map(|key| (&key["key"], &key["offset"], &key["blocked"], &key["state"])).collect();
    assert_eq!(told, [(&"ada".into(), &0.into(), &2.into(), &"available".into())]);
    let table = lines(&run(&broker, &["queue", "blocked", "work"])).join("\n");
    assert!(table.contains("KEY") && table.contains("ada"), "{table}");
    assert!(refusal(&broker, &["queue", "blocked", "nothing"]).contains("no queue nothing"));
    broker.stop();
}

#[test]
fn a_queue_of_a_pattern_takes_topics_made_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = broker(directory.path());
    let create = ["queue", "create", "audit", "--pattern", "orders.*", "--from", "earliest"];
    let created = &objects(&broker, &[&create[..], &["--json"]].concat())[0];
    assert_eq!(
        (&created["topic_patterns"][0], created["topics"].as_array().map(Vec::len)),
        (&"orders.*".into(), Some(0))
    );
    assert!(run(&broker, &["topic", "create", "orders.eu"]).status.success());
    assert!(run(&broker, &["produce", "orders.eu", "one"]).status.success());
    assert_eq!(lines(&run(&broker, &["queue", "receive", "audit", "--wait", "30s"])), ["one"]);
    let listed = lines(&run(&broker, &["queue", "list"])).join("\n");
    assert!(listed.contains("orders.*"), "{listed}");
    assert!(refusal(&broker, &["queue", "create", "none"]).contains("--topic"));
    broker.stop();
}

#[test]
fn only_a_broker_for_tests_has_a_clock_that_can_be_moved() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = Launch::new(directory.path()).argument("--manual-clock").command().output().expect("it runs");
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("broker.manual_clock") && refused.contains("ephemeral"), "{refused}");
    let broker = Launch::new(directory.path()).start();
    assert!(refusal(&broker, &["broker", "advance-clock", "1h"]).contains("--manual-clock"));
    broker.stop();
}
