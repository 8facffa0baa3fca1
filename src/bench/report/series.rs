//! Runs of the same thing, under a name that tells them from the others of their section.

use super::super::result::{Measured, RunResult};
use std::collections::BTreeMap;

/// Runs of one system with the same settings and label.
#[derive(Debug)]
pub(super) struct Series<'r> {
    pub(super) name: String,
    /// At least one, in the order of the files.
    pub(super) runs: Vec<&'r RunResult>,
}

impl<'r> Series<'r> {
    /// A figure of each run, of those that have it.
    pub(super) fn figures(&self, figure: impl Fn(&Measured) -> Option<f64>) -> Vec<f64> {
        self.runs.iter().filter_map(|run| figure(&run.measured)).collect()
    }

    /// The run whose rate is the median.
    pub(super) fn middle(&self) -> &'r RunResult {
        let rate = |run: &RunResult| run.measured.parts.last().map_or(0.0, |part| part.records_per_s);
        let mut runs = self.runs.clone();
        runs.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
        runs[(runs.len() - 1) / 2]
    }
}

/// Settings by name.
pub(super) type Settings = BTreeMap<String, String>;

/// Series in order of their first run, and the settings that all runs have in common.
pub(super) fn series_of<'r>(runs: &[&'r RunResult]) -> (Vec<Series<'r>>, Settings) {
    let first = &runs[0].settings;
    let is_common = |name: &String, value: &String| runs.iter().all(|run| run.settings.get(name) == Some(value));
    let common: Settings =
        first.iter().filter(|(name, value)| is_common(name, value)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let several_versions = |system: &str| {
        let mut versions = runs.iter().filter(|run| run.system == system).map(|run| &run.version);
        let first = versions.next();
        versions.any(|version| Some(version) != first)
    };
    let mut series: Vec<Series<'_>> = Vec::new();
    for run in runs {
        let mut name = run.system.clone();
        if several_versions(&run.system) {
            name = [name.as_str(), &run.version].join(" ");
        }
        if let Some(label) = &run.label {
            name = [name.as_str(), label].join(" ");
        }
        let different = run.settings.iter().filter(|(setting, _)| !common.contains_key(*setting));
        let different: Vec<_> = different.map(|(setting, value)| format!("{setting} {value}")).collect();
        if !different.is_empty() {
            name += &[" (", &different.join(", "), ")"].concat();
        }
        match series.iter_mut().find(|one| one.name == name) {
            Some(one) => one.runs.push(run),
            None => series.push(Series { name, runs: vec![run] }),
        }
    }
    (series, common)
}

/// The value in the middle; of an even number of them the lower one.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::super::result::tests::run;
    use super::*;

    #[test]
    fn runs_of_the_same_thing_are_one_series_and_differences_are_in_the_names() {
        let mut other = run("millstream", "produce", 2);
        other.settings.insert("durability".to_owned(), "written".to_owned());
        let runs = [run("millstream", "produce", 1), run("millstream", "produce", 3), other, run("nats", "produce", 1)];
        let runs: Vec<_> = runs.iter().collect();
        let (series, common) = series_of(&runs);
        let names: Vec<_> = series.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["millstream", "millstream (durability written)", "nats"]);
        assert_eq!(series[0].runs.len(), 2);
        assert_eq!(common["record-bytes"], "100");
    }

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[3.0, 1.0]), Some(1.0));
        assert_eq!(median(&[]), None);
    }
}
