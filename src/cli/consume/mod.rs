//! `millstream consume`: prints records.
//!
//! Two ways through, one printer: [`range`] reads from offset to offset and ends; [`follow`] subscribes and goes on
//! until it is told to stop, and in a group commits what has left the process.

mod follow;
mod format;
mod printer;
mod range;
mod start;

pub(super) use start::parse_position;

use super::BrokerArgs;
use super::exit::CliError;
use super::filter::parse_filter;
use super::topic::topic_name;
use crate::client::{Assignor, OnExpired};
use crate::clock::{Clock as _, SystemClock};
use crate::filter::Filter;
use crate::types::{Position, TopicName, TopicPattern};
use crate::units::{format_bytes, format_count, parse_duration, per_second};
use clap::{Args, ValueEnum};
use format::Template;
use printer::{Printed, Printer, Style};
use start::{Start, parse_start};
use std::fs::File;
use std::time::Duration;
use tokio::time::Instant;

const HELP: &str = "\
Places (-o):
  beginning  end  stored  OFFSET  -N (the last N of each partition)
  @TIME      with TIME as 2026-01-31T12:00:00Z, milliseconds since 1970, or -15m
  FROM:UNTIL a range; UNTIL is not included, and without it is the end of now
Without -o: what the group has stored, with -g; otherwise the beginning.
With -g, a place counts only for partitions that the group has stored nothing for.

Formats (-f):
  %t topic  %p partition  %o offset  %k key  %s value  %h headers  %T time in ms
  %S bytes of value  %K bytes of key  %%  \\n \\t \\r \\0 \\\\ \\xHH

Examples:
  millstream consume orders                     all records, then new ones as they come
  millstream consume orders -o end              only new ones
  millstream consume orders -e                  all there is, then stop
  millstream consume orders -o -10 -e           the last 10 of each partition
  millstream consume orders -o @-1h: --json     those of the last hour
  millstream consume orders -g billing -f '%k: %s\\n'
  millstream consume orders --filter 'attributes.type = \"refund\"'
  millstream consume -g billing --pattern 'orders.*'";

/// Options of `consume`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ConsumeArgs {
    /// Topics to read.
    #[arg(required_unless_present = "patterns", value_name = "TOPIC")]
    topics: Vec<String>,
    /// With -g: every topic that matches, also those made later; * for any characters, ? for one. May be given more than
    /// once.
    #[arg(long = "pattern", value_name = "PATTERN", requires = "group", value_parser = TopicPattern::new)]
    patterns: Vec<TopicPattern>,
    /// Where to begin, and with FROM:UNTIL where to stop; see below.
    #[arg(short = 'o', long = "offset", value_name = "PLACE", allow_hyphen_values = true)]
    start: Option<String>,
    /// Stop at the end that each partition has when reading begins.
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// Stop after this many records.
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<u64>,
    /// Read as a member of this consumer group, and commit what was printed.
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
    /// With -g: keep the partitions for the session timeout while this process is away, and take them up again.
    #[arg(long, value_name = "ID", requires = "group")]
    instance_id: Option<String>,
    /// With --instance-id: how long.
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = parse_duration, requires = "instance_id")]
    session_timeout: Duration,
    /// With -g: how the group shares its partitions, if most of its members ask for this.
    #[arg(long, value_enum, value_name = "CHOICE", default_value_t, requires = "group")]
    assignor: AssignorArg,
    /// Only records that match, such as 'attributes.type = "order" AND hasPrefix(key, "eu-")'; see docs/filters.md. With -g
    /// the same for all members.
    #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Option<Filter>,
    /// Only this partition of each topic; may be given more than once.
    #[arg(short, long = "partition", value_name = "N", conflicts_with = "group")]
    partitions: Vec<u32>,
    /// Print each record in this format; see below. Without it, the value and a newline.
    #[arg(short, long, value_name = "FORMAT", conflicts_with_all = ["json", "quiet"])]
    format: Option<String>,
    /// Print each record as one line of JSON.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print no records, only how many there were.
    #[arg(short, long)]
    quiet: bool,
    /// Fail with exit code 4 when no record comes for this long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Where to go on when retention has deleted the place to begin, or to go on.
    #[arg(long, value_enum, value_name = "CHOICE", default_value_t)]
    on_expired: OnExpiredArg,
    /// With -g: commit nothing.
    #[arg(long, requires = "group")]
    no_commit: bool,
    /// With -g: how often to commit.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    commit_interval: Duration,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What to read, understood.
#[derive(Debug)]
struct Plan {
    topics: Vec<TopicName>,
    patterns: Vec<TopicPattern>,
    partitions: Vec<u32>,
    filter: Option<String>,
    count: Option<u64>,
    timeout: Option<Duration>,
    on_expired: OnExpired,
    instance: Option<(String, Duration)>,
    assignor: Assignor,
    way: Way,
}

/// What `--on-expired` may say.
#[derive(Debug, Default, Clone, Copy, ValueEnum)]
enum OnExpiredArg {
    /// Fail, and say which offsets there are.
    #[default]
    Fail,
    /// Go on at the first record that is left.
    Earliest,
    /// Go on at the end.
    Latest,
}

impl From<OnExpiredArg> for OnExpired {
    fn from(choice: OnExpiredArg) -> Self {
        match choice {
            OnExpiredArg::Fail => Self::Fail,
            OnExpiredArg::Earliest => Self::Earliest,
            OnExpiredArg::Latest => Self::Latest,
        }
    }
}

