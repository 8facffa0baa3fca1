//! Results -> one HTML page: charts, and under them every figure and setting.
//!
//! ```text
//! series   runs of the same thing -> one line or bar, with a name that says what is different about it
//! bars     rates and costs            curves   percentiles, growth, searches (SVG)
//! tables   all figures                text     numbers and escaping       style.css
//! ```
//!
//! The page stands alone: no script, nothing loaded, light or dark as the reader has it, and readable on a phone. Where
//! a series has several runs, a bar is their median and its whisker goes from the least to the most.

mod bars;
mod curves;
mod series;
mod tables;
mod text;

use super::result::{Measured, RunResult};
use bars::{Bar, bars};
use curves::{Chart, Line, Scale, curves};
use series::{Series, series_of};
use std::fmt::Write as _;
use text::{bytes, escape, rate};

const STYLE: &str = include_str!("style.css");

/// Workloads in the order of the page, and what each is about.
const SECTIONS: [(&str, &str); 7] = [
    ("produce", "Records sent as fast as they are acknowledged."),
    ("consume", "Records that are there already, read as fast as they come."),
    ("e2e", "Sent at a fixed rate, and followed. Latency counts from the time a record was meant to be sent."),
    ("fanout", "One topic to many consumer groups, each of which gets every record."),
    ("mixed", "Sent at a fixed rate and followed, while another reader reads old records as fast as it can."),
    ("backlog", "What appending and following cost as the log grows."),
    ("rate", "The highest rate at which 99 of 100 records are read in time."),
];

/// The page.
pub fn page(results: &[RunResult]) -> String {
    let mut out = String::new();
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Benchmarks</title><style>\n{STYLE}</style></head><body>\n\
         <header><h1>Benchmarks</h1>{}</header>\n",
        origin(results)
    );
    let known = SECTIONS.iter().map(|(name, about)| (*name, *about));
    let others = results.iter().map(|result| result.workload.as_str());
    let mut others: Vec<_> = others.filter(|name| SECTIONS.iter().all(|(known, _)| known != name)).collect();
    others.sort_unstable();
    others.dedup();
    for (workload, about) in known.chain(others.into_iter().map(|name| (name, ""))) {
        let runs: Vec<_> = results.iter().filter(|result| result.workload == workload).collect();
        if !runs.is_empty() {
            section(&mut out, workload, about, &runs);
        }
    }
    out += "<footer>Made by <code>millstream bench report</code>.</footer>\n</body></html>\n";
    out
}

/// When and where the runs were made.
fn origin(results: &[RunResult]) -> String {
    let mut machines: Vec<_> = results.iter().map(|result| &result.machine).collect();
    machines.dedup();
    let machine = |machine: &&super::Machine| {
        let cores = format!("{} cores", machine.cores);
        let parts = [machine.processor.clone(), cores, bytes(machine.memory_bytes), machine.kernel.clone()];
        let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).map(|part| escape(part)).collect();
        parts.join(" &middot; ")
    };
    let machines: Vec<_> = machines.iter().map(machine).collect();
    let times = results.iter().map(|result| result.started_at_ms);
    let times = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
    let runs = if results.len() == 1 { "1 run".to_owned() } else { format!("{} runs", results.len()) };
    format!("<p>{runs}, {}<br>{}</p>", text::days(times.0, times.1), machines.join("<br>"))
}

fn section(out: &mut String, workload: &str, about: &str, runs: &[&RunResult]) {
    let (series, common) = series_of(runs);
    let name = escape(workload);
    let _ = writeln!(out, "<section id=\"{name}\"><h2>{name}</h2><p>{about}</p>");
    legend(out, &series);
    *out += "<div class=\"charts\">\n";
    throughput(out, &series);
    latency(out, &series);
    costs(out, &series);
    match workload {
        "backlog" => growth(out, &series),
        "rate" => search(out, &series),
        _ => {}
    }
    *out += "</div>\n";
    tables::figures(out, &series);
    tables::settings(out, &common);
    *out += "</section>\n";
}

