//! What came of all rounds as a picture (SVG): how many times better the first system is than each other one.

use super::cases::Case;
use super::figures::{Figure, Spread};
use super::systems::System;
use super::tables::{self, Rounds};
use std::fmt::Write as _;

/// The drawing, in its own units.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 400.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 72.0;
const ROW: f64 = 20.0;
const BOTTOM: f64 = 24.0;

/// What is further out stands at the edge: most of what there is to see is near 1.
const LEAST: f64 = 0.2;
const MOST: f64 = 200.0;
const TICKS: [(f64, &str); 8] = [
    (0.2, "1/5"),
    (0.5, "1/2"),
    (1.0, "same"),
    (2.0, "2x"),
    (5.0, "5x"),
    (20.0, "20x"),
    (50.0, "50x"),
    (200.0, "200x"),
];

/// Can be told apart by those who see no red or no green.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b8860b", "#444444"];

/// A row for each figure of each case, in it a point for each other system: right of the middle the first one is better.
/// A line goes from the least to the most of all rounds.
pub fn svg(rounds: &Rounds, systems: &[System]) -> String {
    let Some((first, others)) = systems.split_first() else { return String::new() };
    let rows: Vec<(Case, Figure)> =
        rounds.keys().flat_map(|case| case.figures().iter().map(|figure| (*case, *figure))).collect();
    let mut y = TOP;
    let mut body = String::new();
    for (number, (case, figure)) in rows.iter().enumerate() {
        if number % 2 == 0 {
            let _ = writeln!(body, "<rect x=\"0\" y=\"{y:.0}\" width=\"{WIDTH}\" height=\"{ROW}\" fill=\"#f4f4f4\"/>");
        }
        let middle = y + ROW / 2.0;
        let (title, name) = (case.title(), figure.name());
        let _ = writeln!(body, "<text x=\"8\" y=\"{:.1}\">{title}: {name}</text>", middle + 4.0);
        for (place, other) in others.iter().enumerate() {
            if let Some(better) = times_better(rounds, (*case, *figure), *first, *other) {
                let height = middle + offset(place, others.len());
                point(&mut body, COLOURS[place % COLOURS.len()], height, &better);
            }
        }
        y += ROW;
    }
    let height = y + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#222\">\n<rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"14\" font-weight=\"bold\">How many times better {} is than</text>\n",
        tables::name(*first)
    );
    legend(&mut out, others);
    out += &body;
    axis(&mut out, y);
    out += "</svg>\n";
    out
}

/// The ratio of the better direction: above 1 `ours` is better, whatever the figure counts.
fn times_better(rounds: &Rounds, (case, figure): (Case, Figure), ours: System, theirs: System) -> Option<Spread> {
    let of = |system| tables::column(rounds, case, system, figure);
    let ratios = Spread::of_ratios(&of(ours), &of(theirs)).filter(|ratios| ratios.least > 0.0)?;
    Some(if figure.more_is_better() {
        ratios
    } else {
        Spread { median: 1.0 / ratios.median, least: 1.0 / ratios.most, most: 1.0 / ratios.least }
    })
}

#[expect(clippy::cast_precision_loss, reason = "a handful of systems")]
fn offset(place: usize, count: usize) -> f64 {
    (place as f64 - (count.saturating_sub(1)) as f64 / 2.0) * (ROW - 8.0) / count as f64
}

fn x_of(ratio: f64) -> f64 {
    let place = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + place * (WIDTH - LEFT - RIGHT)
}

fn point(out: &mut String, colour: &str, y: f64, better: &Spread) {
    let (x, from, to) = (x_of(better.median), x_of(better.least), x_of(better.most));
    let _ = writeln!(
        out,
        "<path d=\"M{from:.1} {y:.1}H{to:.1}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
         <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
    );
}

fn legend(out: &mut String, others: &[System]) {
    let mut x = 12.0;
    for (place, other) in others.iter().enumerate() {
        let (name, colour) = (tables::name(*other), COLOURS[place % COLOURS.len()]);
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.0}\" cy=\"38\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"42\">{name}</text>",
            x + 8.0
        );
        x += 26.0 + 6.5 * f64::from(u32::try_from(name.len()).unwrap_or(u32::MAX));
    }
}

fn axis(out: &mut String, bottom: f64) {
    for (ratio, label) in TICKS {
        let x = x_of(ratio);
        let (colour, anchor) = (if label == "same" { "#222" } else { "#ccc" }, "middle");
        let from = TOP - 6.0;
        let _ = writeln!(
            out,
            "<path d=\"M{x:.1} {from}V{bottom:.0}\" stroke=\"{colour}\" stroke-width=\"1\" opacity=\"0.6\"/>\
             <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{label}</text>",
            from - 4.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn better_is_right_of_the_middle_whether_more_or_less_is_better() {
        let of = |rate: f64, cpu: f64| Some(Figures::from([(Figure::RecordsPerS, rate), (Figure::BrokerCpuUs, cpu)]));
        let systems =
            BTreeMap::from([(System::Millstream, vec![of(400.0, 1.0)]), (System::Nats, vec![of(100.0, 4.0)])]);
        let rounds = Rounds::from([(Case::ProduceWritten, systems)]);
        for figure in [Figure::RecordsPerS, Figure::BrokerCpuUs] {
            let better = times_better(&rounds, (Case::ProduceWritten, figure), System::Millstream, System::Nats);
            assert_eq!(better, Some(Spread { median: 4.0, least: 4.0, most: 4.0 }));
        }
        let picture = svg(&rounds, &[System::Millstream, System::Nats, System::Redis]);
        assert_eq!(
            picture.matches("r=\"4\"").count(),
            2 + 2,
            "two in the legend, two points of the one that has figures"
        );
        assert!(picture.contains("produce 100 B, written: records/s") && !picture.contains("NaN"));
        assert!(x_of(1e9) <= WIDTH - RIGHT && x_of(1e-9) >= LEFT, "nothing is drawn outside");
    }
}
