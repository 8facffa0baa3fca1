//! Compacted topics from the command line: created, written, compacted, read to the end, inspected.

use crate::broker::Launch;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `millstream WORDS...` with `input`; its output, if it ends with `code`.
#[track_caller]
fn millstream(broker: &str, words: &str, input: &str, code: i32) -> String {
    let words = words.split_whitespace().chain(["--broker", broker]);
    run(words, input, code)
}

#[track_caller]
fn run<'w>(words: impl Iterator<Item = &'w str>, input: &str, code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MILLSTREAM_")) {
        command.env_remove(name);
    }
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built by cargo");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let stdout = String::from_utf8(stdout).expect("text");
    assert_eq!(status.code(), Some(code), "{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// 100 values of 10 keys.
fn lines() -> String {
    (0..100).map(|i| format!("k{}:v{i}\n", i % 10)).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn a_topic_is_compacted_read_and_inspected_from_the_command_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let broker = Launch::new(&data).start();
    let address = broker.address().to_string();
    let at = address.as_str();
    millstream(at, "topic create profiles --cleanup compact --tombstone-grace 12h", "", 0);
    millstream(at, "produce profiles -K :", &lines(), 0);
    let described = &objects(&millstream(at, "topic describe profiles --json", "", 0))[0];
    assert_eq!((&described["cleanup"], &described["tombstone_grace_ms"]), (&"compact".into(), &43_200_000.into()));

    let done = objects(&millstream(at, "topic compact profiles --json", "", 0));
    assert_eq!((done.len(), &done[0]["removed_records"]), (1, &90.into()));
    assert!(done[0]["bytes_after"].as_u64() < done[0]["bytes_before"].as_u64());
    assert!(millstream(at, "topic compact profiles", "", 0).contains("REMOVED"));

    let expected: String = (90..100).map(|i| format!("{i} v{i}\n")).collect::<Vec<_>>().concat();
    let args = ["consume", "profiles", "-e", "-f", "%o %s\\n", "--broker", at];
    assert_eq!(run(args.into_iter(), "", 0), expected);
    let args = ["consume", "profiles", "-g", "billing", "-e", "-f", "%o %s\\n", "--broker", at];
    assert_eq!(run(args.into_iter(), "", 0), expected, "a group ends at the end, too");
    assert_eq!(millstream(at, "consume profiles -n 3 -o 7", "", 0), "v90\nv91\nv92\n");
    assert_eq!(millstream(at, "consume profiles -o 0:95", "", 0).lines().count(), 5);
    assert_eq!(millstream(at, "consume profiles -o -4 -e", "", 0).lines().count(), 4);
    assert!(millstream(at, "group lag billing", "", 0).contains("total lag: 0"));

    millstream(at, "topic alter profiles --cleanup delete", "", 0);
    millstream(at, "topic compact profiles", "", 1);
    millstream(at, "topic alter profiles --reset tombstone-grace --cleanup compact-and-delete", "", 0);
    broker.stop();
    inspect(&data);
}

fn inspect(data: &Path) {
    let data = data.to_str().expect("text");
    let verified = objects(&run(["log", "verify", "--json", "--data-dir", data].into_iter(), "", 0));
    assert_eq!(verified.last().expect("a summary")["problems"], 0);
    let dumped = objects(&run(["log", "dump", "profiles/0", "--json", "--data-dir", data].into_iter(), "", 0));
    assert_eq!((&dumped[0]["record_count"], &dumped[0]["next_offset"]), (&0.into(), &90.into()), "what is gone");
    assert_eq!(dumped.iter().map(|frame| frame["record_count"].as_u64().expect("a number")).sum::<u64>(), 10);
    let dumped =
        objects(&run(["log", "dump", "profiles/0", "--from", "50", "--json", "--data-dir", data].into_iter(), "", 0));
    assert_eq!(dumped[0]["base_offset"], 0, "the frame that covers it");
    let segments = objects(&run(["log", "segments", "profiles/0", "--json", "--data-dir", data].into_iter(), "", 0));
    let last = segments[0]["segments"].as_array().expect("a list").last().expect("one").clone();
    assert_eq!((&last["next_offset"], &segments[0]["troubles"]), (&100.into(), &Value::Array(Vec::new())));
}
