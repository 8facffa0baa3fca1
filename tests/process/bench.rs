//! `millstream bench` as it is called: its own broker, its figures, its exit code, and nothing left behind.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `millstream bench`, with its temporary files in `directory`, short and small.
fn bench(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("bench").args(arguments).env("TMPDIR", directory).current_dir(directory).stdin(Stdio::null());
    command
}

fn short_run(directory: &Path, workload: &[&str]) -> Output {
    let short = ["--duration", "300ms", "--warm-up", "50ms", "--durability", "written", "--json", "runs.json"];
    bench(directory, &[workload, &short].concat()).output().expect("the binary was built by cargo")
}

/// Whether a process has `directory` in its command line: a broker with its data there.
fn somebody_works_in(directory: &Path) -> bool {
    let directory = directory.to_str().expect("temporary paths are text");
    let processes = std::fs::read_dir("/proc").expect("this is Linux");
    let mut lines = processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(directory))
}

#[test]
fn workloads_run_against_a_broker_of_their_own_and_leave_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    for workload in [
        ["produce", "--partitions", "2"].as_slice(),
        &["e2e", "--rate", "2000"],
        &["fanout", "--groups", "2"],
        &["mixed", "--rate", "500", "--backlog-bytes", "1MiB"],
        &["queue", "--messages", "2000", "--workers", "2"],
        &["queue", "--rate", "500", "--ack-each"],
        &["consume", "--backlog-bytes", "1MiB", "--in-groups"],
    ] {
        let output = short_run(directory.path(), workload);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{workload:?}: {stdout}{stderr}");
        assert!(stdout.contains("RECORDS/S") && stdout.contains("us of processor a record"), "{stdout}");
    }
    let text = std::fs::read_to_string(directory.path().join("runs.json")).expect("results were added");
    let results: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let names: Vec<_> = results.iter().filter_map(|result| result["workload"].as_str()).collect();
    assert_eq!(names, ["produce", "e2e", "fanout", "mixed", "queue", "queue", "consume"]);
    for result in &results {
        assert_eq!(result["system"], "millstream");
        assert_eq!(result["partial"], false);
        assert!(result["measured"]["broker"]["memory"]["resident_bytes"].as_u64() > Some(1 << 20), "{result}");
        for part in result["measured"]["parts"].as_array().expect("parts") {
            assert!(part["records_per_s"].as_f64() > Some(0.0), "{result}");
        }
    }
    assert_eq!(results[1]["measured"]["parts"][1]["name"], "tail");
    assert!(results[1]["measured"]["parts"][1]["latency"]["p99_us"].as_f64() > Some(1.0));

    let page = bench(directory.path(), &["report", "runs.json"]).output().expect("it runs");
    assert!(page.status.success(), "{}", String::from_utf8_lossy(&page.stderr));
    assert!(std::fs::read_to_string(directory.path().join("bench.html")).expect("a page").contains("<h2>fanout</h2>"));

    assert!(!somebody_works_in(directory.path()), "a broker stayed behind");
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("a directory").filter_map(Result::ok).collect();
    assert_eq!(left.len(), 2, "only the results and the page stay: {left:?}");
}

#[test]
fn an_interrupt_ends_the_run_and_the_broker_and_says_what_was_measured() {
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["produce", "--duration", "1h", "--warm-up", "0", "--durability", "written", "--json", "runs.json"];
    let mut command = bench(directory.path(), &arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("built by cargo");
    let mut notices = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let measuring = notices.find(|line| line.starts_with("measuring for 1h"));
    assert!(measuring.is_some(), "it ended by itself");
    kill_process(Pid::from_child(&child), Signal::INT).expect("a child may be signalled");
    let said: Vec<_> = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("a child").code(), Some(130), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("partial: stopped after")), "{said:?}");
    let text = std::fs::read_to_string(directory.path().join("runs.json")).expect("a result was added");
    assert!(text.contains("\"partial\":true"), "{text}");
    assert!(!somebody_works_in(directory.path()), "the broker stayed behind");
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_flag_to_change() {
    let directory = tempfile::tempdir().expect("a directory");
    for (arguments, facts) in [
        (["produce", "--record-bytes", "15"].as_slice(), ["--record-bytes", "at least 16"]),
        (&["produce", "--batch-records", "100000"], ["--batch-records 100000", "8 MiB"]),
        (&["fanout", "--groups", "0"], ["--groups", "at least 1"]),
        (&["e2e", "--rate", "0"], ["--rate", "1000/s"]),
        (&["rate", "--p99-below", "0ms"], ["--p99-below", "5ms"]),
        (&["produce", "--server", "127.0.0.1:1", "--broker-pid", "4000000000"], ["--broker-pid", "leave it out"]),
    ] {
        let output = bench(directory.path(), arguments).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        for fact in facts {
            assert!(stderr.contains(fact), "{fact} is not said: {stderr}");
        }
    }
    std::fs::copy("/proc/self/status", directory.path().join("wrong.json")).expect("a file that is no result");
    let output = bench(directory.path(), &["report", "wrong.json"]).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("wrong.json line 1 is not a result"), "{stderr}");
}
