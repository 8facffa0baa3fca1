//! `millstream dlq peek` and `millstream dlq export`: letters as they are read, a few for a person or all for a program.

use super::OutputArgs;
use super::print::{self, write_letter};
use super::selection::{SelectionArgs, check_unreadable};
use crate::cli::BrokerArgs;
use crate::cli::exit::CliError;
use crate::cli::interrupt::interrupt;
use crate::client::admin::DeadLetters;
use crate::clock::{Clock as _, SystemClock};
use crate::units::format_count;
use clap::Args;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Letters of one peek when nobody says how many.
const PEEK_LETTERS_DEFAULT: u64 = 10;

/// Options of `dlq peek`.
#[derive(Debug, Args)]
pub(super) struct PeekArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Not more than so many.
    #[arg(short = 'n', long, value_name = "N", default_value_t = PEEK_LETTERS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Those that were redriven or purged, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    out: OutputArgs,
}

/// Options of `dlq export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Not more than so many.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Those that were redriven or purged, too.
    #[arg(long)]
    all: bool,
    /// Write to this file, which must not exist, instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Prints some.
pub(super) async fn peek(args: PeekArgs) -> Result<(), CliError> {
    let selection = args.selection.selection(SystemClock.now_ms())?;
    let client = args.out.broker.connect().await?;
    let mut letters = client.read_dead_letters(&selection, args.limit, args.all).await?;
    if args.out.json {
        copy(&mut letters, &mut std::io::stdout().lock()).await?;
    } else {
        let mut found = Vec::new();
        while let Some(letter) = letters.next().await? {
            found.push(print::row(&letter));
        }
        print::peeked(found)?;
    }
    check_unreadable(letters.unreadable())
}

/// Writes all.
pub(super) async fn export(args: ExportArgs) -> Result<(), CliError> {
    let selection = args.selection.selection(SystemClock.now_ms())?;
    let client = args.broker.connect().await?;
    let mut letters = client.read_dead_letters(&selection, args.limit.unwrap_or(0), args.all).await?;
    let copied = match &args.output {
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            copy(&mut letters, &mut out).await?
        }
        Some(path) => {
            let mut file = BufWriter::new(create(path)?);
            let copied = copy(&mut letters, &mut file).await?;
            file.get_ref().sync_all().map_err(|source| cannot_write(path, source))?;
            copied
        }
    };
    let file = args.output.as_deref().map(|path| format!(" to {}", path.display())).unwrap_or_default();
    eprintln!("exported {} letters of {}{file}", format_count(copied), args.selection);
    check_unreadable(letters.unreadable())
}

/// Each letter as a line; how many there were.
async fn copy(letters: &mut DeadLetters, out: &mut impl Write) -> Result<u64, CliError> {
    let mut copied = 0;
    let copying = async {
        while let Some(letter) = letters.next().await? {
            write_letter(out, &letter).map_err(CliError::output)?;
            copied += 1;
        }
        Ok(())
    };
    let result = tokio::select! {
        result = copying => result,
        () = interrupt() => Err(CliError::Interrupted),
    };
    let flushed = out.flush().map_err(CliError::output);
    result.and(flushed).map(|()| copied)
}

/// A file that is there is somebody's: it is not written over.
fn create(path: &Path) -> Result<File, CliError> {
    File::options().write(true).create_new(true).open(path).map_err(|source| cannot_write(path, source))
}

fn cannot_write(path: &Path, source: std::io::Error) -> CliError {
    CliError::Io { what: format!("cannot write {}", path.display()), source }
}
