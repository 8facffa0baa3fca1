//! Every figure and every setting, for those who want to know.

use super::super::latency::LatencySummary;
use super::super::result::{Measured, RunResult};
use super::series::{Series, Settings};
use super::text::{bytes, escape, moment, rate, short, time};
use crate::units::format_count;
use std::fmt::Write as _;

const COLUMNS: [&str; 14] = [
    "run",
    "part",
    "records/s",
    "MB/s",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "max",
    "broker &#181;s/record",
    "client &#181;s/record",
    "broker memory",
    "of it no files",
    "began",
];

/// A row for each part of each run, and of each step.
pub(super) fn figures(out: &mut String, series: &[Series<'_>]) {
    *out += "<details open><summary>All figures</summary><div class=\"scroll\"><table><thead><tr>";
    for column in COLUMNS {
        let _ = write!(out, "<th>{column}</th>");
    }
    *out += "</tr></thead><tbody>\n";
    for one in series {
        for run in &one.runs {
            let note = if run.partial { " (partial)" } else { "" };
            let name = format!("{}{note}", one.name);
            if run.steps.is_empty() {
                rows(out, &name, run, &run.measured);
            }
            for step in &run.steps {
                let met = step.met.map_or("", |met| if met { ", met" } else { ", missed" });
                let at = if run.workload == "backlog" {
                    format!("{} GB", short(step.at / 1e9))
                } else {
                    format!("{}/s", rate(step.at))
                };
                rows(out, &format!("{name} at {at}{met}"), run, &step.measured);
            }
        }
    }
    *out += "</tbody></table></div></details>\n";
}

fn rows(out: &mut String, name: &str, run: &RunResult, measured: &Measured) {
    let cost = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), short);
    let memory = measured.broker.map(|broker| broker.memory);
    for (number, part) in measured.parts.iter().enumerate() {
        let latency =
            |of: fn(&LatencySummary) -> f64| part.latency.as_ref().map_or("-".to_owned(), |all| time(of(all)));
        let mut cells = vec![
            escape(name),
            escape(&part.name),
            whole(part.records_per_s),
            short(part.bytes_per_s / 1e6),
            latency(|all| all.p50_us),
            latency(|all| all.p90_us),
            latency(|all| all.p99_us),
            latency(|all| all.p99_9_us),
            latency(|all| all.max_us),
        ];
        if number == 0 {
            cells.push(cost(measured.broker_us_per_record()));
            cells.push(cost(measured.client_us_per_record()));
            cells.push(memory.map_or_else(|| "-".to_owned(), |memory| bytes(memory.resident_bytes)));
            cells.push(memory.map_or_else(|| "-".to_owned(), |memory| bytes(memory.anonymous_bytes)));
            let revision = run.revision.as_ref().map_or(String::new(), |revision| format!(" {}", escape(revision)));
            cells.push(format!("{}, version {}{revision}", moment(run.started_at_ms), escape(&run.version)));
        } else {
            cells.resize(COLUMNS.len(), String::new());
        }
        *out += "<tr>";
        for cell in cells {
            let _ = write!(out, "<td>{cell}</td>");
        }
        *out += "</tr>\n";
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are whole and not below 0")]
fn whole(number: f64) -> String {
    format_count(number as u64)
}

/// The settings that all runs of a section share.
pub(super) fn settings(out: &mut String, common: &Settings) {
    if common.is_empty() {
        return;
    }
    *out += "<details><summary>Settings of all of these runs</summary><dl>";
    for (name, value) in common {
        let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    *out += "</dl></details>\n";
}
