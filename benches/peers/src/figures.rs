//! Figures of a case, and how those of two systems compare: ratios of one round, then their median, least and most.

use millstream::bench::result::RunResult;
use std::collections::BTreeMap;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    RecordsPerS,
    P50Us,
    P99Us,
    BrokerCpuUs,
    StartMs,
    IdlePssMib,
    IdleRssMib,
    FilledPssMib,
    FilledRssMib,
    TopicsPssMib,
    TopicsRssMib,
}

/// Of one case on one system.
pub type Figures = BTreeMap<Figure, f64>;

impl Figure {
    pub fn name(self) -> &'static str {
        match self {
            Self::RecordsPerS => "records/s",
            Self::P50Us => "p50, us",
            Self::P99Us => "p99, us",
            Self::BrokerCpuUs => "broker CPU a record, us",
            Self::StartMs => "start to first topic, ms",
            Self::IdlePssMib => "idle, PSS MiB",
            Self::IdleRssMib => "idle, RSS MiB",
            Self::FilledPssMib => "filled, PSS MiB",
            Self::FilledRssMib => "filled, RSS MiB",
            Self::TopicsPssMib => "many topics, PSS MiB",
            Self::TopicsRssMib => "many topics, RSS MiB",
        }
    }

    /// Whether a higher one is better.
    pub fn more_is_better(self) -> bool {
        self == Self::RecordsPerS
    }
}

/// Those of a workload: of its last part, which is that of the readers or workers where there are any.
pub fn of_run(result: &RunResult) -> Figures {
    let part = result.measured.parts.last().expect("every workload has a part");
    let latency = part.latency.as_ref();
    let figures = [
        (Figure::RecordsPerS, Some(part.records_per_s)),
        (Figure::P50Us, latency.map(|all| all.p50_us)),
        (Figure::P99Us, latency.map(|all| all.p99_us)),
        (Figure::BrokerCpuUs, result.measured.broker_us_per_record()),
    ];
    figures.into_iter().filter_map(|(figure, value)| Some((figure, value?))).collect()
}

/// The middle of some numbers, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// `None` of no numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<_> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        let median = numbers[(numbers.len() - 1) / 2].midpoint(numbers[numbers.len() / 2]);
        Some(Self { median, least, most })
    }

    /// Of `ours` divided by `theirs`, round by round; a round that one of the two has no figure of is left out.
    pub fn of_ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Self> {
        let pairs = ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some(((*ours)?, (*theirs)?)));
        Self::of(pairs.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_of_all_between_the_least_and_the_most() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([2.0]), Some(Spread { median: 2.0, least: 2.0, most: 2.0 }));
        assert_eq!(Spread::of([9.0, 1.0, 4.0]), Some(Spread { median: 4.0, least: 1.0, most: 9.0 }));
        assert_eq!(Spread::of([8.0, 1.0, 3.0, 5.0]), Some(Spread { median: 4.0, least: 1.0, most: 8.0 }));
    }

    #[test]
    fn ratios_are_of_one_round_each() {
        // Twice as fast in a quick round and in a slow one: the median of each would say something else.
        let (ours, theirs) = ([Some(200.0), Some(20.0), Some(2.0)], [Some(100.0), Some(10.0), Some(1.0)]);
        let ratios = Spread::of_ratios(&ours, &theirs);
        assert_eq!(ratios, Some(Spread { median: 2.0, least: 2.0, most: 2.0 }));
        let gaps =
            Spread::of_ratios(&[Some(3.0), None, Some(1.0), Some(5.0)], &[Some(1.0), Some(9.0), None, Some(0.0)]);
        assert_eq!(gaps, Some(Spread { median: 3.0, least: 3.0, most: 3.0 }));
        assert_eq!(Spread::of_ratios(&[None], &[Some(1.0)]), None);
    }
}
