//! Dead letters from the command line, and over `kill -9` of the broker.

use crate::broker::{Broker, Launch};
use crate::command_line::{lines, millstream, run};
use millstream::client::admin::{LetterSelection, QueueSettings, RedriveOptions, TopicSettings};
use millstream::client::{Client, NewRecord, ProducerOptions, Verdict};
use millstream::types::{Position, TopicName};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// A condition that is not met for so long never is.
const PATIENCE: Duration = Duration::from_mins(1);

/// A broker with a queue `work` on `orders` whose messages of these values, of keys `k0`, `k1`, ..., were rejected.
async fn broker_with_letters(directory: &Path, values: &[&[u8]]) -> (Broker, Client) {
    let broker = Launch::new(directory).start();
    let client = broker.client().await;
    let topic = TopicName::new("orders").expect("valid");
    client.create_topic(&topic, 1, &TopicSettings::default()).await.expect("created");
    let settings = QueueSettings { attempts_max: Some(1), ..QueueSettings::default() };
    client.create_queue("work", &[topic], Position::Earliest, &settings).await.expect("created");
    let producer = client.producer("orders", ProducerOptions::default()).await.expect("opens");
    let mut sent = Vec::new();
    for (number, value) in values.iter().enumerate() {
        let (key, headers) = (format!("k{number}"), [("tenant", if number == 1 { b"blue" } else { b"red." })]);
        let headers = headers.map(|(name, value)| (name, value.as_slice()));
        sent.push(producer.send(NewRecord::value(value).with_key(key.as_bytes()).with_headers(&headers)).await);
    }
    for receipt in sent {
        receipt.expect("sent").wait().await.expect("appended");
    }
    let mut rejected = 0;
    while rejected < values.len() {
        let messages = client.receive("work", 1_000, PATIENCE).await.expect("there are some");
        let reject = |reason: &str| Verdict::Reject { reason: reason.to_owned() };
        let verdicts = messages.iter().map(|message| message.settle(reject("no such customer"))).collect();
        assert!(client.settle("work", verdicts).await.expect("answered").is_empty());
        rejected += messages.len();
    }
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        while client.list_dead_letter_topics("").await.expect("it answers")[0].open < values.len() as u64 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the letters are written");
    (broker, client)
}

