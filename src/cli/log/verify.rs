//! `millstream log verify`: each problem as it is found, then what was looked at.

use super::{PlaceArgs, warn_if_in_use};
use crate::cli::exit::CliError;
use crate::inspect::problem::Problem;
use crate::inspect::verify::{Event, Totals, bytes_to_read, verify};
use crate::units::{format_bytes, format_count};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::Write as _;
use std::time::{Duration, Instant};

pub(super) const HELP: &str = "\
Examples:
  millstream log verify
  millstream log verify orders/0
  millstream log verify --path topics/UUID/0 --json

While a broker runs, only sealed segments are looked at; stop it, or verify a copy, to check the ends too.

JSON, one object for each problem: kind, path, position (bytes, or null), first_offset, next_offset (the offsets
concerned, the second exclusive, or null), what. Kinds: format, catalog, checkpoint, segment_header, frame, payload,
truncated, missing_segment, missing_directory, offsets, time, index, torn_tail, unfinished_compaction, unknown_file,
unreadable.
Then one object with kind summary: partitions, segments, frames, records, bytes, problems, elapsed_ms.

Exit codes: 0 all is good, 1 could not run, 3 no such topic or partition, 5 problems were found.";

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// One JSON object for each problem, and one for the whole.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), CliError> {
    let (directory, selection) = args.place.open()?;
    warn_if_in_use(&directory, "only sealed segments are verified")?;
    let started = Instant::now();
    let progress = progress_bar(|| bytes_to_read(&directory, &selection));
    let mut printed = Ok(());
    let totals = verify(&directory, &selection, &mut |event| match event {
        Event::Read(bytes) => progress.inc(bytes),
        Event::Problem(problem) if printed.is_ok() => {
            let line = if args.json { problem_json(&problem).to_string() } else { problem_line(&problem) };
            // The bar is out of the way while a line is printed.
            printed = progress.suspend(|| writeln!(std::io::stdout(), "{line}"));
        }
        Event::Problem(_) => {}
    });
    progress.finish_and_clear();
    let (totals, elapsed) = (totals?, started.elapsed());
    printed.map_err(CliError::output)?;
    let line = if args.json { totals_json(&totals, elapsed).to_string() } else { totals_line(&totals, elapsed) };
    writeln!(std::io::stdout(), "{line}").map_err(CliError::output)?;
    match totals.problems {
        0 => Ok(()),
        problems => Err(CliError::ProblemsFound(problems)),
    }
}

/// On standard error, and only if that is a terminal.
fn progress_bar(bytes: impl FnOnce() -> u64) -> ProgressBar {
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{wide_bar} {binary_bytes} of {binary_total_bytes} ({binary_bytes_per_sec})");
    ProgressBar::new(bytes()).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// `path: byte 128: offsets 3 to 4 (exclusive): the checksum does not match`.
fn problem_line(problem: &Problem) -> String {
    let position = problem.position.map(|position| format!("byte {position}: ")).unwrap_or_default();
    let offsets = problem.offsets.as_ref();
    let offsets = offsets.map(|range| format!("offsets {} to {} (exclusive): ", range.start, range.end));
    format!("{}: {position}{}{}", problem.path.display(), offsets.unwrap_or_default(), problem.what)
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "kind": problem.kind.name(), "path": problem.path, "position": problem.position,
        "first_offset": problem.offsets.as_ref().map(|offsets| offsets.start),
        "next_offset": problem.offsets.as_ref().map(|offsets| offsets.end), "what": problem.what,
    })
}

fn totals_line(totals: &Totals, elapsed: Duration) -> String {
    let count = |count: u64, one: &str, many: &str| {
        let name = if count == 1 { one } else { many };
        format!("{} {name}", format_count(count))
    };
    let bytes_per_ms = u128::from(totals.bytes) / elapsed.as_millis().max(1);
    format!(
        "{}: {}, {}, {}, {}, {} ({} MB/s)",
        if totals.problems == 0 { "all good".to_owned() } else { count(totals.problems, "problem", "problems") },
        count(totals.partitions, "partition", "partitions"),
        count(totals.segments, "segment", "segments"),
        count(totals.frames, "frame", "frames"),
        count(totals.records, "record", "records"),
        format_bytes(totals.bytes),
        bytes_per_ms / 1000,
    )
}

fn totals_json(totals: &Totals, elapsed: Duration) -> Value {
    json!({
        "kind": "summary", "partitions": totals.partitions, "segments": totals.segments, "frames": totals.frames,
        "records": totals.records, "bytes": totals.bytes, "problems": totals.problems,
        "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}
