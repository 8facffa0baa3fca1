//! `millstream dlq redrive`: sends letters back, and says which and where to while it goes on.

use super::OutputArgs;
use super::print;
use super::selection::{SelectionArgs, check_unreadable};
use crate::cli::exit::CliError;
use crate::cli::interrupt::interrupt;
use crate::client::admin::{Redrive, RedriveOptions, RedriveProgress, RedrivenLetter};
use crate::clock::{Clock as _, SystemClock};
use crate::types::TopicName;
use crate::units::{format_count, parse_rate};
use clap::Args;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;

/// Letters that a person is shown one by one; a program asks for JSON.
const SHOWN_MAX: usize = 20;

/// Options of `dlq redrive`.
#[derive(Debug, Args)]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Send all of them to this topic.
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Not more than so many letters in a second, such as 50/s.
    #[arg(long, value_name = "N/s", value_parser = parse_letters_per_second)]
    rate: Option<u32>,
    /// Not more than so many in all.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only say which would go where.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    out: OutputArgs,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    by_target: BTreeMap<TopicName, u64>,
    /// The first ones, for a dry run.
    shown: Vec<RedrivenLetter>,
    refused: u64,
    unreadable: u64,
}

/// Does what was asked.
pub(super) async fn run(args: RedriveArgs) -> Result<(), CliError> {
    let selection = args.selection.selection(SystemClock.now_ms())?;
    let options = RedriveOptions {
        to_topic: args.to.clone().unwrap_or_default(),
        letters_per_second: args.rate,
        letters_max: args.limit.unwrap_or(0),
        dry_run: args.dry_run,
    };
    let client = args.out.broker.connect().await?;
    let mut redrive = client.redrive_dead_letters(&selection, &options).await?;
    let mut tally = Tally::default();
    let result = tokio::select! {
        result = follow(&mut redrive, &args, &mut tally) => result,
        () = interrupt() => Err(CliError::Interrupted),
    };
    if args.dry_run && !args.out.json {
        print::would_go(&tally.shown, tally.sent)?;
    }
    let summary = tally.summary(&args);
    if let Err(error) = result {
        if matches!(error, CliError::Interrupted) {
            eprintln!("{summary}; the rest is open");
        }
        return Err(error.after((tally.sent > 0 && !args.dry_run).then_some(summary)));
    }
    eprintln!("{summary}");
    check_unreadable(tally.unreadable)?;
    match tally.refused {
        0 => Ok(()),
        refused => {
            eprintln!("{} letters cannot be sent, and stay open", format_count(refused));
            Err(CliError::ProblemsFound(refused))
        }
    }
}

async fn follow(redrive: &mut Redrive, args: &RedriveArgs, tally: &mut Tally) -> Result<(), CliError> {
    let shows_progress = std::io::stderr().is_terminal() && !args.dry_run && !args.out.json;
    while let Some(RedriveProgress { letters, refused, unreadable }) = redrive.next().await? {
        tally.unreadable += unreadable;
        for letter in refused {
            if tally.refused < SHOWN_MAX as u64 {
                eprintln!("millstream: letter {}/{}: {}", letter.partition, letter.offset, letter.refusal);
            }
            tally.refused += 1;
        }
        tally.sent += letters.len() as u64;
        for letter in &letters {
            match tally.by_target.get_mut(&letter.to.topic) {
                Some(count) => *count += 1,
                None => drop(tally.by_target.insert(letter.to.topic.clone(), 1)),
            }
        }
        if args.out.json {
            print::redriven(&letters)?;
        }
        let room = SHOWN_MAX.saturating_sub(tally.shown.len());
        tally.shown.extend(letters.into_iter().take(room));
        if shows_progress {
            eprint!("\r{} letters ", format_count(tally.sent));
        }
    }
    if shows_progress {
        eprint!("\r");
    }
    Ok(())
}

impl Tally {
    fn summary(&self, args: &RedriveArgs) -> String {
        let did = if args.dry_run { "would redrive" } else { "redrove" };
        let targets: Vec<_> =
            self.by_target.iter().map(|(topic, count)| format!("{} to {topic}", format_count(*count))).collect();
        let sent = format!("{did} {} letters of {}", format_count(self.sent), args.selection);
        if targets.is_empty() { sent } else { format!("{sent}: {}", targets.join(", ")) }
    }
}

/// `50/s`, or `50`.
fn parse_letters_per_second(text: &str) -> Result<u32, String> {
    let rate = parse_rate(text).map_err(|error| error.to_string())?;
    u32::try_from(rate).map_err(|_| "leave it out for as fast as it goes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_so_many_a_second() {
        assert_eq!(parse_letters_per_second("50/s"), Ok(50));
        assert_eq!(parse_letters_per_second("50"), Ok(50));
        for wrong in ["0", "0/s", "-1", "fast", "99999999999", ""] {
            assert!(parse_letters_per_second(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
