//! Lines over two axes, drawn in SVG.
//!
//! Small numbers of points and of ticks; coordinates are rounded, so that the page stays small.

use super::text::{escape, rate, short, time};
use std::f64::consts::LOG10_2;
use std::fmt::Write as _;

/// Colours of the style sheet: `c0` and so on. With more series they come again, dashed.
pub(super) const COLOURS: usize = 8;

/// The drawing, in its own units, and the room for numbers at its edges.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;

/// What a chart says.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) x_name: &'static str,
}

/// How an axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    Log,
    /// Microseconds, logarithmic.
    LogTime,
    /// Percentiles, by the number of their nines.
    Nines,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Whether its points are marked.
    pub(super) marks: bool,
    pub(super) name: String,
}

/// An axis with its bounds.
#[derive(Debug)]
struct Axis {
    scale: Scale,
    /// In the measure of the scale: logarithms, where it is logarithmic.
    from: f64,
    to: f64,
}

impl Axis {
    fn over(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let measured = values.map(|value| measure(scale, value));
        let least = measured.clone().fold(f64::INFINITY, f64::min);
        let most = measured.fold(f64::NEG_INFINITY, f64::max);
        let (from, to) = match scale {
            Scale::Linear => (0.0, most * 1.08),
            Scale::Nines => (0.0, most.max(1.0)),
            // A line that is flat within a decade should look flat.
            Scale::Log | Scale::LogTime => {
                let room = ((1.0 - (most - least)) / 2.0).max(0.05);
                (least - room, most + room)
            }
        };
        Self { scale, from, to: if to > from { to } else { from + 1.0 } }
    }

    /// Where a value stands, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        (measure(self.scale, value) - self.from) / (self.to - self.from)
    }

    /// Values with a line and a number.
    fn ticks(&self) -> Vec<(f64, String)> {
        let label = |value: f64| match self.scale {
            Scale::LogTime => of_tick(&time(value)),
            _ => of_tick(&rate(value)),
        };
        let values: Vec<f64> = match self.scale {
            Scale::Nines => return nines_ticks(self.to),
            Scale::Linear => {
                let step = round_step(self.to / 4.0);
                std::iter::successors(Some(0.0), |value| Some(value + step))
                    .take_while(|value| *value <= self.to)
                    .collect()
            }
            Scale::Log | Scale::LogTime => {
                let factors: &[f64] = if self.to - self.from > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let decades = whole(self.from.floor())..=whole(self.to.ceil());
                let values = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)));
                values.filter(|value| (0.0..=1.0).contains(&self.place(*value))).collect()
            }
        };
        values.into_iter().map(|value| (value, label(value))).collect()
    }
}

fn measure(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear | Scale::Nines => value,
        Scale::Log | Scale::LogTime => value.max(1e-9).log10(),
    }
}

fn nines_ticks(to: f64) -> Vec<(f64, String)> {
    let named = [(0.0, "0"), (LOG10_2, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")];
    named.iter().filter(|(nines, _)| *nines <= to + 0.01).map(|(nines, name)| (*nines, (*name).to_owned())).collect()
}

/// A number with its unit, without the digits that a round number does not need.
fn of_tick(text: &str) -> String {
    let unit = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let round = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    [round, unit].concat()
}

/// 1, 2 or 5 times a power of ten, about as large as `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10_f64.powf(step.max(f64::MIN_POSITIVE).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * decade >= step);
    factor.unwrap_or(10.0) * decade
}

#[expect(clippy::cast_possible_truncation, reason = "a logarithm of a figure is small")]
fn whole(number: f64) -> i32 {
    number as i32
}

/// Draws the chart; nothing without points.
pub(super) fn curves(out: &mut String, chart: &Chart, lines: &[Line]) {
    let points = lines.iter().flat_map(|line| line.points.iter().copied());
    if points.clone().next().is_none() {
        return;
    }
    let x_axis = Axis::over(chart.x, points.clone().map(|(x, _)| x));
    let y_axis = Axis::over(chart.y, points.map(|(_, y)| y));
    let x_of = |x: f64| LEFT + x_axis.place(x) * (WIDTH - LEFT - RIGHT);
    let y_of = |y: f64| HEIGHT - BOTTOM - y_axis.place(y) * (HEIGHT - TOP - BOTTOM);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let _ = writeln!(
        out,
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">",
        chart.title
    );
    for (value, label) in y_axis.ticks() {
        let y = y_of(value);
        let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, y + 4.0);
    }
    for (value, label) in x_axis.ticks() {
        let x = x_of(value);
        let _ = write!(out, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 16.0);
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" class=\"name\">{}</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 5.0,
        chart.x_name
    );
    for line in lines.iter().filter(|line| !line.points.is_empty()) {
        let mut path = String::new();
        for (number, (x, y)) in line.points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if number == 0 { 'M' } else { 'L' }, x_of(*x), y_of(*y));
        }
        let dashed = if line.place >= COLOURS { " dashed" } else { "" };
        let colour = line.place % COLOURS;
        let name = escape(&line.name);
        let _ = writeln!(out, "<path class=\"line c{colour}{dashed}\" d=\"{path}\"><title>{name}</title></path>");
        for (x, y) in line.points.iter().filter(|_| line.marks) {
            let value = if chart.y == Scale::LogTime { time(*y) } else { short(*y) };
            let _ = writeln!(
                out,
                "<circle class=\"c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{name}: {value}</title></circle>",
                x_of(*x),
                y_of(*y)
            );
        }
    }
    *out += "</svg></figure>\n";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn axes_have_few_round_numbers_that_cover_the_values() {
        let linear = Axis::over(Scale::Linear, [300_000.0, 410_000.0].into_iter());
        assert_eq!(labels(&linear), ["0", "200k", "400k"]);
        let log = Axis::over(Scale::LogTime, [120.0, 900_000.0].into_iter());
        assert_eq!(labels(&log), ["1 ms", "10 ms", "100 ms", "1 s"]);
        let nines = Axis::over(Scale::Nines, [0.0, 3.2].into_iter());
        assert_eq!(labels(&nines), ["0", "50", "90", "99", "99.9"]);
        let small = Axis::over(Scale::Linear, [0.1441].into_iter());
        assert_eq!(labels(&small), ["0", "0.05", "0.1", "0.15"]);
        for axis in [linear, log, nines, small] {
            assert!(axis.ticks().iter().all(|(value, _)| (0.0..=1.0).contains(&axis.place(*value))), "{axis:?}");
        }
    }

    #[test]
    fn one_value_alone_has_an_axis_too() {
        for scale in [Scale::Linear, Scale::Log, Scale::LogTime, Scale::Nines] {
            let axis = Axis::over(scale, [0.0, 0.0].into_iter());
            assert!(axis.place(0.0).is_finite(), "{scale:?}");
            let axis = Axis::over(scale, [5.0].into_iter());
            assert!((0.0..=1.001).contains(&axis.place(5.0)) || scale == Scale::Nines, "{scale:?}");
            assert!(!labels(&axis).is_empty(), "{scale:?}");
        }
    }
}
