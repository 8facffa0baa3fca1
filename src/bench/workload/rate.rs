//! The highest rate at which 99 of 100 records arrive in time.
//!
//! Doubles until a rate is too high, then halves the ratio between the highest that was met and the lowest that was not,
//! until they are 5 % apart. A rate that fails is tried once more: one pause of the machine must not decide.

use super::super::error::BenchError;
use super::super::result::{Measured, Step};
use super::super::target::Target;
use super::e2e::paced;
use super::{Bench, Outcome};
use crate::units::format_count;
use std::time::Duration;

/// The highest rate that was met and the lowest that was not are this close at the end: 21/20.
const CLOSE: (u64, u64) = (21, 20);

/// Below this a probe has too few records to speak of the slowest hundredth of them.
const LOWEST: u64 = 100;

/// More probes than any search takes that begins within a factor of a thousand of its end.
const PROBES_MAX: u32 = 40;

/// A search that is under way. Pure: it is told what came of each probe.
#[derive(Debug, Clone)]
pub struct RateSearch {
    met: Option<u64>,
    missed: Option<u64>,
    start: u64,
    /// The last probe failed for the first time.
    second_try: Option<u64>,
    probes: u32,
}

impl RateSearch {
    /// A search that begins with `start` records a second.
    pub fn new(start: u64) -> Self {
        Self { met: None, missed: None, start: start.max(LOWEST), second_try: None, probes: 0 }
    }

    /// The next rate to try; `None` when the search is over.
    pub fn next_probe(&self) -> Option<u64> {
        if self.probes >= PROBES_MAX {
            return None;
        }
        if let Some(again) = self.second_try {
            return Some(again);
        }
        match (self.met, self.missed) {
            (None, None) => Some(self.start),
            (Some(met), None) => met.checked_mul(2),
            (None, Some(missed)) => (missed / 2 >= LOWEST).then_some(missed / 2),
            (Some(met), Some(missed)) => {
                // The geometric mean: the same ratio to both.
                let middle = u64::try_from((u128::from(met) * u128::from(missed)).isqrt()).unwrap_or(met);
                let close = u128::from(missed) * u128::from(CLOSE.1) <= u128::from(met) * u128::from(CLOSE.0);
                (!close && middle > met).then_some(middle)
            }
        }
    }

    /// What came of the last probe.
    pub fn tell(&mut self, rate: u64, met: bool) {
        self.probes += 1;
        if met {
            self.second_try = None;
            self.met = self.met.max(Some(rate));
        } else if self.second_try.take() == Some(rate) {
            self.missed = Some(self.missed.map_or(rate, |missed| missed.min(rate)));
        } else {
            self.second_try = Some(rate);
        }
    }

    /// The highest rate that was met so far.
    pub fn highest_met(&self) -> Option<u64> {
        self.met
    }
}

pub(super) async fn run<T: Target>(
    bench: &Bench<T>,
    topic: &str,
    p99_below: Duration,
    start: u64,
) -> Result<Outcome, BenchError<T::Error>> {
    let mut search = RateSearch::new(start);
    let (mut steps, mut best) = (Vec::new(), None);
    let mut shares = bench.load.shares();
    let mut stopped = false;
    while let Some(rate) = search.next_probe() {
        let paced = match paced(bench, topic, &shares, rate, bench.load.length).await {
            Err(BenchError::Stopped(_)) if best.is_some() => {
                stopped = true;
                break;
            }
            paced => paced?,
        };
        shares = paced.shares;
        if paced.stopped {
            stopped = true;
            break;
        }
        let met = meets(&paced.measured, rate, p99_below);
        (bench.notice)(&probe_line(rate, &paced.measured, met));
        search.tell(rate, met);
        if met && search.highest_met() == Some(rate) {
            best = Some(paced.measured.clone());
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        steps.push(Step { at: rate as f64, met: Some(met), measured: paced.measured });
    }
    match best {
        Some(measured) => Ok(Outcome { measured, steps, stopped }),
        None if stopped => Err(BenchError::Stopped("before a rate was met")),
        None => Err(BenchError::NothingMeasured("no rate met the bound; try a longer --p99-below")),
    }
}

/// Whether records arrived in time. What could not even be sent in time has no latency, so it counts apart.
fn meets(measured: &Measured, rate: u64, p99_below: Duration) -> bool {
    let arrived = measured.part("tail").and_then(|tail| tail.latency.as_ref());
    let owed = measured.part("produce").map_or(0, |produce| produce.owed);
    let owed_max = u128::from(rate) * p99_below.as_micros() / 1_000_000;
    let in_time = arrived.is_some_and(|latency| latency.p99_us <= p99_below.as_secs_f64() * 1e6);
    in_time && u128::from(owed) <= owed_max.max(1)
}

fn probe_line(rate: u64, measured: &Measured, met: bool) -> String {
    let verdict = if met { "met" } else { "missed" };
    let p99 = measured.part("tail").and_then(|tail| tail.latency.as_ref()).map_or(0.0, |latency| latency.p99_us);
    let owed = measured.part("produce").map_or(0, |produce| produce.owed);
    let owed = if owed > 0 { format!(", {} not sent in time", format_count(owed)) } else { String::new() };
    format!("{} records/s: p99 {:.2} ms{owed}: {verdict}", format_count(rate), p99 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where a probe is met by `is_met`; the rate found, and how many probes it took.
    fn search(start: u64, mut is_met: impl FnMut(u64) -> bool) -> (Option<u64>, u32) {
        let mut search = RateSearch::new(start);
        while let Some(rate) = search.next_probe() {
            search.tell(rate, is_met(rate));
        }
        (search.highest_met(), search.probes)
    }

    #[test]
    fn the_knee_of_a_curve_is_found_from_either_side() {
        // Latency as of a server with one queue: it grows without bound towards capacity.
        let p99_us = |rate: u64, capacity: u64| 500_000 / capacity.saturating_sub(rate).max(1);
        for capacity in [1_000, 73_123, 5_000_000] {
            for start in [500, 20_000, 30_000_000] {
                let (found, probes) = search(start, |rate| p99_us(rate, capacity) < 5_000);
                let (found, highest) = (found.expect("there is one"), capacity - 100);
                assert!(found <= highest && found * 106 > highest * 100, "{found} of {highest}, from {start}");
                assert!(probes < PROBES_MAX, "{probes}");
            }
        }
    }

    #[test]
    fn one_bad_moment_does_not_decide() {
        let mut bad_moments = 1;
        let (found, _) = search(1_000, |rate| {
            let is_bad = rate == 4_000 && bad_moments > 0;
            bad_moments -= u32::from(is_bad);
            rate <= 50_000 && !is_bad
        });
        assert!(found.expect("there is one") > 47_000, "{found:?}");
    }

    #[test]
    fn a_system_that_never_meets_the_bound_ends_the_search() {
        assert_eq!(search(1_000, |_| false).0, None);
        let (found, probes) = search(1_000, |_| true);
        assert!(found.is_some() && probes == PROBES_MAX);
    }
}
