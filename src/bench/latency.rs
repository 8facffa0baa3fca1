//! Latencies, recorded without loss at the high end and merged without loss of precision.
//!
//! An HDR histogram with three significant digits: a tenth of a percent from a microsecond to ten minutes. What is longer
//! counts as ten minutes. Senders and readers fill their own; they are merged when the run is over.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const SHORTEST_NS: u64 = 1_000;
const LONGEST_NS: u64 = 600_000_000_000;
const DIGITS: u8 = 3;

/// The percentiles of the table that goes into the result.
const PERCENTILES: [f64; 16] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999, 100.0];

/// Recorded latencies.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS).expect("these bounds are valid"))
    }

    /// `count` records took `ns` nanoseconds.
    #[inline]
    pub fn record(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    /// Takes over what another has recorded.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// At most this many nanoseconds for `percentile` percent of the records.
    pub fn at_ns(&self, percentile: f64) -> u64 {
        if percentile >= 100.0 { self.0.max() } else { self.0.value_at_percentile(percentile) }
    }

    /// The figures that are kept; `None` if nothing was recorded.
    pub fn summary(&self) -> Option<LatencySummary> {
        if self.0.is_empty() {
            return None;
        }
        let at = |percentile| us(self.at_ns(percentile));
        Some(LatencySummary {
            count: self.count(),
            mean_us: (self.0.mean() / 100.0).round() / 10.0,
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p99_9_us: at(99.9),
            max_us: at(100.0),
            percentiles: PERCENTILES.iter().map(|percentile| (*percentile, at(*percentile))).collect(),
        })
    }
}

/// Microseconds, to the tenth: the histogram is no more precise.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn us(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

/// Latencies as they stand in a result, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Records measured.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half of them took at most this.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1,000.
    pub p99_9_us: f64,
    /// The longest.
    pub max_us: f64,
    /// More of them: percentile, microseconds.
    pub percentiles: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_latencies_are_those_of_all() {
        let (mut all, mut even, mut odd) = (Latencies::new(), Latencies::new(), Latencies::new());
        for number in 1..=10_000_u64 {
            all.record(number * 10_000, 1);
            if number % 2 == 0 { &mut even } else { &mut odd }.record(number * 10_000, 1);
        }
        even.merge(&odd);
        assert_eq!(even.summary(), all.summary());
        let summary = all.summary().expect("10,000 were recorded");
        for (found, expected) in [(summary.p50_us, 50_000.0), (summary.p99_us, 99_000.0), (summary.max_us, 100_000.0)] {
            assert!((found - expected).abs() <= expected / 1_000.0, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_slow_end_is_kept_and_nothing_recorded_is_no_latency() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        latencies.record(3_000_000_000_000, 2);
        latencies.record(10, 1);
        assert_eq!(latencies.count(), 3);
        assert!(latencies.at_ns(100.0) >= LONGEST_NS / 1_001 * 1_000);
    }
}
