//! The workloads of `millstream bench` against other systems, in turn with Millstream, in one run.
//!
//! ```text
//! rounds     each round runs each case on each system in turn
//! figures    ratios of one round, then median, least and most of rounds; tables: as Markdown; chart: as SVG
//! resources  what a server takes: time to start, memory
//! cases      what is done; systems: with what it is started; programs: where that is, or what to install
//! child      a server as a process of its own, on a free port, in a directory that is deleted
//! null       the same gRPC services, storing nothing: the ceiling of the wire (also the program of that child)
//! file       one file in this process, synced for all who wait together: the ceiling of the disk
//! nats, rabbit, redis_streams    others, through the clients their authors advise; confirmations: acks on their way
//! ```

mod cases;
mod chart;
mod child;
mod confirmations;
mod figures;
mod file;
mod nats;
mod null;
mod programs;
mod rabbit;
mod redis_streams;
mod resources;
mod rounds;
mod systems;
mod tables;

use clap::{Parser, Subcommand};
use rounds::RunArgs;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "millstream-peers")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run workloads on systems, interleaved, and print ratios.
    Run(Box<RunArgs>),
    /// Be the server that stores nothing.
    NullServer {
        /// Keep so many bytes of each topic in memory, for those who read.
        #[arg(long, default_value_t = 0)]
        keep_bytes: u64,
    },
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    match Cli::parse().verb {
        Verb::Run(args) => runtime.block_on(rounds::run(&args)),
        Verb::NullServer { keep_bytes } => {
            runtime.block_on(null::serve(keep_bytes));
            ExitCode::SUCCESS
        }
    }
}
