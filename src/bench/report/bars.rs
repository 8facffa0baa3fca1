//! Bars: one row each, made of boxes rather than drawn, so that their text keeps its size on a small screen.

use super::curves::COLOURS;
use super::series::median;
use super::text::escape;
use std::fmt::Write as _;

/// One row.
#[derive(Debug)]
pub(super) struct Bar {
    label: String,
    place: usize,
    value: f64,
    /// What stands behind it, paler.
    behind: f64,
    /// Least and most of several runs.
    spread: Option<(f64, f64)>,
    text: String,
}

impl Bar {
    /// A bar of the median of `values`, and behind it that of `behind`; `None` without values.
    pub(super) fn new(
        label: String,
        place: usize,
        values: &[f64],
        behind: &[f64],
        format: impl Fn(f64) -> String,
    ) -> Option<Self> {
        let (value, back) = (median(values), median(behind));
        // Of a system whose process is not known there is only the client's share.
        if value.is_none() && back.is_none() {
            return None;
        }
        let least = values.iter().copied().min_by(f64::total_cmp);
        let most = values.iter().copied().max_by(f64::total_cmp);
        let spread = least.zip(most).filter(|_| values.len() > 1);
        let mut text = value.map_or_else(|| "?".to_owned(), &format);
        if let Some((least, most)) = spread {
            let _ = write!(text, " <small>{} to {}</small>", format(least), format(most));
        }
        if let Some(back) = back {
            let _ = write!(text, " + {}", format(back));
        }
        Some(Self { label, place, value: value.unwrap_or(0.0), behind: back.unwrap_or(0.0), spread, text })
    }
}

/// A chart of bars from 0 to the longest.
pub(super) fn bars(out: &mut String, title: &str, rows: &[Bar]) {
    if rows.is_empty() {
        return;
    }
    let ends = rows.iter().map(|row| (row.value + row.behind).max(row.spread.map_or(0.0, |(_, most)| most)));
    let longest = ends.fold(f64::MIN_POSITIVE, f64::max);
    let percent = |value: f64| format!("{:.2}%", value / longest * 100.0);
    let _ = writeln!(out, "<figure><figcaption>{title}</figcaption><div class=\"bars\">");
    for row in rows {
        let (label, text) = (escape(&row.label), &row.text);
        let _ = write!(out, "<div class=\"label\">{label}</div><div class=\"value\">{text}</div><div class=\"track\">");
        let colour = row.place % COLOURS;
        let _ = write!(out, "<b class=\"c{colour}\" style=\"width:{}\"></b>", percent(row.value));
        if row.behind > 0.0 {
            let (left, width) = (percent(row.value), percent(row.behind));
            let _ = write!(out, "<b class=\"c{colour} pale\" style=\"left:{left};width:{width}\"></b>");
        }
        if let Some((least, most)) = row.spread {
            let (left, width) = (percent(least), percent(most - least));
            let _ = write!(out, "<s style=\"left:{left};width:{width}\"></s>");
        }
        *out += "</div>\n";
    }
    *out += "</div></figure>\n";
}
