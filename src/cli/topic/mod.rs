//! `millstream topic`: create, list, describe, alter, delete, truncate, compact, fence.

mod print;

use super::BrokerArgs;
use super::confirm::confirm;
use super::exit::CliError;
use crate::client::Client;
use crate::client::admin::TopicSettings;
use crate::types::{Cleanup, Durability, Offset, TopicName, TopicPartition};
use crate::units::{parse_bytes, parse_bytes_u32, parse_duration_ms, parse_retention_ms};
use clap::{Args, Subcommand, ValueEnum};
use print::{compacted, describe, list, summary};
use tonic::Code;

/// Options of `topic`.
#[derive(Debug, Args)]
pub(super) struct TopicArgs {
    #[command(subcommand)]
    verb: TopicVerb,
}

#[derive(Debug, Subcommand)]
enum TopicVerb {
    /// Create a topic.
    #[command(after_help = "\
Examples:
  millstream topic create orders
  millstream topic create orders --partitions 8 --retention 30d --retention-bytes 10GiB
  millstream topic create clicks --durability written --if-not-exists
  millstream topic create payments --dedup-window 10m
  millstream topic create profiles --cleanup compact")]
    Create {
        /// Its name: letters, digits, dot, underscore, hyphen.
        name: String,
        /// How many partitions; without it, the broker's default.
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        partitions: u32,
        #[command(flatten)]
        settings: SettingsArgs,
        /// That there is one already is no error.
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// List topics.
    #[command(after_help = "Examples:\n  millstream topic list\n  millstream topic list orders --json")]
    List {
        /// Only topics whose names begin with this.
        #[arg(default_value = "")]
        prefix: String,
        /// Also the broker's own topics.
        #[arg(long)]
        all: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Show the options and partitions of a topic.
    #[command(after_help = "Examples:\n  millstream topic describe orders\n  millstream topic describe orders --json")]
    Describe {
        /// The topic.
        name: String,
        /// One JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Change options of a topic, or add partitions.
    #[command(after_help = "\
Examples:
  millstream topic alter orders --retention forever
  millstream topic alter orders --partitions 16
  millstream topic alter orders --reset retention --reset segment-bytes")]
    Alter {
        /// The topic.
        name: String,
        /// The new number of partitions. Keys move to other partitions.
        #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
        partitions: u32,
        #[command(flatten)]
        settings: SettingsArgs,
        /// Set this option back to the broker's default; may be given more than once.
        #[arg(long, value_name = "OPTION", value_parser = parse_option_name)]
        reset: Vec<String>,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Delete a topic and all its records.
    #[command(after_help = "Example:\n  millstream topic delete orders --yes")]
    Delete {
        /// The topic.
        name: String,
        /// Do it without being asked.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Delete the oldest records of a partition.
    #[command(after_help = "Example:\n  millstream topic truncate orders --partition 0 --before 1000")]
    Truncate {
        /// The topic.
        name: String,
        /// The partition.
        #[arg(short, long, value_name = "P")]
        partition: u32,
        /// Delete the records with offsets below this.
        #[arg(long, value_name = "OFFSET")]
        before: u64,
        /// Do it without being asked.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Let only writers with this fencing token, or a higher one, write to a partition.
    #[command(after_help = "\
Examples:
  millstream topic fence orders/0 --token 7      from now on, writers with a lower token, or none, are refused
  millstream topic fence orders/0 --clear        everyone may write again")]
    Fence {
        /// The partition.
        #[arg(value_name = "TOPIC/PARTITION", value_parser = parse_partition)]
        partition: TopicPartition,
        /// The token; not below the present one.
        #[arg(long, value_name = "N", required_unless_present = "clear", conflicts_with = "clear")]
        token: Option<u64>,
        /// Take the token away. Only when no older writer is left.
        #[arg(long)]
        clear: bool,
        /// Take it away without being asked.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Compact a topic now: of the records of each key, the last one stays. Waits until that is done.
    #[command(
        after_help = "Examples:\n  millstream topic compact profiles\n  millstream topic compact profiles --json"
    )]
    Compact {
        /// The topic; its cleanup must be compact or compact-and-delete.
        name: String,
        /// One JSON object for each partition.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum CleanupArg {
    /// Retention deletes the oldest records.
    Delete,
    /// Of the records of each key, the last one stays. Every record must have a key.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl From<CleanupArg> for Cleanup {
    fn from(argument: CleanupArg) -> Self {
        match argument {
            CleanupArg::Delete => Self::Delete,
            CleanupArg::Compact => Self::Compact,
            CleanupArg::CompactAndDelete => Self::CompactAndDelete,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DurabilityArg {
    /// On the disk: survives power loss.
    Synced,
    /// Handed to the operating system: survives a crash of the broker.
    Written,
}

impl From<DurabilityArg> for Durability {
    fn from(argument: DurabilityArg) -> Self {
        match argument {
            DurabilityArg::Synced => Self::Synced,
            DurabilityArg::Written => Self::Written,
        }
    }
}

#[derive(Debug, Args)]
struct SettingsArgs {
    /// Keep records this long, such as 12h or 7d; 0 or forever = no limit.
    #[arg(long, value_name = "TIME", value_parser = parse_retention_ms)]
    retention: Option<u64>,
    /// Keep at most about this many bytes in each partition, such as 10GiB; 0 = no limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    retention_bytes: Option<u64>,
    /// Begin a new segment file at this size.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    segment_bytes: Option<u64>,
    /// Begin a new segment file at this age.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    segment_age: Option<u64>,
    /// What an acknowledgement means.
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// Largest record accepted.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes_u32)]
    record_bytes_max: Option<u32>,
    /// Largest batch accepted.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes_u32)]
    batch_bytes_max: Option<u32>,
    /// A record with the message id of one appended less than this ago is not appended again, such as 2m; 0 = off.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    dedup_window: Option<u64>,
    /// Which records may go.
    #[arg(long, value_enum)]
    cleanup: Option<CleanupArg>,
    /// On a compacted topic, keep tombstones this long after what they delete was removed.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    tombstone_grace: Option<u64>,
}

impl SettingsArgs {
    fn settings(&self) -> TopicSettings {
        TopicSettings {
            retention_ms: self.retention,
            retention_bytes: self.retention_bytes,
            segment_bytes: self.segment_bytes,
            segment_age_ms: self.segment_age,
            durability: self.durability.map(Durability::from),
            record_bytes_max: self.record_bytes_max,
            batch_bytes_max: self.batch_bytes_max,
            dedup_window_ms: self.dedup_window,
            cleanup: self.cleanup.map(Cleanup::from),
            tombstone_grace_ms: self.tombstone_grace,
        }
    }
}

/// Does what was asked.
pub(super) async fn run(args: TopicArgs) -> Result<(), CliError> {
    match args.verb {
        TopicVerb::Create { name, partitions, settings, if_not_exists, broker } => {
            let name = topic_name(&name)?;
            create(&broker.connect().await?, &name, partitions, &settings.settings(), if_not_exists).await
        }
        TopicVerb::List { prefix, all, json, broker } => {
            list(&broker.connect().await?.list_topics(&prefix, all).await?, json)
        }
        TopicVerb::Describe { name, json, broker } => {
            let (topic, partitions) = broker.connect().await?.topic(&topic_name(&name)?).await?;
            describe(&topic, &partitions, json)
        }
        TopicVerb::Alter { name, partitions, settings, reset, broker } => {
            let settings = settings.settings();
            if partitions == 0 && reset.is_empty() && settings == TopicSettings::default() {
                return Err(CliError::usage("say what to change; see: millstream topic alter --help"));
            }
            let topic =
                broker.connect().await?.update_topic(&topic_name(&name)?, partitions, &settings, &reset).await?;
            eprintln!("topic {} has {} now", topic.name, summary(&topic));
            Ok(())
        }
        TopicVerb::Delete { name, yes, broker } => {
            let name = topic_name(&name)?;
            confirm(&format!("delete topic {name} and all its records"), yes)?;
            Ok(broker.connect().await?.delete_topic(&name).await?)
        }
        TopicVerb::Truncate { name, partition, before, yes, broker } => {
            let name = topic_name(&name)?;
            confirm(&format!("delete the records of {name}/{partition} below offset {before}"), yes)?;
            let start = broker.connect().await?.delete_records(&name, partition, Offset(before)).await?;
            eprintln!("{name}/{partition} begins at offset {start} now");
            Ok(())
        }
        TopicVerb::Fence { partition: at, token, clear, yes, broker } => {
            if clear {
                confirm(&format!("let everyone write to {at} again"), yes)?;
            }
            broker.connect().await?.fence_partition(&at.topic, at.partition, token).await?;
            match token {
                Some(token) => eprintln!("{at} takes records with fencing token {token} or higher now"),
                None => eprintln!("{at} has no fencing token now"),
            }
            Ok(())
        }
        TopicVerb::Compact { name, json, broker } => {
            let name = topic_name(&name)?;
            compacted(&broker.connect().await?.compact_topic(&name).await?, json)
        }
    }
}

/// A name that no topic can have is a mistake in the arguments, not an answer of the broker.
pub(super) fn topic_name(name: &str) -> Result<TopicName, CliError> {
    TopicName::new(name).map_err(CliError::usage)
}

async fn create(
    client: &Client,
    name: &TopicName,
    partitions: u32,
    settings: &TopicSettings,
    if_not_exists: bool,
) -> Result<(), CliError> {
    match client.create_topic(name, partitions, settings).await {
        Ok(topic) => {
            eprintln!("topic {} was created with {}", topic.name, summary(&topic));
            Ok(())
        }
        Err(error) => {
            let exists = error.refusal().is_some_and(|refusal| refusal.code == Code::AlreadyExists);
            if exists && if_not_exists { Ok(()) } else { Err(error.into()) }
        }
    }
}

fn parse_partition(text: &str) -> Result<TopicPartition, String> {
    let (topic, partition) = text.rsplit_once('/').ok_or("write it as TOPIC/PARTITION, such as orders/0")?;
    let topic = TopicName::new(topic).map_err(|error| error.to_string())?;
    let partition = partition.parse().map_err(|_| format!("{partition:?} is not the number of a partition"))?;
    Ok(TopicPartition { topic, partition })
}

/// The broker's name of an option, from that of the flag or from itself.
fn parse_option_name(text: &str) -> Result<String, String> {
    const NAMES: [&str; 10] = [
        "retention_ms",
        "retention_bytes",
        "segment_bytes",
        "segment_age_ms",
        "durability",
        "record_bytes_max",
        "batch_bytes_max",
        "dedup_window_ms",
        "cleanup",
        "tombstone_grace_ms",
    ];
    let name = text.replace('-', "_");
    let found = NAMES.iter().find(|known| **known == name || **known == format!("{name}_ms"));
    found.map(|name| (*name).to_owned()).ok_or_else(|| format!("no such option; there are: {}", NAMES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_reset_by_the_name_of_their_flag_too() {
        assert_eq!(parse_option_name("retention").as_deref(), Ok("retention_ms"));
        assert_eq!(parse_option_name("segment-bytes").as_deref(), Ok("segment_bytes"));
        assert_eq!(parse_option_name("durability").as_deref(), Ok("durability"));
        assert!(parse_option_name("colour").is_err());
    }
}
