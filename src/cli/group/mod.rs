//! `millstream group`: list, describe, lag, seek, fork, pause, resume, evict, delete.

mod describe;
mod lag;

use super::confirm::confirm;
use super::consume::parse_position;
use super::exit::CliError;
use super::topic::topic_name;
use super::{BrokerArgs, json, table};
use crate::client::PartitionOffset;
use crate::client::admin::GroupListing;
use crate::clock::{Clock as _, SystemClock};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Options of `group`.
#[derive(Debug, Args)]
pub(super) struct GroupArgs {
    #[command(subcommand)]
    verb: GroupVerb,
}

#[derive(Debug, Subcommand)]
enum GroupVerb {
    /// List consumer groups.
    #[command(after_help = "Examples:\n  millstream group list\n  millstream group list billing --json")]
    List {
        /// Only groups whose names begin with this.
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Show the members and the progress of a group.
    #[command(after_help = "Example:\n  millstream group describe billing")]
    Describe {
        /// The group.
        group: String,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Show how far a group is behind, partition by partition.
    #[command(after_help = lag::HELP)]
    Lag {
        /// The group.
        group: String,
        /// Look again every two seconds, until interrupted.
        #[arg(short, long)]
        watch: bool,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Move a group: its committed offsets are set, and its members go on from there.
    #[command(after_help = "\
Examples:
  millstream group seek billing --topic orders --to earliest
  millstream group seek billing --topic orders -p 0 -p 1 --to @-15m --dry-run
  millstream group seek billing --topic orders --to @2026-01-31T12:00:00Z
  millstream group seek billing --topic orders --to -100       the last 100 records again")]
    Seek {
        /// The group; created if there is none.
        group: String,
        /// In this topic; may be given more than once.
        #[arg(short, long = "topic", value_name = "TOPIC", required = true)]
        topics: Vec<String>,
        /// Only in this partition of each topic; may be given more than once.
        #[arg(short, long = "partition", value_name = "N")]
        partitions: Vec<u32>,
        /// Where to: earliest, latest, OFFSET, -N (N records before the end), @TIME.
        #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
        to: String,
        /// Show what would be set, and set nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Let a new group begin where a group is, to try something beside it.
    #[command(after_help = "\
Examples:
  millstream group fork billing billing-try --dry-run
  millstream group fork billing billing-try && millstream consume orders -g billing-try
  millstream group delete billing-try --yes")]
    Fork {
        /// The group.
        group: String,
        /// The new one; it must have neither committed offsets nor members.
        #[arg(value_name = "NEW-GROUP")]
        new_group: String,
        /// Show what would be set, and set nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Stop the delivery of records to a group; its members keep their partitions.
    #[command(after_help = "Example:\n  millstream group pause billing")]
    Pause {
        /// The group.
        group: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// End a pause.
    #[command(after_help = "Example:\n  millstream group resume billing")]
    Resume {
        /// The group.
        group: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Take a member out of a group: its partitions are with others at once, and it commits no more.
    #[command(after_help = "\
Example:
  millstream group describe billing           says which members there are
  millstream group evict billing member-3

For a member that is stuck while its connection stands. What it read and did not commit comes again, to others.")]
    Evict {
        /// The group.
        group: String,
        /// The id of the member.
        member: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Delete a group that has no members, with its committed offsets.
    #[command(after_help = "Example:\n  millstream group delete billing --yes")]
    Delete {
        /// The group.
        group: String,
        /// Do it without being asked.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
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
pub(super) async fn run(args: GroupArgs) -> Result<(), CliError> {
    match args.verb {
        GroupVerb::List { prefix, out } => list(&out.broker.connect().await?.list_groups(&prefix).await?, out.json),
        GroupVerb::Describe { group, out } => {
            describe::print(&out.broker.connect().await?.describe_group(&group).await?, out.json)
        }
        GroupVerb::Lag { group, watch, out } => {
            let client = out.broker.connect().await?;
            if watch { lag::watch(&client, &group, out.json).await } else { lag::once(&client, &group, out.json).await }
        }
        GroupVerb::Seek { group, topics, partitions, to, dry_run, out } => {
            let topics = topics.iter().map(|topic| topic_name(topic)).collect::<Result<Vec<_>, _>>()?;
            let position = parse_position(&to, SystemClock.now_ms()).map_err(CliError::usage)?;
            let client = out.broker.connect().await?;
            let offsets = client.seek_group(&group, &topics, &partitions, position, dry_run).await?;
            print_offsets(&offsets, dry_run, out.json)
        }
        GroupVerb::Fork { group, new_group, dry_run, out } => {
            let client = out.broker.connect().await?;
            print_offsets(&client.fork_group(&group, &new_group, dry_run).await?, dry_run, out.json)
        }
        GroupVerb::Pause { group, broker } => Ok(broker.connect().await?.pause_group(&group).await?),
        GroupVerb::Resume { group, broker } => Ok(broker.connect().await?.resume_group(&group).await?),
        GroupVerb::Evict { group, member, broker } => Ok(broker.connect().await?.evict_member(&group, &member).await?),
        GroupVerb::Delete { group, yes, broker } => {
            confirm(&format!("delete group {group} and its committed offsets"), yes)?;
            Ok(broker.connect().await?.delete_group(&group).await?)
        }
    }
}

/// What was set, or would be.
fn print_offsets(offsets: &[PartitionOffset], dry_run: bool, json: bool) -> Result<(), CliError> {
    if dry_run {
        eprintln!("nothing was set; these would be:");
    }
    let rows = offsets.iter().map(|set| (&set.partition, set.offset));
    if json {
        return json::print_lines(
            rows.map(|(at, offset)| json!({ "topic": at.topic.as_str(), "partition": at.partition, "offset": offset })),
        );
    }
    let rows = rows.map(|(at, offset)| [at.topic.to_string(), at.partition.to_string(), offset.to_string()]);
    table::print(["TOPIC", ">PARTITION", ">OFFSET"], rows)
}

fn list(groups: &[GroupListing], json: bool) -> Result<(), CliError> {
    if json {
        return json::print_lines(groups.iter().map(group_json));
    }
    let rows = groups.iter().map(|group| [group.name.clone(), state_of(group), group.members.to_string()]);
    table::print(["NAME", "STATE", ">MEMBERS"], rows)
}

fn state_of(group: &GroupListing) -> String {
    let paused = if group.is_paused { ", paused" } else { "" };
    format!("{}{paused}", group.state)
}

fn group_json(group: &GroupListing) -> Value {
    json!({
        "name": group.name, "state": group.state.to_string(), "generation": group.generation,
        "member_count": group.members, "paused": group.is_paused,
    })
}
