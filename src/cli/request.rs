//! `millstream request`: sends one record and prints the reply to it.

use super::BrokerArgs;
use super::exit::CliError;
use super::interrupt::interrupt;
use super::json;
use super::json::record_json;
use super::produce::parse_header;
use super::topic::DurabilityArg;
use super::whole_input::value_or_stdin;
use crate::client::{ConsumedRecord, NewRecord, Reply, RequestOptions};
use crate::limits;
use crate::units::parse_duration;
use clap::Args;
use std::io::Write as _;
use std::time::Duration;

const EXAMPLES: &str = "\
Whoever works on the topic replies: millstream worker QUEUE --exec CMD --reply, or millstream reply TOKEN with the value
of the header reply-token. The request stays in the topic, whether or not somebody replies in time.

Exit codes: 0 the reply was printed, 4 no reply in time, 6 the reply says that the work has failed.

Examples:
  millstream request prices 'two coffees' --timeout 5s
  millstream request thumbnails --key img-7 < photo.png > small.png
  millstream request orders '{\"id\":17}' -H correlation-id=order-17 --reply-topic results --json";

/// Options of `request`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RequestArgs {
    /// The topic to send to.
    topic: String,
    /// What to ask; without it all of standard input, but for its last newline.
    value: Option<String>,
    /// Wait no longer than this for the reply.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
    /// The key of the record.
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// A header of the record, as NAME=VALUE; may be given more than once.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Send to this partition, whatever the key.
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// Append the reply to this topic too, with the header correlation-id of the request, whoever waits.
    #[arg(long, value_name = "TOPIC")]
    reply_topic: Option<String>,
    /// How safe the request must be; without it, what the topic promises.
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// Print a JSON object: the place of the request, and the key, value and headers of the reply.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Asks and prints.
pub(super) async fn run(args: RequestArgs) -> Result<(), CliError> {
    let client = args.broker.connect().await?;
    let value = value_or_stdin(args.value, limits::BATCH_BYTES_LIMIT_MAX as usize).await?;
    let headers: Vec<_> = args.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let record = NewRecord {
        key: args.key.as_deref().map(str::as_bytes),
        headers: &headers,
        partition: args.partition,
        ..NewRecord::value(&value)
    };
    let options = RequestOptions {
        timeout: args.timeout,
        durability: args.durability.map(Into::into),
        reply_topic: args.reply_topic,
    };
    let reply = tokio::select! {
        reply = client.request(&args.topic, record, &options) => reply?,
        () = interrupt() => return Err(CliError::Interrupted),
    };
    print(&reply, args.json)?;
    match reply.failure {
        Some(failure) => Err(CliError::WorkFailed(failure)),
        None => Ok(()),
    }
}

fn print(reply: &Reply, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return json::print_lines([reply_json(reply)]);
    }
    let Some(value) = &reply.record.value else { return Ok(()) };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(value).and_then(|()| stdout.write_all(b"\n"));
    written.and_then(|()| stdout.flush()).map_err(CliError::output)
}

fn reply_json(reply: &Reply) -> serde_json::Value {
    let record = reply.record.clone();
    let mut object = record_json(&ConsumedRecord {
        partition: reply.partition.clone(),
        offset: reply.offset,
        append_time: reply.append_time,
        key: record.key,
        value: record.value,
        headers: record.headers,
        timestamp: record.timestamp,
        message_id: record.message_id,
    });
    object["failure"] = reply.failure.clone().into();
    if let Some(id) = &reply.correlation_id {
        object["correlation_id"] = id.clone().into();
    }
    object
}
