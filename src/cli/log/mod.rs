//! `millstream log`: a data directory without a broker. `segments`, `dump` and `verify` look at it, `repair` mends it.

mod dump;
mod repair;
mod segments;
mod verify;

use super::exit::CliError;
use crate::inspect::{DataDirectory, InspectError, Selection};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Options of `log`.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    verb: LogVerb,
}

#[derive(Debug, Subcommand)]
enum LogVerb {
    /// List the segments of each partition. Reads headers only.
    #[command(after_help = segments::HELP)]
    Segments(segments::SegmentsArgs),
    /// Show the frames of a partition: where they are, what they hold, whether their checksums match.
    #[command(after_help = dump::HELP)]
    Dump(dump::DumpArgs),
    /// Read everything and check it: checksums, offsets, times, indexes, the catalog, files nobody knows.
    #[command(after_help = verify::HELP)]
    Verify(verify::VerifyArgs),
    /// Mend a damaged partition: take lost records from a copy, or give them up. The broker must be stopped.
    #[command(after_help = repair::HELP)]
    Repair(repair::RepairArgs),
}

/// What to look at.
#[derive(Debug, Clone, Args)]
pub(super) struct PlaceArgs {
    /// A topic, or one partition of it; without it, all.
    #[arg(value_name = "TOPIC[/PARTITION]", conflicts_with = "path")]
    topic: Option<String>,
    /// Directory of all data.
    #[arg(long, env = "MILLSTREAM_BROKER_DATA_DIR", default_value = "./millstream-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// The directory of one log, from the data directory; needs no catalog.
    #[arg(long, value_name = "topics/UUID/PARTITION")]
    path: Option<PathBuf>,
}

pub(super) fn run(args: LogArgs) -> Result<(), CliError> {
    match args.verb {
        LogVerb::Segments(args) => segments::run(&args),
        LogVerb::Dump(args) => dump::run(&args),
        LogVerb::Verify(args) => verify::run(&args),
        LogVerb::Repair(args) => repair::run(&args),
    }
}

impl PlaceArgs {
    fn open(&self) -> Result<(DataDirectory, Selection), CliError> {
        let selection = match (&self.topic, &self.path) {
            (_, Some(path)) => Selection::Path(path.clone()),
            (Some(topic), None) => parse_topic(topic)?,
            (None, None) => Selection::All,
        };
        Ok((DataDirectory::open(&self.data_dir)?, selection))
    }
}

/// `orders` or `orders/3`.
fn parse_topic(text: &str) -> Result<Selection, CliError> {
    match text.split_once('/') {
        None => Ok(Selection::Topic { topic: text.to_owned(), partition: None }),
        Some((topic, partition)) => match partition.parse() {
            Ok(partition) => Ok(Selection::Topic { topic: topic.to_owned(), partition: Some(partition) }),
            Err(_) => Err(CliError::usage(format!("{text} is neither TOPIC nor TOPIC/PARTITION, such as orders/0"))),
        },
    }
}

/// Says that what is shown may be out of date at once.
#[expect(clippy::print_stderr, reason = "this is the command line")]
fn warn_if_in_use(directory: &DataDirectory, what: &str) -> Result<(), InspectError> {
    if directory.is_in_use()? {
        eprintln!("millstream: a broker is running on {}; {what}", directory.path().display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_behind_a_slash() {
        let topic = |topic: &str, partition| Selection::Topic { topic: topic.to_owned(), partition };
        assert_eq!(parse_topic("orders").expect("a topic"), topic("orders", None));
        assert_eq!(parse_topic("orders/12").expect("a partition"), topic("orders", Some(12)));
        for text in ["orders/", "orders/x", "orders/-1", "a/b/0"] {
            assert!(parse_topic(text).is_err(), "{text}");
        }
    }
}