/// What `--assignor` may say.
#[derive(Debug, Default, Clone, Copy, ValueEnum)]
enum AssignorArg {
    /// Evenly over all topics together, moving as few as possible.
    #[default]
    Balanced,
    /// Topic by topic in ranges: partitions of the same number go to the same member.
    Range,
}

impl From<AssignorArg> for Assignor {
    fn from(choice: AssignorArg) -> Self {
        match choice {
            AssignorArg::Balanced => Self::Balanced,
            AssignorArg::Range => Self::Range,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// From here until there, in every partition.
    Range(Position, Position),
    /// From here on.
    Follow(Position),
    /// With a group: from where it is, or from here; to the end of now or on.
    Group { name: String, start: Position, to_end: bool, commit_interval: Option<Duration> },
}

/// Prints the records.
pub(super) async fn run(args: ConsumeArgs) -> Result<(), CliError> {
    let way = way_of(&args, SystemClock.now_ms())?;
    let topics = args.topics.iter().map(|topic| topic_name(topic)).collect::<Result<_, _>>()?;
    let style = match &args.format {
        Some(format) => Style::Template(Template::parse(format).map_err(CliError::usage)?),
        None if args.json => Style::Json,
        None if args.quiet => Style::Nothing,
        None => Style::Values,
    };
    let client = args.broker.connect().await?;
    let mut printer = Printer::stdout(style, args.count)?;
    let plan = Plan {
        topics,
        patterns: args.patterns.clone(),
        partitions: args.partitions.clone(),
        filter: args.filter.as_ref().map(ToString::to_string),
        count: args.count,
        timeout: args.timeout,
        on_expired: args.on_expired.into(),
        assignor: args.assignor.into(),
        instance: args.instance_id.clone().map(|id| (id, args.session_timeout)),
        way,
    };
    let started = Instant::now();
    let result = match &plan.way {
        Way::Range(from, until) => range::read(&client, &plan, *from, *until, &mut printer).await,
        Way::Follow(_) | Way::Group { .. } => follow::follow(&client, &plan, &mut printer).await,
    };
    if args.quiet {
        eprintln!("{}", summary(printer.printed(), started.elapsed()));
    }
    result
}

/// Which way the arguments mean.
fn way_of(args: &ConsumeArgs, now: i64) -> Result<Way, CliError> {
    let start = args.start.as_ref().map(|text| parse_start(text, now)).transpose().map_err(CliError::usage)?;
    match (&args.group, start) {
        (Some(_), Some(Start::Range(..))) => {
            Err(CliError::usage("a range is read without a group; leave out -g, or give one place to -o"))
        }
        (Some(name), start) => Ok(Way::Group {
            name: name.clone(),
            start: if let Some(Start::At(position)) = start { position } else { Position::Earliest },
            to_end: args.exit_at_end,
            commit_interval: (!args.no_commit).then_some(args.commit_interval),
        }),
        (None, Some(Start::Stored)) => Err(CliError::usage("only a group has stored offsets; name one with -g")),
        (None, Some(Start::Range(from, until))) => Ok(Way::Range(from, until)),
        (None, start) => {
            let from = if let Some(Start::At(position)) = start { position } else { Position::Earliest };
            Ok(if args.exit_at_end { Way::Range(from, Position::Latest) } else { Way::Follow(from) })
        }
    }
}

/// The end came before the records that were asked for.
fn check_count(plan: &Plan, printer: &Printer<File>) -> Result<(), CliError> {
    let records = printer.printed().records;
    match plan.count {
        Some(wanted) if records < wanted => {
            Err(CliError::NoData(format!("there were {records} of the {wanted} records that were asked for")))
        }
        _ => Ok(()),
    }
}

fn summary(printed: Printed, elapsed: Duration) -> String {
    let Printed { records, bytes } = printed;
    format!(
        "{} {}, {} in {:.3} s ({} records/s, {}/s)",
        format_count(records),
        if records == 1 { "record" } else { "records" },
        format_bytes(bytes),
        elapsed.as_secs_f64(),
        format_count(per_second(records, elapsed)),
        format_bytes(per_second(bytes, elapsed)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        args: ConsumeArgs,
    }

    fn way(arguments: &str) -> Result<Way, CliError> {
        let words = std::iter::once("consume").chain(arguments.split_whitespace());
        way_of(&Only::try_parse_from(words).expect("arguments that fit").args, 100_000)
    }

    #[test]
    fn without_a_place_reading_begins_at_the_beginning() {
        assert_eq!(way("t").expect("fine"), Way::Follow(Position::Earliest));
        assert_eq!(way("t -e").expect("fine"), Way::Range(Position::Earliest, Position::Latest));
    }

    #[test]
    fn a_place_may_begin_with_a_hyphen() {
        assert_eq!(way("t -o -5 -e").expect("fine"), Way::Range(Position::BeforeEnd(5), Position::Latest));
        assert_eq!(way("t -o -5").expect("fine"), Way::Follow(Position::BeforeEnd(5)));
    }

    #[test]
    fn a_group_begins_where_it_is_and_reads_no_ranges() {
        let expected = Way::Group {
            name: "g".to_owned(),
            start: Position::Earliest,
            to_end: true,
            commit_interval: Some(Duration::from_secs(1)),
        };
        assert_eq!(way("t -g g -e").expect("fine"), expected);
        assert_eq!(way("t -g g -e -o stored").expect("fine"), expected);
        assert!(matches!(way("t -g g -o 1:2"), Err(CliError::Usage(_))));
        assert!(matches!(way("t -o stored"), Err(CliError::Usage(_))));
    }
}
