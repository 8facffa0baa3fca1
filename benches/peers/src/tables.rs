//! What came of all rounds, as two Markdown tables that a document can hold: figures, and ratios to the first system.

use super::cases::Case;
use super::figures::{Figure, Figures, Spread};
use super::systems::System;
use clap::ValueEnum as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Figures of a case, by system, round by round; a round that failed has none.
pub type Rounds = BTreeMap<Case, BTreeMap<System, Vec<Option<Figures>>>>;

/// The tables; the first of the systems is what others are compared with.
pub fn markdown(rounds: &Rounds, systems: &[System]) -> String {
    let Some((first, others)) = systems.split_first() else { return String::new() };
    let values = table(rounds, systems, |case, system, figure| {
        let spread = Spread::of(column(rounds, case, system, figure).into_iter().flatten())?;
        Some(spread_text(&spread))
    });
    let mut text = format!("Figures: median (least..most) of rounds.\n\n{values}");
    if !others.is_empty() {
        let ratios = table(rounds, others, |case, system, figure| {
            let (ours, theirs) = (column(rounds, case, *first, figure), column(rounds, case, system, figure));
            Some(spread_text(&Spread::of_ratios(&ours, &theirs)?))
        });
        let first = name(*first);
        let how = "median (least..most) of rounds, each of one round";
        let _ = write!(text, "\nRatios, {first} / other: {how}.\n\n{ratios}");
    }
    text
}

/// A line for each figure of each case that was run, a column for each system.
fn table(rounds: &Rounds, systems: &[System], cell: impl Fn(Case, System, Figure) -> Option<String>) -> String {
    let names = systems.iter().map(|system| name(*system));
    let mut text = row("line", "better", names) + &row("---", "---", systems.iter().map(|_| "---".to_owned()));
    for case in rounds.keys() {
        for figure in case.figures() {
            let line = format!("{}: {}", case.title(), figure.name());
            let better = if figure.more_is_better() { "more" } else { "less" };
            let cells = systems.iter().map(|system| cell(*case, *system, *figure).unwrap_or_else(|| "-".to_owned()));
            text += &row(&line, better, cells);
        }
    }
    text
}

fn row(line: &str, better: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = [line.to_owned(), better.to_owned()].into_iter().chain(cells).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// A figure of a system, round by round.
pub fn column(rounds: &Rounds, case: Case, system: System, figure: Figure) -> Vec<Option<f64>> {
    let results = rounds.get(&case).and_then(|systems| systems.get(&system)).map_or(&[][..], Vec::as_slice);
    results.iter().map(|figures| figures.as_ref()?.get(&figure).copied()).collect()
}

/// As on the command line.
pub fn name(system: System) -> String {
    system.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn spread_text(spread: &Spread) -> String {
    format!("{} ({}..{})", short(spread.median), short(spread.least), short(spread.most))
}

/// About three digits.
fn short(number: f64) -> String {
    match number {
        number if number >= 999_500.0 => format!("{:.2} M", number / 1e6),
        number if number >= 9_995.0 => format!("{:.0} k", number / 1e3),
        number if number >= 99.5 => format!("{number:.0}"),
        number if number >= 9.95 => format!("{number:.1}"),
        number if number >= 0.1 => format!("{number:.2}"),
        number => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let numbers = [4_123_456.0, 999_900.0, 41_234.0, 4_123.0, 41.23, 4.123, 0.4123, 0.0412, 0.0];
        let short: Vec<_> = numbers.into_iter().map(short).collect();
        assert_eq!(short, ["4.12 M", "1.00 M", "41 k", "4123", "41.2", "4.12", "0.41", "0.041", "0.000"]);
    }

    #[test]
    fn a_line_has_every_figure_of_a_case_and_a_gap_where_there_is_none() {
        let of = |rate: f64| Some(Figures::from([(Figure::RecordsPerS, rate)]));
        let systems = BTreeMap::from([
            (System::Millstream, vec![of(400.0), of(300.0), None]),
            (System::Nats, vec![of(100.0), of(100.0), of(7.0)]),
        ]);
        let rounds = Rounds::from([(Case::ProduceWritten, systems)]);
        let text = markdown(&rounds, &[System::Millstream, System::Nats, System::RabbitQuorum]);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(
            lines,
            [
                "| line | better | millstream | nats | rabbit-quorum |",
                "| --- | --- | --- | --- | --- |",
                "| produce 100 B, written: records/s | more | 350 (300..400) | 100 (7.00..100) | - |",
                "| produce 100 B, written: broker CPU a record, us | less | - | - | - |",
                "| line | better | nats | rabbit-quorum |",
                "| --- | --- | --- | --- |",
                "| produce 100 B, written: records/s | more | 3.50 (3.00..4.00) | - |",
                "| produce 100 B, written: broker CPU a record, us | less | - | - |",
            ]
        );
    }
}
