//! The page: what it shows of one run and of many, and that no name can break out of its place.

use super::super::result::tests::run;
use super::super::result::{RunResult, Step};
use super::page;

/// Whether every element that is opened is closed, in order.
fn assert_balanced(page: &str) {
    let mut open = Vec::new();
    for tag in page.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap_or("");
        match name {
            "!DOCTYPE" | "meta" | "br" => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name.to_owned()), "in {tag}"),
            _ if tag.ends_with('/') => {}
            _ => open.push(name.to_owned()),
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
}

#[test]
fn one_run_makes_a_page() {
    let page = page(&[run("millstream", "produce", 1)]);
    assert_balanced(&page);
    for word in ["<h2>produce</h2>", "1 run, 2023-11-14", "500/s", "<svg", "record-bytes"] {
        assert!(page.contains(word), "{word} is missing");
    }
    assert!(!page.contains("<h2>consume</h2>"), "what was not run has no section");
    assert!(!page.contains("http"), "the page loads nothing");
}

#[test]
fn many_runs_stand_side_by_side_with_their_spread() {
    let mut results: Vec<RunResult> = Vec::new();
    for size in 1..=3 {
        results.push(run("millstream", "produce", size));
        results.push(run("nats", "produce", size * 2));
    }
    results.push(run("millstream", "of my own", 1));
    for system in 0..12 {
        let mut result = run(&format!("system {system}"), "backlog", 1 + system);
        let measured = result.measured.clone();
        let step = |at| Step { at, met: None, measured: measured.clone() };
        result.steps = vec![step(1e9), step(2e9)];
        results.push(result);
    }
    let page = page(&results);
    assert_balanced(&page);
    assert!(page.contains("1.00k/s <small>500/s to 1.50k/s</small>"), "median, least and most of three runs");
    assert!(page.contains("<h2>of my own</h2>"), "a workload that this version does not know has a section too");
    assert!(page.contains("dashed"), "more systems than colours");
    assert!(!page.contains("NaN") && !page.contains("inf"), "numbers are numbers");
}

#[test]
fn names_cannot_break_out() {
    let mut result = run("<script>alert('x')</script>", "<b>\"&", 1);
    result.label = Some("</style><img src=x>".to_owned());
    result.version = "</td>".to_owned();
    result.settings.insert("<i>".to_owned(), "</dl>".to_owned());
    result.machine.processor = "<u>".to_owned();
    let page = page(&[result]);
    assert_balanced(&page);
    for bad in ["<script", "<b>\"", "<img", "</td>,", "<i>", "<u>"] {
        assert!(!page.contains(bad), "{bad} got through");
    }
}

#[test]
fn a_run_without_latency_or_broker_has_what_it_has() {
    let mut result = run("elsewhere", "consume", 1);
    result.measured.broker = None;
    result.measured.parts[0].latency = None;
    result.measured.parts[0].records_per_s = 0.0;
    result.measured.records = 0;
    let page = page(&[result]);
    assert_balanced(&page);
    assert!(!page.contains("<svg") && !page.contains("NaN"), "nothing to draw");
}
