//! Filters as they are typed: reading a part of a topic, a queue of a part, and mistakes shown at their place.

use crate::broker::Launch;
use crate::command_line::{lines, run};
use millstream::client::admin::TopicSettings;
use millstream::client::{NewRecord, ProducerOptions};
use millstream::types::TopicName;

const REFUNDS: &str = r#"attributes.type = "refund" AND hasPrefix(key, "eu-")"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_topic_is_read_and_worked_on_from_the_command_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    client
        .create_topic(&TopicName::new("orders").expect("valid"), 1, &TopicSettings::default())
        .await
        .expect("created");
    let producer = client.producer("orders", ProducerOptions::default()).await.expect("opens");
    for (key, kind) in
        [("eu-1", "order"), ("eu-2", "refund"), ("us-3", "refund"), ("eu-4", "refund"), ("eu-5", "order")]
    {
        let headers = [("type", kind.as_bytes())];
        let record = NewRecord::value(key.as_bytes()).with_key(key.as_bytes()).with_headers(&headers);
        producer.send(record).await.expect("sent").wait().await.expect("appended");
    }

    let read = run(&broker, &["consume", "orders", "-e", "--filter", REFUNDS, "-f", "%o %s\\n"]);
    assert_eq!(lines(&read), ["1 eu-2", "3 eu-4"], "{read:?}");
    let in_group = ["consume", "orders", "-g", "refunds", "-e", "--filter", REFUNDS];
    assert_eq!(lines(&run(&broker, &in_group)), ["eu-2", "eu-4"]);
    let described = lines(&run(&broker, &["group", "describe", "refunds", "--json"])).join("\n");
    assert!(described.contains(r#""committed_offset":5"#), "what does not match is committed past: {described}");
    let nothing = ["consume", "orders", "-g", "none", "-e", "--filter", "attributes:missing"];
    assert_eq!(run(&broker, &nothing).status.code(), Some(0), "it ends where the log does");
    let described = lines(&run(&broker, &["group", "describe", "none", "--json"])).join("\n");
    assert!(described.contains(r#""committed_offset":5"#), "{described}");

    let create = ["queue", "create", "refunds", "-t", "orders", "--from", "earliest", "--filter", REFUNDS];
    assert!(run(&broker, &create).status.success());
    assert_eq!(lines(&run(&broker, &["queue", "peek", "refunds", "--json"])).len(), 2);
    assert_eq!(lines(&run(&broker, &["queue", "receive", "refunds", "-n", "2"])), ["eu-2", "eu-4"]);
    assert_eq!(run(&broker, &["queue", "receive", "refunds"]).status.code(), Some(4));
    let described = lines(&run(&broker, &["queue", "describe", "refunds"])).join("\n");
    for fact in [&format!("only {REFUNDS}"), "2 acked", "3 filtered out"] {
        assert!(described.contains(fact), "{fact}: {described}");
    }
    let listed = lines(&run(&broker, &["queue", "list", "--json"])).join("\n");
    assert!(listed.contains(r#""filter":"attributes.type"#), "{listed}");
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_a_filter_is_shown_at_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let wrong = "attributes.type = refund";
    for command in [&["consume", "orders"][..], &["queue", "create", "q", "-t", "orders"]] {
        let refused = run(&broker, &[command, &["--filter", wrong]].concat());
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("expected a text in double quotes, found refund"), "{said}");
        let mark = said.lines().position(|line| line.trim() == "^").expect("there is a mark");
        let marked = said.lines().nth(mark - 1).expect("below the filter");
        let column = said.lines().nth(mark).expect("it is there").find('^').expect("it is there");
        assert_eq!(&marked[column..], "refund", "{said}");
    }
    broker.stop();
}
