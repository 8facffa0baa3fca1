//! What a run found out: one JSON object, one line of a file.
//!
//! Names carry their units. A reader of a later version must be able to read files of this one: fields are added, never
//! given another meaning, and what is not there is absent.

use super::latency::LatencySummary;
use super::machine::Machine;
pub use super::usage::{Memory, Usage};
use crate::types::TimestampMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this format.
pub const FORMAT: u32 = 1;

/// One run of one workload against one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// See [`FORMAT`].
    pub format: u32,
    /// The system under test.
    pub system: String,
    /// Its version.
    pub version: String,
    /// The revision of the source it was built from, if the build knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What whoever ran it calls this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The workload.
    pub workload: String,
    /// When it began.
    pub started_at_ms: TimestampMs,
    /// It was stopped before its time.
    #[serde(default)]
    pub partial: bool,
    /// What was asked for, by the names of the flags.
    pub settings: BTreeMap<String, String>,
    /// Where.
    pub machine: Machine,
    /// What was measured; of a workload that goes in steps, that of the last one.
    pub measured: Measured,
    /// Of a workload that goes in steps: each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// Figures of one stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// How long it was.
    pub seconds: f64,
    /// What each part of the workload did.
    pub parts: Vec<Part>,
    /// Of the system's process; absent if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Usage>,
    /// Of the process that sent and read.
    pub client: Usage,
    /// The records that the work of both is divided by: each counts once for being acknowledged if nobody read it, and
    /// otherwise once for each reader that it came to.
    pub records: u64,
}

/// What senders, or readers of one kind, did together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `produce`, `consume`, `tail` or `backlog`.
    pub name: String,
    /// Records acknowledged or read.
    pub records: u64,
    /// The same in a second.
    pub records_per_s: f64,
    /// Of values, without keys, headers and framing.
    pub bytes_per_s: f64,
    /// Of acknowledgements, or from the intended time until a record was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencySummary>,
    /// Records that were due and could not be sent in time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub owed: u64,
}

/// One step of a workload that goes in steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it was: bytes that were in the log, or records a second that were asked for.
    pub at: f64,
    /// Of a search: whether it met the bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
    /// Its figures.
    pub measured: Measured,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Part {
    /// Figures of so many records in so many seconds.
    pub(super) fn new(name: &str, records: u64, seconds: f64, record_bytes: usize) -> Self {
        let records_per_s = records as f64 / seconds.max(1e-9);
        Self {
            name: name.to_owned(),
            records,
            records_per_s: records_per_s.round(),
            bytes_per_s: (records_per_s * record_bytes as f64).round(),
            latency: None,
            owed: 0,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
impl Measured {
    /// Microseconds of processor time of the system's process for each record.
    pub fn broker_us_per_record(&self) -> Option<f64> {
        let broker = self.broker?;
        (self.records > 0).then(|| broker.cpu_seconds * 1e6 / self.records as f64)
    }

    /// The same of the process that sent and read.
    pub fn client_us_per_record(&self) -> Option<f64> {
        (self.records > 0).then(|| self.client.cpu_seconds * 1e6 / self.records as f64)
    }

    /// A part by its name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

impl RunResult {
    /// Reads the lines of a file; the number of the line that is not a result, and why.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, (usize, String)> {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let parse = |(number, line)| {
            let result: Self = serde_json::from_str(line).map_err(|error| (number, error.to_string()))?;
            if result.format == FORMAT {
                return Ok(result);
            }
            let what = format!("it has format {}; this version reads format {FORMAT}", result.format);
            Err((number, what))
        };
        lines.map(parse).collect()
    }

    /// One line, without its end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("all keys are text and all numbers are finite or null")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::latency::Latencies;

    /// A run of `system`, with figures that grow with `size`.
    pub(crate) fn run(system: &str, workload: &str, size: u32) -> RunResult {
        let mut latencies = Latencies::new();
        for number in 1..=1_000_u64 {
            latencies.record(number * 1_000 * u64::from(size), 1);
        }
        let mut part = Part::new("produce", u64::from(size) * 1_000, 2.0, 100);
        part.latency = latencies.summary();
        let usage = Usage { cpu_seconds: 0.5, ..Usage::default() };
        RunResult {
            format: FORMAT,
            system: system.to_owned(),
            version: "1.0".to_owned(),
            revision: None,
            label: None,
            workload: workload.to_owned(),
            started_at_ms: 1_700_000_000_000,
            partial: false,
            settings: BTreeMap::from([("record-bytes".to_owned(), "100".to_owned())]),
            machine: Machine { cores: 2, ..Machine::default() },
            measured: Measured {
                seconds: 2.0,
                parts: vec![part],
                broker: Some(usage),
                client: usage,
                records: u64::from(size) * 1_000,
            },
            steps: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let mut result = run("a \"quoted\" system\n", "rate", 3);
        let measured = result.measured.clone();
        result.steps = vec![Step { at: 1e9, met: Some(true), measured }];
        let text = format!("{}\n\n{}\n", result.to_line(), run("b", "produce", 1).to_line());
        let read = RunResult::parse_lines(&text).expect("valid");
        assert_eq!(read, [result, run("b", "produce", 1)]);
        assert_eq!(read[0].measured.broker_us_per_record(), Some(0.5e6 / 3_000.0));
    }

    #[test]
    fn a_line_that_is_no_result_is_named() {
        let mut later = run("a", "produce", 1);
        later.format = 2;
        let text = format!("{}\n{}\n", run("a", "produce", 1).to_line(), later.to_line());
        let (line, what) = RunResult::parse_lines(&text).expect_err("format 2");
        assert_eq!(line, 2);
        assert!(what.contains("format 2"), "{what}");
        assert_eq!(RunResult::parse_lines("{}").expect_err("empty").0, 1);
    }
}
