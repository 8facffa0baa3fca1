//! Starts that are refused: with the right exit code, in one line that says what to do, and with nothing changed.
#![expect(clippy::disallowed_methods, reason = "damage is done past the broker on purpose")]

use crate::broker::Launch;
use millstream::client::admin::TopicSettings;
use millstream::types::TopicName;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Every file below a directory with its bytes; the lock says who tried last, and may change.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if !path.ends_with("lock") {
            found.insert(path.clone(), fs::read(&path).expect("readable"));
        }
    }
    found
}

/// A directory that a broker has used.
async fn used_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let topic = TopicName::new("orders").expect("valid");
    broker.client().await.create_topic(&topic, 2, &TopicSettings::default()).await.expect("created");
    broker.stop();
    directory
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_broker_on_one_directory_is_refused_and_the_first_goes_on() {
    let directory = used_directory().await;
    let first = Launch::new(directory.path()).start();
    let client = first.client().await;
    let holder = format!("process {}", first.process_id());
    for _ in 0..2 {
        let refused = Launch::new(directory.path()).run();
        refused.assert_refused(1, &[text_of(directory.path()), &holder, "--data-dir"]);
    }
    let topic = TopicName::new("later").expect("valid");
    client.create_topic(&topic, 1, &TopicSettings::default()).await.expect("the first is undisturbed");
    first.stop();
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    Launch::new(directory.path()).listen(&address).run().assert_refused(1, &[&address, "--listen"]);
    Launch::new(directory.path()).admin(&address).run().assert_refused(1, &[&address, "--admin"]);
    assert!(contents(directory.path()).is_empty(), "nothing was begun");
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let file = parent.path().join("data");
    fs::write(&file, "mine").expect("writable");
    Launch::new(&file).run().assert_refused(1, &[text_of(&file)]);
    Launch::new(&file.join("below")).run().assert_refused(1, &[text_of(&file)]);
    assert_eq!(fs::read(&file).expect("readable"), b"mine");
}

#[test]
fn a_directory_of_other_things_is_refused_and_left_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("letters.txt"), "dear").expect("writable");
    Launch::new(directory.path()).run().assert_refused(1, &[text_of(directory.path()), "letters.txt", "format.json"]);
    let names: Vec<_> = fs::read_dir(directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    assert_eq!(names, ["letters.txt"], "it is not ours to write into");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_flipped_byte_of_the_catalog_is_noticed_before_anything_is_touched() {
    let directory = used_directory().await;
    let catalog = directory.path().join("catalog.json");
    let good = fs::read(&catalog).expect("readable");
    // The first and the last byte, and some in between: names, numbers, punctuation, the checksum.
    for at in (0..good.len()).step_by(good.len() / 9).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        fs::write(&catalog, &bad).expect("writable");
        let before = contents(directory.path());
        Launch::new(directory.path()).run().assert_refused(1, &[text_of(&catalog), "corrupt", "nothing was changed"]);
        assert_eq!(contents(directory.path()), before, "byte {at}");
    }
    fs::write(&catalog, &good).expect("writable");
    Launch::new(directory.path()).start().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_format_version_is_refused_and_kept() {
    let directory = used_directory().await;
    let format = directory.path().join("format.json");
    let text = fs::read_to_string(&format).expect("readable").replace("\"format_version\":2", "\"format_version\":9");
    let (body, _) = text.trim_end().rsplit_once('\n').expect("the checksum is a line of its own");
    fs::write(&format, format!("{body}\ncrc32 {:08x}\n", crc32fast::hash(format!("{body}\n").as_bytes())))
        .expect("writable");
    let before = contents(directory.path());
    Launch::new(directory.path()).run().assert_refused(1, &[text_of(&format), "9", "use the millstream version"]);
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn a_misspelt_key_ends_with_code_2_and_the_nearest_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("broker.toml");
    fs::write(&file, "[broker]\n\nlissten = \"127.0.0.1:0\"\n").expect("writable");
    let launch = Launch::new(&directory.path().join("data"));
    let place = format!("{}:3", file.display());
    let refused = launch.clone().argument("--config").argument(text_of(&file)).run();
    refused.assert_refused(2, &[&place, "broker.lissten", "did you mean broker.listen?"]);
    let refused = launch.variable("MILLSTREAM_BROKER_LISSTEN", "127.0.0.1:0").run();
    refused.assert_refused(2, &["MILLSTREAM_BROKER_LISSTEN", "broker.listen"]);
    assert!(!directory.path().join("data").exists(), "nothing was begun");
}

#[test]
fn check_says_whether_a_start_would_be_refused_and_starts_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let passed = Launch::new(&data).argument("--check").run();
    assert_eq!((passed.code, passed.stdout.as_str()), (Some(0), ""), "{}", passed.stderr);
    assert!(!data.exists(), "nothing was begun");

    let wrong = Launch::new(&data).argument("--check").variable("MILLSTREAM_LOG_LEVEL", "loud").run();
    wrong.assert_refused(2, &["MILLSTREAM_LOG_LEVEL", "loud"]);
    fs::write(&data, "mine").expect("writable");
    Launch::new(&data).argument("--check").run().assert_refused(1, &[text_of(&data)]);
}
