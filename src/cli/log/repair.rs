//! `millstream log repair`: each damaged place, and what was done about it.

use super::PlaceArgs;
use crate::cli::exit::CliError;
use crate::repair::{Mend, Outcome, RepairOptions, repair};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
Examples:
  millstream log repair orders/0 --dry-run                       what is damaged, and what could be done
  millstream log repair orders/0 --copy /backup/millstream-data  take lost records from a backup of the directory
  millstream log repair orders/0 --accept-loss                   give up what cannot be read; readers step over it

The broker must be stopped. Good records are never changed, offsets stay as they are, and each damaged file is kept
beside the new one, as .damaged. Without --accept-loss nothing is given up.

JSON, one object for each damaged place: path, position (bytes), first_offset, next_offset (exclusive), outcome:
header_restored, restored, given_up or left.

Exit codes: 0 nothing is damaged any more, 1 could not run, 3 no such topic or partition, 5 something is left damaged.";

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A copy of the data directory, to take lost records from.
    #[arg(long, value_name = "DIRECTORY")]
    copy: Option<PathBuf>,
    /// Give up the records that no copy has.
    #[arg(long)]
    accept_loss: bool,
    /// Change nothing; say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object for each damaged place.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RepairArgs) -> Result<(), CliError> {
    let (directory, selection) = args.place.open()?;
    let mut left = 0;
    for place in directory.find(&selection)? {
        let within = place.directory.strip_prefix(directory.path()).unwrap_or(&place.directory);
        let options = RepairOptions {
            copy: args.copy.as_ref().map(|copy| copy.join(within)),
            accept_loss: args.accept_loss,
            dry_run: args.dry_run,
        };
        for mend in repair(directory.path(), &place, &options)? {
            left += u64::from(mend.outcome == Outcome::Left);
            let line = if args.json { mend_json(&mend).to_string() } else { mend_line(&mend, args.dry_run) };
            writeln!(std::io::stdout(), "{line}").map_err(CliError::output)?;
        }
    }
    if left == 0 { Ok(()) } else { Err(CliError::ProblemsFound(left)) }
}

/// `path: byte 128: offsets 3 to 4 (exclusive): restored from the copy`.
fn mend_line(mend: &Mend, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let outcome = match mend.outcome {
        Outcome::HeaderRestored => format!("the header of the segment {would}written anew; its records are there"),
        Outcome::Restored => format!("{would}restored from the copy"),
        Outcome::GivenUp => format!("{would}given up; readers step over them"),
        Outcome::Left => "left as they are: name a --copy that has them, or --accept-loss to give them up".to_owned(),
    };
    let offsets = if mend.offsets.is_empty() {
        String::new()
    } else {
        format!("offsets {} to {} (exclusive): ", mend.offsets.start, mend.offsets.end)
    };
    format!("{}: byte {}: {offsets}{outcome}", mend.path.display(), mend.position)
}

fn mend_json(mend: &Mend) -> Value {
    json!({
        "path": mend.path, "position": mend.position, "first_offset": mend.offsets.start,
        "next_offset": mend.offsets.end, "outcome": mend.outcome.name(),
    })
}
