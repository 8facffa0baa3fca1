//! `millstream dlq`: list, peek, redrive, purge, export.

mod print;
mod read;
mod redrive;
mod selection;

use super::BrokerArgs;
use super::confirm::confirm;
use super::exit::CliError;
use super::interrupt::interrupt;
use crate::client::Client;
use crate::client::admin::PurgeProgress;
use crate::clock::{Clock as _, SystemClock};
use crate::units::format_count;
use clap::{Args, Subcommand};
use read::{ExportArgs, PeekArgs};
use redrive::RedriveArgs;
use selection::SelectionArgs;
use serde_json::json;

const ABOUT: &str = "\
A letter is open until it was redriven or purged. Its record stays in the dead letter topic until
that topic's retention takes it, so `millstream consume` still shows it.";

/// Options of `dlq`.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    verb: DlqVerb,
}

#[derive(Debug, Subcommand)]
enum DlqVerb {
    /// List topics of dead letters: how many are open, since when, and of what they died.
    #[command(after_help = "\
OPEN is exact. REASONS and FROM are of the first open letters: 10,000, or 8 MiB of them (with
--json: of how many, as counted).

Examples:
  millstream dlq list
  millstream dlq list mail --json")]
    List {
        /// Only topics whose names begin with this.
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Print letters with what is known of their death. Changes nothing.
    #[command(after_help = "\
Examples:
  millstream dlq peek mail.dlq
  millstream dlq peek --queue mail --reason rejected -n 100 --json
  millstream dlq peek mail.dlq --key order-7 --all")]
    Peek(PeekArgs),
    /// Send open letters back to where they came from, or to another topic.
    #[command(after_help = "\
A letter is on the disk of its target before it is marked as redriven: a crash may send some
again, and loses none. Calling again goes on with what is open. Ctrl-C ends it; what was done stays
done. Messages that came back have the headers redriven-count and redriven-from.

Examples:
  millstream dlq redrive mail.dlq --dry-run
  millstream dlq redrive mail.dlq --rate 50/s
  millstream dlq redrive --queue mail --reason attempts_exhausted --since -2h
  millstream dlq redrive mail.dlq --header tenant=blue --to mail-repaired --limit 1000")]
    Redrive(RedriveArgs),
    /// Give open letters up: they are not redriven any more. Their records stay.
    #[command(after_help = "\
Examples:
  millstream dlq purge mail.dlq --dry-run
  millstream dlq purge mail.dlq --reason rejected --until -30d --yes")]
    Purge {
        #[command(flatten)]
        selection: SelectionArgs,
        /// Not more than so many, the oldest of each partition.
        #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        /// Only say how many.
        #[arg(long)]
        dry_run: bool,
        /// Do it without being asked.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Write letters as lines of JSON, to standard output or a file.
    #[command(after_help = "\
A line is a record as `consume --json` prints it, with what is known of its death as dead_letter;
`produce --json` reads it.

Examples:
  millstream dlq export mail.dlq > letters.jsonl
  millstream dlq export --queue mail --reason rejected -o letters.jsonl")]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Does what was asked.
pub(super) async fn run(args: DlqArgs) -> Result<(), CliError> {
    match args.verb {
        DlqVerb::List { prefix, out } => {
            let listed = out.broker.connect().await?.list_dead_letter_topics(&prefix).await?;
            print::list(&listed, SystemClock.now_ms(), out.json)
        }
        DlqVerb::Peek(args) => read::peek(args).await,
        DlqVerb::Redrive(args) => redrive::run(args).await,
        DlqVerb::Purge { selection, limit, dry_run, yes, out } => {
            let limit = limit.unwrap_or(0);
            let chosen = selection.selection(SystemClock.now_ms())?;
            let client = out.broker.connect().await?;
            if !dry_run && !yes {
                let (would, _) = purge(&client, &chosen, limit, true).await?;
                let count = format_count(would);
                confirm(
                    &format!("give up open letters of {selection}, {count} in all; they are never redriven"),
                    false,
                )?;
            }
            let (letters, unreadable) = purge(&client, &chosen, limit, dry_run).await?;
            if out.json {
                let object = json!({ "letters": letters, "unreadable": unreadable, "dry_run": dry_run });
                super::json::print_lines([object])?;
            } else {
                let did = if dry_run { "would give up" } else { "gave up" };
                eprintln!("{did} {} letters of {selection}", format_count(letters));
            }
            selection::check_unreadable(unreadable)
        }
        DlqVerb::Export(args) => read::export(args).await,
    }
}

/// How many letters were given up, and how many could not be read.
async fn purge(
    client: &Client,
    selection: &crate::client::admin::LetterSelection,
    limit: u64,
    dry_run: bool,
) -> Result<(u64, u64), CliError> {
    let (mut letters, mut unreadable) = (0, 0);
    let purging = async {
        let mut purge = client.purge_dead_letters(selection, limit, dry_run).await?;
        while let Some(PurgeProgress { letters: more, unreadable: missed }) = purge.next().await? {
            letters += more;
            unreadable += missed;
        }
        Ok::<_, CliError>(())
    };
    let result = tokio::select! {
        result = purging => result,
        () = interrupt() => Err(CliError::Interrupted),
    };
    if let Err(error) = result {
        let done = (letters > 0 && !dry_run).then(|| format!("{} letters were given up", format_count(letters)));
        return Err(error.after(done));
    }
    Ok((letters, unreadable))
}
