//! `millstream queue receive`: take messages, print them, acknowledge what has left the process.

use crate::cli::BrokerArgs;
use crate::cli::exit::CliError;
use crate::cli::interrupt::interrupt;
use crate::cli::json::record_json;
use crate::client::{Client, QueueMessage, Verdict};
use crate::units::parse_duration;
use clap::Args;
use std::io::Write as _;
use std::time::Duration;

/// Messages in one call.
const MESSAGES_PER_CALL: u32 = 100;

/// The longest a broker holds one call.
const WAIT_PER_CALL_MAX: Duration = Duration::from_mins(1);

/// Options of `queue receive`.
#[derive(Debug, Args)]
pub(super) struct ReceiveArgs {
    /// The queue.
    name: String,
    /// So many messages.
    #[arg(short = 'n', long = "messages", value_name = "N", default_value_t = 1)]
    messages: u32,
    /// Give up when no message came for this long, such as 30s.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    wait: Duration,
    /// Give the messages back when all are printed, instead of acknowledging them.
    #[arg(long)]
    no_ack: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Does what was asked.
pub(super) async fn run(args: ReceiveArgs) -> Result<(), CliError> {
    let client = args.broker.connect().await?;
    let mut held = Vec::new();
    let mut printed = 0;
    let received = tokio::select! {
        received = receive(&client, &args, &mut held, &mut printed) => received,
        () = interrupt() => Err(CliError::Interrupted),
    };
    if !held.is_empty() {
        let given_back = held.iter().map(|message| message.settle(Verdict::Release)).collect();
        client.settle(&args.name, given_back).await?;
    }
    match received {
        Ok(()) if printed == 0 => Err(CliError::NoData(format!("queue {} has no message to hand out now", args.name))),
        received => received,
    }
}

async fn receive(
    client: &Client,
    args: &ReceiveArgs,
    held: &mut Vec<QueueMessage>,
    printed: &mut u32,
) -> Result<(), CliError> {
    while *printed < args.messages {
        let most = (args.messages - *printed).min(MESSAGES_PER_CALL);
        let messages = client.receive(&args.name, most, args.wait.min(WAIT_PER_CALL_MAX)).await?;
        if messages.is_empty() {
            return Ok(());
        }
        print(&messages, args.json)?;
        *printed += u32::try_from(messages.len()).unwrap_or(u32::MAX);
        if args.no_ack {
            held.extend(messages);
            continue;
        }
        let acks = messages.iter().map(|message| message.settle(Verdict::Ack)).collect();
        for refused in client.settle(&args.name, acks).await? {
            eprintln!("millstream: {}", refused.refusal);
        }
    }
    Ok(())
}

fn print(messages: &[QueueMessage], json: bool) -> Result<(), CliError> {
    let mut out = Vec::new();
    for message in messages {
        if json {
            let mut object = record_json(&message.record);
            object["attempt"] = message.attempt.into();
            out.extend(object.to_string().into_bytes());
        } else {
            out.extend(message.record.value.as_deref().unwrap_or_default());
        }
        out.push(b'\n');
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&out).and_then(|()| stdout.flush()).map_err(CliError::output)
}
