//! `millstream schedule add`: records of arguments, or of the lines of standard input.

use super::WhenArgs;
use crate::cli::BrokerArgs;
use crate::cli::exit::CliError;
use crate::cli::produce::parse_header;
use crate::cli::schedule::print;
use crate::cli::topic::topic_name;
use crate::client::admin::{AddedSchedule, NewSchedule, When};
use crate::client::{Client, NewRecord};
use crate::limits::SCHEDULES_PER_CALL_MAX;
use crate::types::TopicName;
use clap::Args;
use std::io::{BufRead as _, IsTerminal as _};

/// Records that are sent together are no more bytes than this, or one.
const CALL_BYTES: usize = 1 << 20;

/// Options of `schedule add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The topic to deliver to.
    topic: String,
    /// Values, one record each; without any, the lines of standard input.
    #[arg(value_name = "VALUE")]
    values: Vec<String>,
    #[command(flatten)]
    when: WhenArgs,
    /// What the schedule is called; without it, the broker finds an id. For one record only.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The key of every record.
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// A header of every record, as NAME=VALUE; may be given more than once.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Deliver to this partition, whatever the key.
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// Names the message for good, for topics that look for repeats. For one record only, and not with --cron.
    #[arg(long, value_name = "ID", conflicts_with = "cron")]
    message_id: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Adds them, some at a time.
pub(super) async fn run(args: AddArgs) -> Result<(), CliError> {
    let topic = topic_name(&args.topic)?;
    let when = args.when.when()?;
    let client = args.broker.connect().await?;
    let mut adding = Adding { args: &args, topic, when, client, waiting: Vec::new(), bytes: 0, added: 0 };
    let added = adding.add_all().await;
    let done = adding.added;
    added.map_err(|error| error.after((done > 0).then(|| format!("{done} schedules were added"))))
}

struct Adding<'a> {
    args: &'a AddArgs,
    topic: TopicName,
    when: When,
    client: Client,
    waiting: Vec<Vec<u8>>,
    bytes: usize,
    added: u64,
}

impl Adding<'_> {
    async fn add_all(&mut self) -> Result<(), CliError> {
        if !self.args.values.is_empty() {
            for value in &self.args.values {
                self.take(value.clone().into_bytes()).await?;
            }
            return self.flush().await;
        }
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("reading lines, one record each; end with Ctrl-D");
        }
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = input.lock().read_until(b'\n', &mut line);
            let read = read.map_err(|source| CliError::Io { what: "cannot read the input".to_owned(), source })?;
            if read == 0 {
                return self.flush().await;
            }
            self.take(line.strip_suffix(b"\n").unwrap_or(&line).to_vec()).await?;
        }
    }

    async fn take(&mut self, value: Vec<u8>) -> Result<(), CliError> {
        let is_named = self.args.id.is_some() || self.args.message_id.is_some();
        if is_named && !self.waiting.is_empty() {
            return Err(CliError::usage("--id and --message-id are for one record, and there are more"));
        }
        if self.bytes + value.len() > CALL_BYTES || self.waiting.len() == SCHEDULES_PER_CALL_MAX {
            self.flush().await?;
        }
        self.bytes += value.len();
        self.waiting.push(value);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), CliError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let headers: Vec<(&str, &[u8])> =
            self.args.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let schedule = |value| NewSchedule {
            id: self.args.id.as_deref(),
            topic: &self.topic,
            record: NewRecord {
                key: self.args.key.as_deref().map(str::as_bytes),
                value: Some(value),
                headers: &headers,
                timestamp: None,
                partition: self.args.partition,
                message_id: self.args.message_id.as_deref(),
            },
            when: self.when.clone(),
        };
        let schedules: Vec<_> = self.waiting.iter().map(|value| schedule(value)).collect();
        let added: Vec<AddedSchedule> = self.client.add_schedules(&schedules).await?;
        self.added += added.len() as u64;
        self.waiting.clear();
        self.bytes = 0;
        print::added(&added, self.args.json)
    }
}
