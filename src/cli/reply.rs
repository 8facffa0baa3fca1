//! `millstream reply`: gives the reply to one request.

use super::BrokerArgs;
use super::exit::CliError;
use super::produce::parse_header;
use super::whole_input::value_or_stdin;
use crate::client::NewRecord;
use crate::limits;
use clap::Args;

const EXAMPLES: &str = "\
The token is the value of the header reply-token of the request; in a command of millstream worker it is
$MILLSTREAM_HEADER_REPLY_TOKEN.

Exit codes: 0 the reply was taken, 1 the request has one already, 3 nobody waits any more.

Examples:
  millstream reply \"$token\" '3.50 EUR'
  convert photo.png -resize 100x100 - | millstream reply \"$token\"
  millstream reply \"$token\" --failure 'there is no order 17'";

/// Options of `reply`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReplyArgs {
    /// The token of the request.
    token: String,
    /// The reply; without it all of standard input, but for its last newline.
    value: Option<String>,
    /// Say that the work has failed for good, and why; standard input is not read then.
    #[arg(long, value_name = "TEXT")]
    failure: Option<String>,
    /// A header of the reply, as NAME=VALUE; may be given more than once.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Replies.
pub(super) async fn run(args: ReplyArgs) -> Result<(), CliError> {
    let client = args.broker.connect().await?;
    let value = match (args.value, &args.failure) {
        (None, Some(_)) => None,
        (value, _) => Some(value_or_stdin(value, limits::REPLY_BYTES_MAX).await?),
    };
    let headers: Vec<_> = args.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let record = NewRecord { value: value.as_deref(), headers: &headers, ..NewRecord::default() };
    let receipt = client.reply(&args.token, record, args.failure.as_deref()).await?;
    if let (false, Some(at)) = (receipt.delivered, receipt.appended) {
        eprintln!("nobody waits for it; it is in {} at offset {}", at.partition, at.offset);
    }
    Ok(())
}
