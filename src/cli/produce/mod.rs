//! `millstream produce`: sends records, and says how it went.
//!
//! ```text
//! input (a thread that reads chunks) -> Lines (split in place) -> RecordPlan (key, headers, JSON) -> Producer
//!                                                                                                -> Later (--delay)
//! ```
//!
//! Bytes are copied once on the way to the producer, from the chunk into the batch. On Ctrl-C reading stops, what was read is
//! delivered, and the command says how much was acknowledged; a second Ctrl-C ends it at once.

mod input;
mod later;
mod plan;

use super::BrokerArgs;
use super::exit::CliError;
use super::interrupt::interrupt;
use super::time::parse_time;
use super::topic::{DurabilityArg, topic_name};
use crate::client::admin::When;
use crate::client::{Client, ClientError, NewRecord, Producer, ProducerOptions};
use crate::clock::{Clock as _, SystemClock};
use crate::limits::SCHEDULE_RECORD_BYTES_MAX;
use crate::types::Offset;
use crate::units::{format_bytes, format_count, parse_bytes, parse_duration, parse_rate, per_second};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use input::{Lines, Source};
use later::Later;
use plan::RecordPlan;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

const EXAMPLES: &str = "\
Examples:
  echo 'two coffees' | millstream produce orders
  millstream produce orders -k table-7 'two coffees' 'one tea'
  millstream produce orders -K : -f orders.txt        lines such as table-7:two coffees
  millstream consume orders -e --json | millstream produce --json copy-of-orders
  echo '{\"value\":\"10 EUR\",\"message_id\":\"payment-17\"}' | millstream produce --json payments
  millstream produce mail --delay 5m 'still there?'   delivered in five minutes, over restarts too";

/// What says how records are sent at once, and means nothing for those that a schedule delivers.
const SENT_AT_ONCE: [&str; 9] = [
    "producer_name",
    "no_idempotence",
    "expected_offset",
    "fencing_token",
    "rate",
    "durability",
    "batch_bytes",
    "linger",
    "timeout",
];

/// Options of `produce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ProduceArgs {
    /// The topic to send to.
    topic: String,
    /// Values to send, one record each; without any, the lines of standard input.
    #[arg(value_name = "VALUE", conflicts_with = "file")]
    values: Vec<String>,
    /// Send the lines of this file; - is standard input.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Split each value at the first SEP: what is before is the key. Without SEP in it, a record has no key.
    #[arg(short = 'K', long, value_name = "SEP", conflicts_with_all = ["key", "json"])]
    key_separator: Option<String>,
    /// The key of every record.
    #[arg(short, long, value_name = "KEY", conflicts_with = "json")]
    key: Option<String>,
    /// A header of every record, as NAME=VALUE; may be given more than once.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", conflicts_with = "json", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Send to this partition, whatever the key.
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
    /// Each line is a record in JSON, as `consume --json` prints it.
    #[arg(long)]
    json: bool,
    /// With --json: send each record to the partition it names.
    #[arg(long, requires = "json", conflicts_with = "partition")]
    keep_partition: bool,
    /// With --json: the value of this header is the record's message id, rather than its `message_id`.
    #[arg(long, value_name = "NAME", requires = "json")]
    message_id_header: Option<String>,
    /// Send under this name: other producers of the same name that are still running are refused from now on.
    #[arg(long, value_name = "NAME", conflicts_with = "no_idempotence")]
    producer_name: Option<String>,
    /// Send without producer id and sequence: after a lost connection a record may be appended twice.
    #[arg(long)]
    no_idempotence: bool,
    /// The first record must get exactly this offset, and the others follow.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    expected_offset: Option<u64>,
    /// The right to write to a partition that is fenced; see millstream topic fence --help.
    #[arg(long, value_name = "N")]
    fencing_token: Option<u64>,
    /// A value that is exactly TEXT is sent as no value at all (a tombstone).
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    null_value: Option<String>,
    /// Send no faster than this many records a second, as N or N/s.
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<u64>,
    /// What an acknowledgement must wait for; without it, what the topic promises.
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// Send a batch when it reaches this size.
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = parse_bytes)]
    batch_bytes: u64,
    /// Send a batch that is not full when its first record has waited this long.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = parse_duration)]
    linger: Duration,
    /// Give up on records that cannot be delivered for this long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
    /// Deliver each record so long after the broker has taken it, such as 5m or 1h30m, and not at once: it becomes a
    /// schedule, which millstream schedule lists and cancels.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = SENT_AT_ONCE)]
    delay: Option<Duration>,
    /// Deliver each record at this time, as 2026-01-31T12:00:00Z, with an offset, or in milliseconds since 1970; at once
    /// if it has passed.
    #[arg(long, value_name = "TIME", conflicts_with = "delay", conflicts_with_all = SENT_AT_ONCE)]
    deliver_at: Option<String>,
    /// Say nothing at the end.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

