//! What an operator asks of a broker, and tells it, from a terminal.

use crate::broker::Launch;
use crate::command_line::{lines, run};
use serde_json::Value;

#[test]
fn a_broker_says_who_it_is_and_how_it_stands() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let info = run(&broker, &["broker", "info", "--json"]);
    assert!(info.status.success(), "{info:?}");
    let info: Value = serde_json::from_str(&lines(&info)[0]).expect("one object");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&info["ephemeral"], &info["clock"]["retention_suspended"]), (&false.into(), &false.into()));
    assert_eq!((&info["disk"]["refuses_produce"], &info["scrub"]["damaged_ranges"]), (&false.into(), &0.into()));
    let table = lines(&run(&broker, &["broker", "info"])).join("\n");
    for row in
        ["version", "request-bytes-max", "clock", "right", "free; records are refused below", "damaged ranges known"]
    {
        assert!(table.contains(row), "{row:?} is not in {table}");
    }
    broker.stop();
}

#[test]
fn a_scrub_is_started_and_a_clock_that_is_right_needs_no_confirming() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).variable("MILLSTREAM_BROKER_SCRUB_BYTES_PER_SECOND", "0").start();
    let started = run(&broker, &["broker", "scrub"]);
    assert!(started.status.success(), "{started:?}");
    assert!(["a scrub was started", "a scrub is under way"].contains(&lines(&started)[0].as_str()), "{started:?}");
    let confirmed = run(&broker, &["broker", "confirm-clock", "--yes"]);
    assert_eq!(lines(&confirmed), ["the clock is right as it is; nothing was done"]);
    broker.stop();
}

#[test]
fn a_broker_that_is_not_there_is_told_of_by_address() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let address = broker.address().to_string();
    broker.stop();
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["broker", "info", "--broker", &address])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&address), "{said}");
}
