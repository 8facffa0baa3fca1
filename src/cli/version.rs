//! `millstream version`: of this program, and of the broker when asked.

use super::exit::CliError;
use super::time::format_time;
use super::{BrokerArgs, json};
use clap::Args;
use serde_json::json;
use std::io::Write as _;

const VERSION: &str = env!("CARGO_PKG_VERSION");

const EXAMPLES: &str = "\
Examples:
  millstream version
  millstream version --server --json --broker broker:7171";

/// Options of `version`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VersionArgs {
    /// Ask the broker for its version too.
    #[arg(long)]
    server: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Prints the versions.
pub(super) async fn run(args: VersionArgs) -> Result<(), CliError> {
    let server = if args.server { Some(args.broker.connect().await?.server_info().await?) } else { None };
    if args.json {
        let server = server.map(|info| {
            json!({
                "version": info.version, "broker_id": info.broker_id, "started_at_ms": info.started_at,
                "ephemeral": info.ephemeral, "request_bytes_max": info.request_bytes_max,
                "batch_bytes_max": info.batch_bytes_max, "partitions_max": info.partitions_max,
            })
        });
        return json::print_lines([json!({ "version": VERSION, "server": server })]);
    }
    let mut text = format!("millstream {VERSION}\n");
    if let Some(info) = server {
        let kept = if info.ephemeral { ", ephemeral" } else { "" };
        let started = format_time(info.started_at);
        let address = &args.broker.broker;
        text += "broker ";
        text += &[info.version.as_str(), "at", address, "since", &started].join(" ");
        text += kept;
        text += "\n";
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)
}