impl ProduceArgs {
    /// When the records are to be delivered; `None` = at once.
    fn when(&self) -> Result<Option<When>, CliError> {
        if let Some(at) = &self.deliver_at {
            return Ok(Some(When::At(parse_time(at, SystemClock.now_ms()).map_err(CliError::usage)?)));
        }
        Ok(self.delay.map(When::After))
    }
}

/// Sends the records, or adds them to the schedules.
pub(super) async fn run(args: ProduceArgs) -> Result<(), CliError> {
    let when = args.when()?;
    let topic = topic_name(&args.topic)?;
    let client = args.broker.connect().await?;
    match when {
        Some(when) => deliver_later(&args, Later::new(client, topic, when, args.partition)).await,
        None => send_at_once(&args, &client).await,
    }
}

async fn deliver_later(args: &ProduceArgs, mut later: Later) -> Result<(), CliError> {
    let mut feeder = Feeder::new(args, Outlet::Later(&mut later), Instant::now());
    let fed = tokio::select! {
        biased;
        () = interrupt() => Err(CliError::Interrupted),
        fed = feeder.feed(args) => fed,
    };
    // What was read before Ctrl-C, or before a bad line, is kept; after a call that failed another would fail too.
    let flushed = if matches!(fed, Err(CliError::Client(_))) { Ok(()) } else { later.flush().await };
    if !args.quiet {
        eprintln!("{}", later.report());
    }
    fed.and(flushed).map_err(|error| error.after(later.done()))
}

async fn send_at_once(args: &ProduceArgs, client: &Client) -> Result<(), CliError> {
    let options = ProducerOptions {
        partition: args.partition,
        durability: args.durability.map(Into::into),
        batch_bytes: usize::try_from(args.batch_bytes).map_err(|_| CliError::usage("--batch-bytes is too large"))?,
        linger: args.linger,
        delivery_timeout: args.timeout,
        idempotent: !args.no_idempotence,
        name: args.producer_name.clone(),
        expected_offset: args.expected_offset.map(Offset),
        fencing_token: args.fencing_token,
        ..ProducerOptions::default()
    };
    let producer = client.producer(&args.topic, options).await?;
    let started = Instant::now();
    let mut feeder = Feeder::new(args, Outlet::Now(&producer), started);
    let fed = tokio::select! {
        biased;
        () = interrupt() => Err(CliError::Interrupted),
        fed = feeder.feed(args) => fed,
    };
    feeder.progress.finish_and_clear();
    let flushed = tokio::select! {
        biased;
        () = interrupt() => Err(CliError::Interrupted),
        flushed = producer.flush() => flushed.map_err(CliError::from),
    };
    finish(args, &producer, started.elapsed(), fed.and(flushed))
}

/// Says how much was acknowledged, and makes an error that came after a success a partial one.
fn finish(
    args: &ProduceArgs,
    producer: &Producer,
    elapsed: Duration,
    result: Result<(), CliError>,
) -> Result<(), CliError> {
    let totals = producer.totals();
    let (records, bytes) = (totals.records_acked, totals.bytes_acked);
    if !args.quiet {
        if totals.records_duplicate > 0 {
            eprintln!("{} were in the log already, by their message ids", format_count(totals.records_duplicate));
        }
        eprintln!(
            "{} {}, {} in {:.3} s ({} records/s, {}/s)",
            format_count(records),
            if records == 1 { "record" } else { "records" },
            format_bytes(bytes),
            elapsed.as_secs_f64(),
            format_count(per_second(records, elapsed)),
            format_bytes(per_second(bytes, elapsed)),
        );
    }
    let done = (records > 0).then(|| format!("{} of {} records are safe", records, totals.records_sent));
    result.map_err(|error| error.after(done))
}

