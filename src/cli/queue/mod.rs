//! `millstream queue`: create, describe, list, update, delete, receive, peek, pause, resume.

mod print;
mod receive;

use super::BrokerArgs;
use super::confirm::confirm;
use super::consume::parse_position;
use super::exit::CliError;
use super::filter::parse_filter;
use super::topic::{DurabilityArg, topic_name};
use crate::client::admin::{NewQueue, QueueSettings};
use crate::clock::{Clock as _, SystemClock};
use crate::filter::Filter;
use crate::types::{Durability, TopicPattern};
use crate::units::parse_duration_ms;
use clap::{Args, Subcommand};
use receive::ReceiveArgs;

/// Options of `queue`.
#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    #[command(subcommand)]
    verb: QueueVerb,
}

#[derive(Debug, Subcommand)]
enum QueueVerb {
    /// Create a queue on topics that exist.
    #[command(after_help = "\
Examples:
  millstream queue create mail --topic orders
  millstream queue create mail --topic orders --from earliest --attempts 5
  millstream queue create billing --topic orders --topic returns --ordered-by-key --lease 5m
  millstream queue create audit --pattern 'orders.*' --from earliest
  millstream queue create refunds --topic orders --filter 'attributes.type = \"refund\"'
  millstream queue create alerts --topic alerts --priority-by-partition --message-ttl 1h --breaker 50")]
    Create {
        /// Its name: letters, digits, dot, underscore, hyphen.
        name: String,
        /// Whose records are its messages; may be given more than once.
        #[arg(short, long = "topic", value_name = "TOPIC", required_unless_present = "patterns")]
        topics: Vec<String>,
        /// And of every topic that this matches, also of topics made later: * is any characters, ? one. More than once.
        #[arg(long = "pattern", value_name = "PATTERN", value_parser = TopicPattern::new)]
        patterns: Vec<TopicPattern>,
        /// Where to begin: earliest, latest, @TIME.
        #[arg(long, value_name = "PLACE", default_value = "latest", allow_hyphen_values = true)]
        from: String,
        /// Of one key one message at a time, in order.
        #[arg(long)]
        ordered_by_key: bool,
        /// Only records that match are its messages, the others are done at once; see docs/filters.md. Cannot be changed.
        #[arg(long, value_name = "FILTER", value_parser = parse_filter)]
        filter: Option<Filter>,
        #[command(flatten)]
        settings: SettingsArgs,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Show how a queue delivers and how far it is.
    #[command(after_help = "Example:\n  millstream queue describe mail")]
    Describe {
        /// The queue.
        name: String,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// List queues.
    #[command(after_help = "Examples:\n  millstream queue list\n  millstream queue list ma --json")]
    List {
        /// Only queues whose names begin with this.
        #[arg(default_value = "")]
        prefix: String,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Change how a queue delivers; what is not mentioned stays.
    #[command(after_help = "Example:\n  millstream queue update mail --lease 2m --attempts 10")]
    Update {
        /// The queue.
        name: String,
        #[command(flatten)]
        settings: SettingsArgs,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Delete a queue with its progress. Records stay in their topics.
    #[command(after_help = "Example:\n  millstream queue delete mail --yes")]
    Delete {
        /// The queue.
        name: String,
        /// Do it without being asked.
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Take messages, print them, and acknowledge them.
    #[command(after_help = "\
Examples:
  millstream queue receive mail
  millstream queue receive mail -n 100 --json
  millstream queue receive mail --wait 30s --no-ack     print one, and give it back")]
    Receive(ReceiveArgs),
    /// Print messages that are not done, without taking them.
    #[command(after_help = "Examples:\n  millstream queue peek mail\n  millstream queue peek mail -n 100 --json")]
    Peek {
        /// The queue.
        name: String,
        /// At most so many.
        #[arg(short = 'n', long = "messages", value_name = "N", default_value_t = 10)]
        messages: u32,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Show keys whose first message holds up others, in a queue with order by key.
    #[command(
        after_help = "Examples:\n  millstream queue blocked billing\n  millstream queue blocked billing -n 100 --json"
    )]
    Blocked {
        /// The queue.
        name: String,
        /// At most so many.
        #[arg(short = 'n', long = "keys", value_name = "N", default_value_t = 10)]
        keys: u32,
        #[command(flatten)]
        out: OutputArgs,
    },
    /// Hand out nothing until the queue is resumed.
    #[command(after_help = "Example:\n  millstream queue pause mail")]
    Pause {
        /// The queue.
        name: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// End a pause, also one that the breaker has made.
    #[command(after_help = "Example:\n  millstream queue resume mail")]
    Resume {
        /// The queue.
        name: String,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

/// How a queue delivers.
#[derive(Debug, Args)]
struct SettingsArgs {
    /// How long a worker may keep a message before it must have settled or extended it, such as 30s.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    lease: Option<u64>,
    /// How long with all extensions, such as 12h.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    max_lease: Option<u64>,
    /// How long a message waits after its first failure.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    retry_min: Option<u64>,
    /// And at most.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    retry_max: Option<u64>,
    /// After so many attempts a message goes to the dead letter topic; 0 = never.
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Where dead letters go; created if there is none. Without it and with --attempts: NAME.dlq.
    #[arg(long, value_name = "TOPIC")]
    dead_letter_topic: Option<String>,
    /// Most messages that are out or wait for a retry.
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u32>,
    /// Most messages one stream may have; 0 = as many as it asks for.
    #[arg(long, value_name = "N")]
    max_in_flight_per_receiver: Option<u32>,
    /// Confirm settlements when they are on the disk (synced, the default), or, quicker, when the operating system has
    /// them (written): then a power cut may undo some, and their messages come again.
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// What each further attempt multiplies the wait by, in hundredths.
    #[arg(long, value_name = "PERCENT")]
    retry_multiplier: Option<u32>,
    /// How much of a wait may be taken off at random.
    #[arg(long, value_name = "PERCENT")]
    retry_jitter: Option<u32>,
    /// A message that is older when its turn comes goes to the dead letter topic; 0s = messages have no age.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    message_ttl: Option<u64>,
    /// The number of a partition is the priority of its messages: higher ones come first. `=false` ends it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    priority_by_partition: Option<bool>,
    /// Pause by itself when so many percent of the last deliveries have failed; 0 = never.
    #[arg(long, value_name = "PERCENT")]
    breaker: Option<u32>,
    /// How many deliveries that looks back at; 20 if there is a breaker and nothing is said.
    #[arg(long, value_name = "N")]
    breaker_deliveries: Option<u32>,
    /// How long the first such pause is; 30s if nothing is said.
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    breaker_pause: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

impl SettingsArgs {
    fn settings(self) -> QueueSettings {
        QueueSettings {
            lease_ms: self.lease,
            max_lease_ms: self.max_lease,
            retry_min_ms: self.retry_min,
            retry_max_ms: self.retry_max,
            attempts_max: self.attempts,
            dead_letter_topic: self.dead_letter_topic,
            max_in_flight: self.max_in_flight,
            max_in_flight_per_receiver: self.max_in_flight_per_receiver,
            durability: self.durability.map(Durability::from),
            retry_multiplier_percent: self.retry_multiplier,
            retry_jitter_percent: self.retry_jitter,
            message_ttl_ms: self.message_ttl,
            priority_by_partition: self.priority_by_partition,
            breaker_failures_percent: self.breaker,
            breaker_deliveries: self.breaker_deliveries,
            breaker_pause_ms: self.breaker_pause,
            ordered_by_key: None,
        }
    }
}

/// Does what was asked.
pub(super) async fn run(args: QueueArgs) -> Result<(), CliError> {
    match args.verb {
        QueueVerb::Create { name, topics, patterns, from, ordered_by_key, filter, settings, out } => {
            let topics = topics.iter().map(|topic| topic_name(topic)).collect::<Result<Vec<_>, _>>()?;
            let start = parse_position(&from, SystemClock.now_ms()).map_err(CliError::usage)?;
            let settings = QueueSettings { ordered_by_key: Some(ordered_by_key), ..settings.settings() };
            let client = out.broker.connect().await?;
            let filter = filter.as_ref().map_or("", Filter::as_str).to_owned();
            let queue = NewQueue { name, topics, topic_patterns: patterns, start, filter, settings };
            print::changed("created", &client.create_queue_of(&queue).await?, out.json)
        }
        QueueVerb::Describe { name, out } => {
            print::describe(&out.broker.connect().await?.describe_queue(&name).await?, out.json)
        }
        QueueVerb::List { prefix, out } => {
            print::list(&out.broker.connect().await?.list_queues(&prefix).await?, out.json)
        }
        QueueVerb::Update { name, settings, out } => {
            let client = out.broker.connect().await?;
            print::changed("updated", &client.update_queue(&name, &settings.settings()).await?, out.json)
        }
        QueueVerb::Delete { name, yes, broker } => {
            confirm(&format!("delete queue {name} and forget which messages are done"), yes)?;
            Ok(broker.connect().await?.delete_queue(&name).await?)
        }
        QueueVerb::Receive(args) => receive::run(args).await,
        QueueVerb::Peek { name, messages, out } => {
            print::peeked(&out.broker.connect().await?.peek_queue(&name, messages).await?, out.json)
        }
        QueueVerb::Blocked { name, keys, out } => {
            print::blocked(&out.broker.connect().await?.list_blocked_keys(&name, keys).await?, out.json)
        }
        QueueVerb::Pause { name, broker } => Ok(broker.connect().await?.pause_queue(&name).await.map(drop)?),
        QueueVerb::Resume { name, broker } => Ok(broker.connect().await?.resume_queue(&name).await.map(drop)?),
    }
}
