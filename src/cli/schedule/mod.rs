//! `millstream schedule`: add, list, show, cancel, reschedule.

mod add;
mod print;

use super::BrokerArgs;
use super::exit::CliError;
use super::time::parse_time;
use super::topic::topic_name;
use crate::client::admin::{Cron, When};
use crate::clock::{Clock as _, SystemClock};
use crate::limits::LIST_PAGE_MAX;
use crate::units::parse_duration;
use add::AddArgs;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use std::time::Duration;

/// Options of `schedule`.
#[derive(Debug, Args)]
pub(super) struct ScheduleArgs {
    #[command(subcommand)]
    verb: ScheduleVerb,
}

#[derive(Debug, Subcommand)]
enum ScheduleVerb {
    /// Have records delivered to a topic later, once or again and again.
    ///
    /// Prints the id of each schedule.
    #[command(after_help = "\
Examples:
  millstream schedule add mail --delay 5m 'still there?'
  millstream schedule add mail --at 2026-12-24T18:00:00Z --id xmas -k all 'merry christmas'
  millstream schedule add reports --cron '0 9 * * 1-5' --time-zone Europe/Berlin --id daily 'make the report'
  millstream schedule add mail --delay 1h < lines.txt         one record a line")]
    Add(AddArgs),
    /// List schedules, the next one first.
    #[command(after_help = "\
Examples:
  millstream schedule list
  millstream schedule list --topic mail -n 10 --json")]
    List {
        /// Only those of this topic.
        #[arg(short, long, value_name = "TOPIC")]
        topic: Option<String>,
        /// At most so many; without it, all.
        #[arg(short = 'n', long = "schedules", value_name = "N")]
        most: Option<u64>,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Show a schedule and its record.
    #[command(after_help = "Examples:\n  millstream schedule show daily\n  millstream schedule show daily --json")]
    Show {
        /// The schedule.
        id: String,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// End a schedule: nothing is delivered by it any more.
    #[command(after_help = "Example:\n  millstream schedule cancel daily")]
    Cancel {
        /// The schedule; may be given more than once.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Set another time; the record stays.
    #[command(after_help = "\
Examples:
  millstream schedule reschedule xmas --delay 10m
  millstream schedule reschedule daily --cron '30 8 * * 1-5' --time-zone Europe/Berlin")]
    Reschedule {
        /// The schedule.
        id: String,
        #[command(flatten)]
        when: WhenArgs,
        #[command(flatten)]
        out: OutputArgs,
    },
}

/// When a record is to be delivered.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("when").required(true).args(["delay", "at", "cron"])))]
struct WhenArgs {
    /// So long from now, such as 5m or 1h30m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// At this time, as 2026-01-31T12:00:00Z, with an offset, or in milliseconds since 1970; at once if it has passed.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Again and again: minute, hour, day of month, month, day of week.
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Whose clock the cron goes by, as Europe/Berlin; without it, UTC.
    #[arg(long, value_name = "ZONE", requires = "cron", conflicts_with_all = ["delay", "at"])]
    time_zone: Option<String>,
    /// What becomes of occurrences that could not be delivered for more than a minute: one for all, or none.
    #[arg(long, value_enum, value_name = "WHAT", requires = "cron", conflicts_with_all = ["delay", "at"])]
    missed: Option<MissedArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MissedArg {
    Once,
    Skip,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

impl WhenArgs {
    fn when(&self) -> Result<When, CliError> {
        match (self.delay, &self.at, &self.cron) {
            (Some(delay), ..) => Ok(When::After(delay)),
            (_, Some(at), _) => Ok(When::At(parse_time(at, SystemClock.now_ms()).map_err(CliError::usage)?)),
            (.., Some(expression)) => Ok(When::Cron(Cron {
                expression: expression.clone(),
                time_zone: self.time_zone.clone().unwrap_or_default(),
                skip_missed: matches!(self.missed, Some(MissedArg::Skip)),
            })),
            (None, None, None) => Err(CliError::usage("say when: --delay, --at or --cron")),
        }
    }
}

/// Does what was asked.
pub(super) async fn run(args: ScheduleArgs) -> Result<(), CliError> {
    match args.verb {
        ScheduleVerb::Add(args) => add::run(args).await,
        ScheduleVerb::List { topic, most, out } => list(topic.as_deref(), most, &out).await,
        ScheduleVerb::Show { id, out } => {
            let (schedule, record) = out.broker.connect().await?.describe_schedule(&id).await?;
            print::show(&schedule, &record, out.json)
        }
        ScheduleVerb::Cancel { ids, broker } => {
            let client = broker.connect().await?;
            for (done, id) in ids.iter().enumerate() {
                let before = (done > 0).then(|| format!("{done} of {} are cancelled", ids.len()));
                client.cancel_schedule(id).await.map_err(|error| CliError::from(error).after(before))?;
            }
            Ok(())
        }
        ScheduleVerb::Reschedule { id, when, out } => {
            let due = out.broker.connect().await?.reschedule(&id, &when.when()?).await?;
            print::rescheduled(&id, due, out.json)
        }
    }
}

/// Prints page by page: there may be millions.
async fn list(topic: Option<&str>, most: Option<u64>, out: &OutputArgs) -> Result<(), CliError> {
    let topic = topic.map(topic_name).transpose()?;
    let client = out.broker.connect().await?;
    let mut left = most.unwrap_or(u64::MAX);
    let (mut after, mut is_first) = (None, true);
    while left > 0 {
        let wanted = u32::try_from(left).unwrap_or(u32::MAX).min(LIST_PAGE_MAX);
        let page = client.list_schedules(topic.as_ref(), after.as_deref(), wanted).await?;
        left -= page.schedules.len() as u64;
        if is_first || !page.schedules.is_empty() {
            print::list(&page.schedules, is_first, out.json)?;
            is_first = false;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}