/// Where records go.
enum Outlet<'a> {
    Now(&'a Producer),
    Later(&'a mut Later),
}

impl Outlet<'_> {
    /// Takes the record of this line, when there is room for it.
    async fn put(&mut self, record: NewRecord<'_>, number: u64) -> Result<(), CliError> {
        let producer = match self {
            Self::Later(later) => return later.put(&record, number).await,
            Self::Now(producer) => *producer,
        };
        loop {
            match producer.try_send(&record) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {
                    producer.ready().await;
                    stop_on_failure(producer)?;
                }
                Err(
                    error @ (ClientError::RecordTooLarge { .. }
                    | ClientError::NoSuchPartition { .. }
                    | ClientError::BadMessageId { .. }),
                ) => {
                    return Err(CliError::Input { line: number, what: error.to_string() });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Puts records into the producer or the schedules, at the pace and with the parts that were asked for.
struct Feeder<'a> {
    outlet: Outlet<'a>,
    plan: RecordPlan<'a>,
    pace: Option<u64>,
    sent: u64,
    started: Instant,
    progress: ProgressBar,
}

impl<'a> Feeder<'a> {
    fn new(args: &'a ProduceArgs, outlet: Outlet<'a>, started: Instant) -> Self {
        let plan = RecordPlan {
            json: args.json,
            keep_partition: args.keep_partition,
            message_id_header: args.message_id_header.as_deref(),
            key: args.key.as_deref().map(str::as_bytes),
            key_separator: args.key_separator.as_ref().map(memchr::memmem::Finder::new),
            null_value: args.null_value.as_deref().map(str::as_bytes),
            headers: args.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
        };
        let progress = progress_bar(args);
        Self { outlet, plan, pace: args.rate, sent: 0, started, progress }
    }

    async fn feed(&mut self, args: &ProduceArgs) -> Result<(), CliError> {
        if !args.values.is_empty() {
            for (number, value) in (1..).zip(&args.values) {
                self.send(value.as_bytes(), number).await?;
            }
            return Ok(());
        }
        let source = Source::open(args.file.as_deref())?;
        if source.is_terminal() && !args.quiet {
            eprintln!("Each line is a record; Ctrl-D ends.");
        }
        let mut chunks = source.read_in_chunks();
        let (line_bytes_max, whose) = self.longest_line();
        let mut lines = Lines::new(line_bytes_max, whose);
        while let Some(chunk) = chunks.recv().await {
            lines.push(chunk.map_err(|source| CliError::Io { what: "cannot read the input".to_owned(), source })?);
            while let Some((number, line)) = lines.next_line()? {
                self.send(line, number).await?;
            }
            self.look_around().await?;
        }
        if let Some((number, line)) = lines.finish() {
            self.send(line, number).await?;
        }
        Ok(())
    }

    /// Sends the record of one line.
    async fn send(&mut self, line: &[u8], number: u64) -> Result<(), CliError> {
        if let Some(per_second) = self.pace {
            let due_ns = u128::from(self.sent) * 1_000_000_000 / u128::from(per_second);
            let due = Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX));
            tokio::time::sleep_until(self.started + due).await;
        }
        self.sent += 1;
        let refused = |what| CliError::Input { line: number, what };
        if self.plan.json {
            let record = super::json::read_record(line).map_err(refused)?;
            let headers: Vec<_> =
                record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            let header = self.plan.message_id_header;
            let id_header = headers.iter().find(|(name, _)| Some(*name) == header).map(|(_, value)| *value);
            let id_header = id_header.map(std::str::from_utf8).transpose();
            let id_header = id_header.map_err(|_| refused("the header with the message id is not UTF-8".to_owned()))?;
            let record = NewRecord {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
                timestamp: record.timestamp,
                partition: record.partition.filter(|_| self.plan.keep_partition),
                message_id: id_header.or(record.message_id.as_deref()),
            };
            return self.outlet.put(record, number).await;
        }
        self.outlet.put(self.plan.record(line), number).await
    }

    /// Between chunks: whether it is all in vain, and how far we are.
    async fn look_around(&mut self) -> Result<(), CliError> {
        let producer = match &mut self.outlet {
            // So that a line that somebody types is safe when they look up, and its wait begins then.
            Outlet::Later(later) => return later.flush().await,
            Outlet::Now(producer) => *producer,
        };
        stop_on_failure(producer)?;
        if !self.progress.is_hidden() {
            let totals = producer.totals();
            self.progress.set_position(totals.bytes_acked);
            self.progress.set_message(format_count(totals.records_acked));
        }
        Ok(())
    }

    /// How long a line may be, and what says so. A line of JSON may be longer than its record: escapes take up to six
    /// times the room, and names come on top.
    fn longest_line(&self) -> (usize, &'static str) {
        let (record_bytes_max, whose) = match &self.outlet {
            Outlet::Now(producer) => (producer.record_bytes_max(), "the topic takes (record_bytes_max)"),
            Outlet::Later(_) => (SCHEDULE_RECORD_BYTES_MAX, "a record that is delivered later may have"),
        };
        let longest =
            if self.plan.json { record_bytes_max.saturating_mul(6).saturating_add(4096) } else { record_bytes_max };
        (longest, whose)
    }
}

fn stop_on_failure(producer: &Producer) -> Result<(), CliError> {
    producer.failure().map_or(Ok(()), |error| Err(error.into()))
}

/// Shown on a terminal only, and never between a person and the lines they type.
fn progress_bar(args: &ProduceArgs) -> ProgressBar {
    let typed = args.file.is_none() && std::io::stdin().is_terminal();
    let is_later = args.delay.is_some() || args.deliver_at.is_some();
    if args.quiet || typed || is_later || !args.values.is_empty() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} records, {binary_bytes} ({binary_bytes_per_sec})");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

pub(super) fn parse_header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write a header as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
