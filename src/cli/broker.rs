//! `millstream broker`: how the broker stands, and what an operator tells it.

use super::BrokerArgs;
use super::confirm::confirm;
use super::exit::CliError;
use super::time::format_time;
use super::{json, table};
use crate::client::admin::{ClockStatus, DiskStatus, ScrubStatus, ServerInfo};
use crate::units::{format_bytes, format_duration_ms, parse_duration_ms};
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::Write as _;
use std::time::Duration;

/// Options of `broker`.
#[derive(Debug, Args)]
pub(super) struct BrokerVerbArgs {
    #[command(subcommand)]
    verb: BrokerVerb,
}

#[derive(Debug, Subcommand)]
enum BrokerVerb {
    /// Show which broker this is, its limits, and how its clock, its disk and its scrub stand.
    #[command(after_help = "Examples:\n  millstream broker info\n  millstream broker info --json")]
    Info {
        /// One JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Say that the broker's clock is right, so that retention by time goes on after the clock jumped.
    ///
    /// Records that are too old by that clock are deleted from then on.
    #[command(after_help = "Examples:\n  millstream broker confirm-clock\n  millstream broker confirm-clock --yes")]
    ConfirmClock {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Let time pass at once, in a broker for tests: one started with --ephemeral --manual-clock.
    ///
    /// Leases, retries, delays, schedules, ages of messages and retention follow; sessions of consumers do not.
    #[command(after_help = "Examples:\n  millstream broker advance-clock 24h\n  millstream broker advance-clock 90s")]
    AdvanceClock {
        /// How much, such as 90s, 24h.
        #[arg(value_parser = parse_duration_ms)]
        by: u64,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Begin to read all sealed segments again, to find damage. `broker info` says how far it is.
    #[command(after_help = "Example:\n  millstream broker scrub")]
    Scrub {
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

/// Runs the verb.
pub(super) async fn run(args: BrokerVerbArgs) -> Result<(), CliError> {
    match args.verb {
        BrokerVerb::Info { json, broker } => {
            let info = broker.connect().await?.server_info().await?;
            if json { json::print_lines([info_json(&info)]) } else { print_info(&info, &broker.broker) }
        }
        BrokerVerb::ConfirmClock { yes, broker } => {
            let client = broker.connect().await?;
            let clock = client.server_info().await?.clock;
            if !clock.retention_suspended {
                return say("the clock is right as it is; nothing was done");
            }
            let off = off_by(clock);
            confirm(&format!("take the clock ({off}) for right, and delete records that are too old by it"), yes)?;
            client.confirm_clock().await?;
            say(&format!("the clock was {off}; it is taken for right, retention by time goes on"))
        }
        BrokerVerb::AdvanceClock { by, broker } => {
            let now = broker.connect().await?.advance_clock(Duration::from_millis(by)).await?;
            say(&format!("the clock shows {}", format_time(now)))
        }
        BrokerVerb::Scrub { broker } => {
            let started = broker.connect().await?.start_scrub().await?;
            say(if started { "a scrub was started" } else { "a scrub is under way" })
        }
    }
}

fn say(what: &str) -> Result<(), CliError> {
    std::io::stdout().write_all(format!("{what}\n").as_bytes()).map_err(CliError::output)
}

fn print_info(info: &ServerInfo, address: &str) -> Result<(), CliError> {
    let kept = if info.ephemeral { "deleted when it stops" } else { "kept" };
    let facts = [
        ["version", &info.version],
        ["id", &info.broker_id],
        ["started", &format_time(info.started_at)],
        ["data", kept],
        ["request-bytes-max", &format_bytes(info.request_bytes_max.into())],
        ["batch-bytes-max", &format_bytes(info.batch_bytes_max.into())],
        ["partitions-max", &info.partitions_max.to_string()],
        ["clock", &clock_words(info.clock)],
        ["disk", &disk_words(info.disk)],
        ["scrub", &scrub_words(info.scrub)],
    ];
    table::print(["BROKER", address], facts.map(|row| row.map(str::to_owned)))
}

fn off_by(clock: ClockStatus) -> String {
    let by = format_duration_ms(clock.off_by_ms.unsigned_abs());
    if clock.off_by_ms < 0 { format!("{by} behind") } else { format!("{by} ahead") }
}

fn clock_words(clock: ClockStatus) -> String {
    if clock.retention_suspended {
        format!("jumped, {} of where it should be: retention by time is suspended", off_by(clock))
    } else {
        "right".to_owned()
    }
}

fn disk_words(disk: DiskStatus) -> String {
    let (free, least) = (format_bytes(disk.free_bytes), format_bytes(disk.free_bytes_min));
    if disk.refuses_produce {
        format!("{free} free, less than {least}: records are refused")
    } else {
        format!("{free} free; records are refused below {least}")
    }
}

fn scrub_words(scrub: ScrubStatus) -> String {
    let last = match scrub.ended_at {
        _ if scrub.is_running => format!("running, {} read", format_bytes(scrub.bytes_read)),
        Some(ended) => format!("last ended {}", format_time(ended)),
        None => "never ran".to_owned(),
    };
    let rate = match scrub.bytes_per_second {
        0 => "only when asked".to_owned(),
        rate => format!("{} a second", format_bytes(rate)),
    };
    format!("{last}; {rate}; {} damaged ranges known", scrub.damaged_ranges)
}

fn info_json(info: &ServerInfo) -> serde_json::Value {
    json!({
        "version": info.version, "broker_id": info.broker_id, "started_at_ms": info.started_at,
        "ephemeral": info.ephemeral, "request_bytes_max": info.request_bytes_max,
        "batch_bytes_max": info.batch_bytes_max, "partitions_max": info.partitions_max,
        "clock": { "retention_suspended": info.clock.retention_suspended, "off_by_ms": info.clock.off_by_ms },
        "disk": {
            "free_bytes": info.disk.free_bytes, "free_bytes_min": info.disk.free_bytes_min,
            "refuses_produce": info.disk.refuses_produce,
        },
        "scrub": {
            "bytes_per_second": info.scrub.bytes_per_second, "running": info.scrub.is_running,
            "bytes_read": info.scrub.bytes_read, "ended_at_ms": info.scrub.ended_at,
            "damaged_ranges": info.scrub.damaged_ranges,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_stands_is_said_in_words() {
        let hour = 3_600_000;
        let jumped = ClockStatus { retention_suspended: true, off_by_ms: -2 * hour };
        assert_eq!(clock_words(jumped), "jumped, 2h behind of where it should be: retention by time is suspended");
        assert_eq!(clock_words(ClockStatus::default()), "right");
        let low = DiskStatus { free_bytes: 1 << 20, free_bytes_min: 8 << 20, refuses_produce: true };
        assert_eq!(disk_words(low), "1 MiB free, less than 8 MiB: records are refused");
        let scrub = ScrubStatus { bytes_per_second: 8 << 20, damaged_ranges: 2, ..ScrubStatus::default() };
        assert_eq!(scrub_words(scrub), "never ran; 8 MiB a second; 2 damaged ranges known");
    }
}
