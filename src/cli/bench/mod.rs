//! `millstream bench`: runs a workload against a broker and prints what it found; `bench report` makes a page of it.
//!
//! ```text
//! load      flags -> Load, checked          system    a broker of our own, or one that runs
//! print     figures -> table and lines      report    JSON files -> HTML
//! ```
//!
//! Ctrl-C ends a run early; what was measured is printed and said to be partial. A second Ctrl-C ends it at once.

mod load;
mod print;
mod report;
mod system;

use super::exit::CliError;
use super::interrupt::interrupt;
use crate::bench::result::RunResult;
use crate::bench::workload::queue::{Messages, QueueWork};
use crate::bench::workload::{Bench, Workload};
use crate::bench::{BenchError, Millstream, Stop};
use crate::clock::{Clock as _, SystemClock};
use crate::units::{parse_bytes, parse_duration, parse_rate};
use clap::{Args, Subcommand};
use load::LoadArgs;
use report::ReportArgs;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use system::SystemArgs;

/// Options of `bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    verb: BenchVerb,
}

#[derive(Debug, Subcommand)]
enum BenchVerb {
    /// Send as fast as acknowledgements come: records a second, latency of acknowledgements, cost of a record.
    #[command(after_help = "\
Examples:
  millstream bench produce
  millstream bench produce --durability written --record-bytes 1KiB --json runs.json
  millstream bench produce --in-flight 1                      one record on its way at a time
  millstream bench produce --in-flight 1 --producers 64       many producers with one record each
  millstream bench produce --server 10.0.0.7:7171 --producers 4 --partitions 4")]
    Produce(RunArgs),
    /// Read records that are there already, as fast as they come.
    #[command(after_help = "\
Examples:
  millstream bench consume
  millstream bench consume --backlog-bytes 1GiB --readers 4")]
    Consume {
        /// How much to write first.
        #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
        backlog_bytes: u64,
        /// How many read, each all of it.
        #[arg(long, value_name = "N", default_value_t = 1)]
        readers: u32,
        /// Read as members of consumer groups, a new one each time, and commit.
        #[arg(long)]
        in_groups: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Send at a fixed rate and follow: the time from when a record was meant to be sent until it is read.
    #[command(after_help = "\
Examples:
  millstream bench e2e
  millstream bench e2e --rate 20000 --durability written --duration 30s")]
    E2e {
        /// Records a second, of all producers together.
        #[arg(long, value_name = "N/s", default_value = "10000", value_parser = parse_rate)]
        rate: u64,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Send to many consumer groups, each of which gets every record.
    #[command(after_help = "\
Examples:
  millstream bench fanout
  millstream bench fanout --groups 50 --durability written")]
    Fanout {
        /// How many consumer groups.
        #[arg(long, value_name = "N", default_value_t = 8)]
        groups: u32,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Send at a fixed rate and follow, while another reader reads old records as fast as it can.
    #[command(after_help = "\
Examples:
  millstream bench mixed
  millstream bench mixed --rate 50000 --readers 4 --backlog-bytes 2GiB")]
    Mixed {
        /// Records a second, of all producers together.
        #[arg(long, value_name = "N/s", default_value = "10000", value_parser = parse_rate)]
        rate: u64,
        /// How many follow.
        #[arg(long, value_name = "N", default_value_t = 2)]
        readers: u32,
        /// How much old records there are.
        #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
        backlog_bytes: u64,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Measure appending and following as the log grows: at 1 GB, 2 GB, 4 GB and so on.
    #[command(after_help = "\
Examples:
  millstream bench backlog --data-dir bench-data
  millstream bench backlog --backlog-bytes 50GB --record-bytes 1000 --data-dir bench-data")]
    Backlog {
        /// The size of the last step.
        #[arg(long, value_name = "SIZE", default_value = "4GB", value_parser = parse_bytes)]
        backlog_bytes: u64,
        /// Records a second while following is measured.
        #[arg(long, value_name = "N/s", default_value = "10000", value_parser = parse_rate)]
        rate: u64,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Find the highest rate at which 99 of 100 records are read in time.
    #[command(after_help = "\
Examples:
  millstream bench rate --duration 3s
  millstream bench rate --p99-below 2ms --durability written --start 100000")]
    Rate {
        /// Within this time.
        #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = parse_duration)]
        p99_below: Duration,
        /// Records a second to begin with.
        #[arg(long, value_name = "N/s", default_value = "10000", value_parser = parse_rate)]
        start: u64,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Let workers take messages from a queue and acknowledge each: as many as it goes, or at a fixed rate.
    #[command(after_help = "\
Examples:
  millstream bench queue
  millstream bench queue --durability written --workers 8 --messages 1000000
  millstream bench queue --ack-each                    one request for each acknowledgement
  millstream bench queue --rate 1000                   the time from sending a message until a worker has it")]
    Queue {
        /// How many messages there are before the workers are.
        #[arg(long, value_name = "N", default_value_t = 200_000, conflicts_with = "rate")]
        messages: u64,
        /// Send while the workers work: messages a second, of all producers together.
        #[arg(long, value_name = "N/s", value_parser = parse_rate)]
        rate: Option<u64>,
        /// How many work, each with a connection of its own.
        #[arg(long, value_name = "N", default_value_t = 4)]
        workers: u32,
        /// Most messages of each worker that are not acknowledged.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        prefetch: u32,
        /// Make each acknowledgement a request of its own, rather than those of messages that came together.
        #[arg(long)]
        ack_each: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Make one HTML page, with charts, of the results in JSON files.
    #[command(after_help = "\
Examples:
  millstream bench report runs.json
  millstream bench report before.json after.json -o page.html")]
    Report(ReportArgs),
}

/// What all workloads take.
#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    system: SystemArgs,
    /// Add the result to this file, as one line of JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Call the run this in the report.
    #[arg(long, value_name = "TEXT", requires = "json")]
    label: Option<String>,
}

/// What is to be done.
#[derive(Debug)]
enum Job {
    /// To a topic.
    Topic(Workload),
    /// To a queue.
    Queue(QueueWork),
}

impl From<Workload> for Job {
    fn from(workload: Workload) -> Self {
        Self::Topic(workload)
    }
}

/// Runs a workload, or makes a report.
pub(super) fn run(args: BenchArgs) -> Result<(), CliError> {
    let (job, args) = match args.verb {
        BenchVerb::Produce(run) => (Workload::Produce.into(), run),
        BenchVerb::Consume { backlog_bytes, readers, in_groups, run } => {
            (Workload::Consume { backlog_bytes, readers, in_groups }.into(), run)
        }
        BenchVerb::E2e { rate, run } => (Workload::EndToEnd { rate }.into(), run),
        BenchVerb::Fanout { groups, run } => (Workload::Fanout { groups }.into(), run),
        BenchVerb::Mixed { rate, readers, backlog_bytes, run } => {
            (Workload::Mixed { rate, readers, backlog_bytes }.into(), run)
        }
        BenchVerb::Backlog { backlog_bytes, rate, run } => (Workload::Backlog { backlog_bytes, rate }.into(), run),
        BenchVerb::Rate { p99_below, start, run } => (Workload::Rate { p99_below, start }.into(), run),
        BenchVerb::Queue { messages, rate, workers, prefetch, ack_each, run } => {
            let messages = rate.map_or(Messages::Backlog(messages), Messages::Rate);
            (Job::Queue(QueueWork { workers, prefetch, ack_each, messages }), run)
        }
        BenchVerb::Report(args) => return report::run(&args),
    };
    let load = args.load.check(&job)?;
    // A file that cannot be written is better known before the run than after it.
    let json = args.json.as_deref().map(open_to_add).transpose()?;
    let system = args.system.start()?;
    let started_at_ms = SystemClock.now_ms();
    // The transport, the senders and the readers share the processors with the broker; one thread each is enough.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { what: "cannot start".to_owned(), source })?;
    let result: Result<RunResult, CliError> = runtime.block_on(async {
        let (stop_handle, stop) = Stop::new();
        let running = async {
            let target = Millstream::connect(system.address(), system.process_id()).await?;
            let bench = Bench { target, load, stop, notice: |text| eprintln!("{text}") };
            let label = args.label.clone();
            Ok(match &job {
                Job::Topic(workload) => bench.run(workload, started_at_ms, label).await?,
                Job::Queue(work) => bench.run_queue(work, started_at_ms, label).await?,
            })
        };
        let running = std::pin::pin!(running);
        let told_twice = async {
            interrupt().await;
            stop_handle.stop();
            eprintln!("stopping; once more ends it at once");
            interrupt().await;
        };
        tokio::select! {
            result = running => result,
            () = told_twice => Err(CliError::Interrupted),
        }
    });
    runtime.shutdown_background();
    drop(system);
    let result = result?;
    print::result(&result)?;
    if let (Some(mut file), Some(path)) = (json, &args.json) {
        let line = result.to_line() + "\n";
        file.write_all(line.as_bytes()).map_err(|source| cannot_write(path, source))?;
    }
    if result.partial { Err(CliError::Interrupted) } else { Ok(()) }
}

fn open_to_add(path: &Path) -> Result<File, CliError> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|source| cannot_write(path, source))
}

fn cannot_write(path: &Path, source: std::io::Error) -> CliError {
    CliError::Io { what: format!("cannot write {}", path.display()), source }
}

impl From<BenchError<crate::client::ClientError>> for CliError {
    fn from(error: BenchError<crate::client::ClientError>) -> Self {
        match error {
            BenchError::System { source, .. } => Self::Client(source),
            // What there is to say is said by the one who stopped it.
            BenchError::Stopped(_) => Self::Interrupted,
            BenchError::NothingMeasured(what) => Self::NoData(format!("nothing was measured: {what}")),
            error => Self::Bench(error.to_string()),
        }
    }
}
