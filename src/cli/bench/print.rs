//! A result for people: a table of what the parts did, and lines on what it cost.

use crate::bench::result::{Measured, Part, RunResult};
use crate::cli::exit::CliError;
use crate::cli::table;
use crate::units::{format_bytes, format_count};
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints a result.
pub(super) fn result(result: &RunResult) -> Result<(), CliError> {
    let header = ["AT", "PART", ">RECORDS/S", ">MB/S", ">P50", ">P90", ">P99", ">P99.9", ">MAX"];
    let steps = result.steps.iter().flat_map(|step| {
        let at = match (result.workload.as_str(), step.met) {
            ("rate", met) => format!("{}/s {}", whole(step.at), if met == Some(true) { "met" } else { "missed" }),
            _ => gigabytes(step.at),
        };
        // A probe is about what arrived, nothing else.
        let parts = step.measured.parts.iter().filter(move |part| step.met.is_none() || part.name == "tail");
        parts.map(move |part| row(at.clone(), part))
    });
    let rows: Vec<_> = if result.steps.is_empty() {
        result.measured.parts.iter().map(|part| row(result.workload.clone(), part)).collect()
    } else {
        steps.collect()
    };
    table::print(header, rows)?;
    let text = costs(&result.measured) + &found(result);
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)
}

fn row(at: String, part: &Part) -> [String; 9] {
    let latency = |of: fn(&crate::bench::latency::LatencySummary) -> f64| {
        part.latency.as_ref().map_or_else(|| "-".to_owned(), |latency| time(of(latency)))
    };
    [
        at,
        part.name.clone(),
        whole(part.records_per_s),
        format!("{:.1}", part.bytes_per_s / 1e6),
        latency(|latency| latency.p50_us),
        latency(|latency| latency.p90_us),
        latency(|latency| latency.p99_us),
        latency(|latency| latency.p99_9_us),
        latency(|latency| latency.max_us),
    ]
}

/// What it cost, a line for the broker and one for the client.
fn costs(measured: &Measured) -> String {
    let line = |who: &str, us_per_record: Option<f64>, usage: &crate::bench::result::Usage| {
        let us = us_per_record.map_or_else(|| "-".to_owned(), |us| format!("{us:.3}"));
        let memory = usage.memory;
        format!(
            "{who:<7} {us} us of processor a record, {:.2} cores; memory {}, {} of it no files, at most {}\n",
            usage.cpu_seconds / measured.seconds,
            format_bytes(memory.resident_bytes),
            format_bytes(memory.anonymous_bytes),
            format_bytes(memory.peak_bytes),
        )
    };
    let broker = measured.broker.as_ref().map(|usage| line("broker", measured.broker_us_per_record(), usage));
    broker.unwrap_or_default() + &line("client", measured.client_us_per_record(), &measured.client)
}

/// What else there is to say.
fn found(result: &RunResult) -> String {
    let mut text = String::new();
    // What was due in the last moment is no sign of anything.
    let behind = |part: &&Part| part.owed > part.records / 100;
    let owed: u64 = result.measured.parts.iter().filter(behind).map(|part| part.owed).sum();
    if owed > 0 {
        let _ = writeln!(text, "the broker did not keep up: {} records could not be sent in time", format_count(owed));
    }
    let met = result.steps.iter().filter(|step| step.met == Some(true)).map(|step| step.at);
    if let Some(highest) = met.max_by(f64::total_cmp) {
        let bound = result.settings.get("p99-below").map_or("", String::as_str);
        let _ = writeln!(text, "highest rate with p99 below {bound}: {} records/s", whole(highest));
    }
    if result.partial {
        let _ = writeln!(text, "partial: stopped after {:.1} s", result.measured.seconds);
    }
    text
}

/// Microseconds, in the unit that people read best.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

fn gigabytes(bytes: f64) -> String {
    format!("{:.1} GB", bytes / 1e9)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are whole and above 0")]
fn whole(number: f64) -> String {
    format_count(number as u64)
}