fn legend(out: &mut String, series: &[Series<'_>]) {
    *out += "<ul class=\"legend\">";
    for (place, series) in series.iter().enumerate() {
        let _ = write!(out, "<li><i class=\"c{}\"></i>{}</li>", place % curves::COLOURS, escape(&series.name));
    }
    *out += "</ul>\n";
}

/// Records a second of each part.
fn throughput(out: &mut String, series: &[Series<'_>]) {
    let mut rows = Vec::new();
    for (place, one) in series.iter().enumerate() {
        let names: Vec<_> = one.runs[0].measured.parts.iter().map(|part| part.name.clone()).collect();
        for part in &names {
            let rates = one.figures(|measured| Some(measured.part(part)?.records_per_s));
            let label = if names.len() > 1 { format!("{} {part}", one.name) } else { one.name.clone() };
            rows.extend(Bar::new(label, place, &rates, &[], |records| format!("{}/s", rate(records))));
        }
    }
    bars(out, "Records a second", &rows);
}

#[expect(clippy::cast_precision_loss, reason = "a percentile needs no more precision")]
fn reached(count: u64) -> f64 {
    100.0 - 100.0 / count.max(10) as f64
}

/// Percentiles of the part that a reader cares about.
fn latency(out: &mut String, series: &[Series<'_>]) {
    let line = |(place, one): (usize, &Series<'_>)| {
        let latency = one.middle().measured.parts.iter().rev().find_map(|part| part.latency.as_ref())?;
        let reached = reached(latency.count);
        // A percentile beyond what so many records can tell would only repeat the longest.
        let points = latency.percentiles.iter().filter(|(percentile, _)| *percentile <= reached);
        let points = points.map(|(percentile, us)| (nines(*percentile), us.max(1.0)));
        Some(Line { place, points: points.collect(), marks: false, name: one.name.clone() })
    };
    let lines: Vec<_> = series.iter().enumerate().filter_map(line).collect();
    let is_read = series.iter().any(|one| one.middle().measured.part("tail").is_some());
    let title = if is_read { "Latency until read" } else { "Latency of acknowledgements" };
    curves(out, &Chart { title, x: Scale::Nines, y: Scale::LogTime, x_name: "percentile" }, &lines);
}

/// 90 % is 1, 99 % is 2, 99.9 % is 3.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-6).log10()
}

/// Seconds of processor time for a million records, which is microseconds for one.
fn costs(out: &mut String, series: &[Series<'_>]) {
    let row = |(place, one): (usize, &Series<'_>)| {
        let broker = one.figures(Measured::broker_us_per_record);
        let client = one.figures(Measured::client_us_per_record);
        let format = |us: f64| format!("{} s", text::short(us));
        Bar::new(one.name.clone(), place, &broker, &client, format)
    };
    let rows: Vec<_> = series.iter().enumerate().filter_map(row).collect();
    bars(out, "Processor time of a million records: broker, and behind it the client", &rows);
}

/// Cost and latency over the size of the log.
fn growth(out: &mut String, series: &[Series<'_>]) {
    let lines = |figure: &dyn Fn(&Measured) -> Option<f64>| -> Vec<Line> {
        let line = |(place, one): (usize, &Series<'_>)| {
            let steps = one.middle().steps.iter();
            let points = steps.filter_map(|step| Some((step.at / 1e9, figure(&step.measured)?))).collect();
            Line { place, points, marks: true, name: one.name.clone() }
        };
        series.iter().enumerate().map(line).collect()
    };
    let chart = |title, y| Chart { title, x: Scale::Log, y, x_name: "GB in the log" };
    let appended = lines(&|measured| Some(measured.part("produce")?.records_per_s));
    curves(out, &chart("Appended records a second", Scale::Linear), &appended);
    let appending = lines(&Measured::broker_us_per_record);
    curves(out, &chart("Processor time of the broker for an appended record, us", Scale::Linear), &appending);
    let following = lines(&|measured| Some(measured.part("tail")?.latency.as_ref()?.p99_us.max(1.0)));
    curves(out, &chart("Latency until read, p99", Scale::LogTime), &following);
}

/// The probes of a search.
fn search(out: &mut String, series: &[Series<'_>]) {
    let line = |(place, one): (usize, &Series<'_>)| {
        let point =
            |step: &super::result::Step| Some((step.at, step.measured.part("tail")?.latency.as_ref()?.p99_us.max(1.0)));
        let mut points: Vec<_> = one.middle().steps.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { place, points, marks: true, name: one.name.clone() }
    };
    let lines: Vec<_> = series.iter().enumerate().map(line).collect();
    let chart = Chart { title: "Probes: p99 over rate", x: Scale::Log, y: Scale::LogTime, x_name: "records a second" };
    curves(out, &chart, &lines);
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