fn objects(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", said(output));
    lines(output).iter().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_looked_at_sent_back_given_up_and_exported_from_the_command_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, _client) = broker_with_letters(directory.path(), &[b"a", b"b", b"\xff\x00"]).await;
    let dlq = |arguments: &[&str]| run(&broker, &[&["dlq"], arguments].concat());

    let listed = lines(&dlq(&["list"])).join("\n");
    for fact in ["work.dlq", "3", "rejected 3", "work 3"] {
        assert!(listed.contains(fact), "{fact}: {listed}");
    }
    let listed = objects(&dlq(&["list", "--json"])).remove(0);
    assert_eq!((&listed["open"], &listed["by_reason"]["rejected"]), (&3.into(), &3.into()));

    let peeked = lines(&dlq(&["peek", "--queue", "work", "-n", "1"]));
    assert_eq!(peeked.len(), 2, "{peeked:?}");
    for fact in ["rejected", "orders/0/0", "k0", "no such customer"] {
        assert!(peeked[1].contains(fact), "{fact}: {peeked:?}");
    }
    let blue = objects(&dlq(&["peek", "work.dlq", "--header", "tenant=blue", "--json"]));
    assert_eq!((blue.len(), &blue[0]["value"], &blue[0]["dead_letter"]["origin_offset"]), (1, &"b".into(), &1.into()));
    assert_eq!(objects(&dlq(&["peek", "work.dlq", "--key", "k9", "--json"])).len(), 0);

    let would = dlq(&["redrive", "work.dlq", "--dry-run"]);
    assert!(said(&would).contains("would redrive 3 letters of work.dlq: 3 to orders"), "{}", said(&would));
    assert_eq!(lines(&would).len(), 4, "a line each");
    let sent = objects(&dlq(&["redrive", "work.dlq", "--key", "k0", "--rate", "50/s", "--json"]));
    assert_eq!((sent.len(), &sent[0]["to_topic"], &sent[0]["to_offset"]), (1, &"orders".into(), &3.into()));
    let back = objects(&run(&broker, &["consume", "orders", "-o", "3:", "-e", "--json"])).remove(0);
    let headers = back["headers"].to_string();
    assert!(headers.contains(r#"["redriven-count","1"]"#) && !headers.contains("dead-letter"), "{headers}");

    let asked = dlq(&["purge", "work.dlq", "--key", "k1"]);
    assert_eq!(asked.status.code(), Some(2), "{}", said(&asked));
    assert!(
        said(&asked).contains("give up open letters of work.dlq, 1 in all") && said(&asked).contains("--yes"),
        "{}",
        said(&asked)
    );
    let would = objects(&dlq(&["purge", "work.dlq", "--key", "k1", "--dry-run", "--json"])).remove(0);
    assert_eq!((&would["letters"], objects(&dlq(&["peek", "work.dlq", "--json"])).len()), (&1.into(), 2));
    assert!(dlq(&["purge", "work.dlq", "--key", "k1", "--yes"]).status.success());

    let exported = objects(&dlq(&["export", "work.dlq"]));
    assert_eq!(
        (exported.len(), &exported[0]["value"], &exported[0]["value_encoding"]),
        (1, &"/wA=".into(), &"base64".into())
    );
    let file = directory.path().join("letters.jsonl");
    let file = file.to_str().expect("paths here are text");
    assert!(said(&dlq(&["export", "work.dlq", "--all", "-o", file])).contains("exported 3 letters"));
    let again = dlq(&["export", "work.dlq", "-o", file]);
    assert_eq!(again.status.code(), Some(1), "a file that is there is not written over: {}", said(&again));
    let written = std::fs::read_to_string(file).expect("it was written");
    let resolved = written.lines().filter(|line| line.contains(r#""resolved":true"#)).count();
    assert_eq!((written.lines().count(), resolved), (3, 2));

    assert!(run(&broker, &["topic", "create", "copy"]).status.success());
    let produce = ["produce", "copy", "--json", "--file", file];
    let produced = millstream(&broker, &produce).output().expect("the binary was built by cargo");
    assert!(produced.status.success(), "what was exported can be produced: {}", said(&produced));
    assert_eq!(objects(&run(&broker, &["consume", "copy", "-e", "--json"])).len(), 3);
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_meant_is_refused_with_a_way_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = broker_with_letters(directory.path(), &[b"a"]).await;
    for (arguments, code, named) in [
        (&["peek"][..], 2, "--queue"),
        (&["peek", "nowhere"], 3, "there is no topic nowhere"),
        (&["peek", "orders"], 1, "no dead letter topic of any queue"),
        (&["peek", "--queue", "nobody"], 3, "there is no queue nobody"),
        (&["peek", "work.dlq", "-n", "0"], 2, "0"),
        (&["peek", "work.dlq", "--since", "yesterday"], 2, "write a time as"),
        (&["peek", "work.dlq", "--header", "tenant"], 2, "NAME=VALUE"),
        (&["peek", "work.dlq", "--partition", "7"], 3, "7"),
        (&["redrive", "work.dlq", "--to", "nowhere"], 3, "there is no topic nowhere"),
        (&["redrive", "work.dlq", "--to", "work.dlq"], 1, "the dead letter topic itself"),
        (&["redrive", "work.dlq", "--rate", "0"], 2, "--rate"),
        (&["redrive", "orders"], 1, "millstream dlq list"),
        (&["purge", "work.dlq", "--from-offset", "5", "--to-offset", "5", "--yes"], 1, "nothing is between"),
        (&["purge", "nowhere", "--yes"], 3, "there is no topic nowhere"),
        (&["export", "work.dlq", "-o", "/nowhere/at/all"], 1, "/nowhere/at/all"),
    ] {
        let output = run(&broker, &[&["dlq"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(named), "{arguments:?}: {}", said(&output));
    }
    client.delete_topic(&TopicName::new("orders").expect("valid")).await.expect("deleted");
    let stays = run(&broker, &["dlq", "redrive", "work.dlq"]);
    assert_eq!(stays.status.code(), Some(5), "{}", said(&stays));
    assert!(said(&stays).contains("letter 0/0: there is no topic orders"), "{}", said(&stays));
    assert_eq!(objects(&run(&broker, &["dlq", "peek", "work.dlq", "--json"])).len(), 1);
    broker.stop();
}

/// The broker is killed in the middle of a redrive: what it has told of stays resolved and is sent once, what was under
/// way may come twice, and everything comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_over_kill_9_loses_nothing_and_what_was_resolved_stays_so() {
    const LETTERS: usize = 120;
    let directory = tempfile::tempdir().expect("a directory");
    let values: Vec<_> = (0..LETTERS).map(|number| number.to_string()).collect();
    let values: Vec<_> = values.iter().map(String::as_bytes).collect();
    let (mut broker, mut client) = broker_with_letters(directory.path(), &values).await;
    let letters = LetterSelection { topic: "work.dlq".to_owned(), ..LetterSelection::default() };
    let options = RedriveOptions { letters_per_second: Some(80), ..RedriveOptions::default() };
    let mut told: BTreeSet<u64> = BTreeSet::new();
    for _ in 0..2 {
        let mut redrive = client.redrive_dead_letters(&letters, &options).await.expect("it begins");
        let done = redrive.next().await.expect("it goes on").expect("there is more");
        told.extend(done.letters.iter().map(|letter| letter.offset.0));
        broker.kill();
        broker = Launch::new(directory.path()).start();
        client = broker.client().await;
        let mut open = client.read_dead_letters(&letters, 0, false).await.expect("they can be read");
        while let Some(letter) = open.next().await.expect("they can be read") {
            assert!(!told.contains(&letter.record.offset.0), "{} was resolved", letter.record.offset);
        }
    }
    assert!(!told.is_empty() && told.len() < LETTERS, "it was killed in the middle");
    let rest = objects(&run(&broker, &["dlq", "redrive", "work.dlq", "--json"]));
    assert!(!rest.is_empty(), "there was more to do");
    assert_eq!(client.list_dead_letter_topics("").await.expect("it answers")[0].open, 0);

    let back = format!("{LETTERS}:");
    let back = objects(&run(&broker, &["consume", "orders", "-o", &back, "-e", "--json"]));
    let from: Vec<u64> = back.iter().filter_map(redriven_from).collect();
    let distinct: BTreeSet<_> = from.iter().copied().collect();
    assert_eq!(distinct, (0..LETTERS as u64).collect(), "none was lost");
    for letter in &told {
        assert_eq!(
            from.iter().filter(|from| *from == letter).count(),
            1,
            "{letter} was told of, and is not sent again"
        );
    }
    broker.stop();
}

/// The offset of the letter that a message was.
fn redriven_from(message: &Value) -> Option<u64> {
    let headers = message["headers"].as_array()?;
    let from = headers.iter().find(|header| header[0] == "redriven-from")?[1].as_str()?;
    from.strip_prefix("work.dlq/0/")?.parse().ok()
}
