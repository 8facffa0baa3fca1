//! Runs: each round goes through the cases, each case through the systems in turn, each with a fresh server.
//!
//! Machines drift, by a factor of two within minutes; so ratios are taken within a round, and only then is the median
//! taken over rounds. The order of systems turns with each round.

use super::cases::Case;
use super::chart;
use super::figures::Figures;
use super::systems::{Outcome, Setup, System};
use super::tables::{self, Rounds};
use clap::{Args, ValueEnum};
use millstream::bench::Machine;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// All of them.
const DEFAULT_SYSTEMS: &str = "millstream,null,file,nats,redis,rabbit-quorum,rabbit-classic,rabbit-stream";

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The systems; the first is what the others are compared with.
    #[arg(long, value_enum, value_delimiter = ',', default_value = DEFAULT_SYSTEMS)]
    systems: Vec<System>,
    /// The cases; all without it.
    #[arg(long, value_enum, value_delimiter = ',')]
    cases: Vec<Case>,
    /// How often.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Add results to this file.
    #[arg(long, value_name = "FILE", default_value = "peers.json")]
    json: PathBuf,
    /// Draw the ratios into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    #[command(flatten)]
    setup: Setup,
}

pub async fn run(args: &RunArgs) -> ExitCode {
    let missing: Vec<_> = args.systems.iter().filter_map(|system| args.setup.check(*system).err()).collect();
    if !missing.is_empty() {
        for missing in missing {
            eprintln!("{missing}");
        }
        return ExitCode::FAILURE;
    }
    touch_free_memory();
    let cases = if args.cases.is_empty() { Case::value_variants() } else { &args.cases };
    let (mut rounds, mut versions, mut failed) = (Rounds::new(), BTreeMap::new(), false);
    for round in 0..args.rounds {
        for case in cases {
            for turn in 0..args.systems.len() {
                let system = args.systems[(turn + round) % args.systems.len()];
                if !case.is_for(system) {
                    continue;
                }
                let outcome = one(args, *case, system).await.inspect_err(|error| {
                    failed = true;
                    eprintln!("{round} {} {}: {error}", tables::name(system), case.title());
                });
                let figures = outcome.ok().map(|outcome| {
                    println!("{round} {:<38} {:<14} {}", case.title(), tables::name(system), line(&outcome.figures));
                    versions.insert(system, outcome.version);
                    outcome.figures
                });
                rounds.entry(*case).or_default().entry(system).or_default().push(figures);
            }
        }
    }
    let versions: Vec<_> = versions.into_values().collect();
    println!("\n{}\n{}\n", about(args), versions.join(", "));
    println!("{}", tables::markdown(&rounds, &args.systems));
    if let Some(path) = &args.chart
        && let Err(error) = std::fs::write(path, chart::svg(&rounds, &args.systems))
    {
        failed = true;
        eprintln!("cannot write {}: {error}", path.display());
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Uses all memory that is free, once. The first touch of a page of a virtual machine waits for its host (0.25 GB/s were
/// written into such pages, 2.8 into others), and whoever writes first would pay for all.
fn touch_free_memory() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = meminfo.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let free_kib: Option<usize> = free.and_then(|free| free.trim().trim_end_matches(" kB").parse().ok());
    let Some(bytes) = free_kib.map(|kib| (kib << 10) / 10 * 9) else { return };
    println!("touching {} MiB of free memory", bytes >> 20);
    let mut memory = vec![0_u8; bytes];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

/// One case on one system; what is a result of a workload is added to the file.
async fn one(args: &RunArgs, case: Case, system: System) -> Result<Outcome, Box<dyn Error>> {
    let outcome = args.setup.run(case, system).await?;
    if let Some(result) = &outcome.result {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&args.json)?;
        writeln!(file, "{}", result.to_line())?;
    }
    Ok(outcome)
}

fn line(figures: &Figures) -> String {
    let texts: Vec<_> = figures.iter().map(|(figure, value)| format!("{}: {value:.3}", figure.name())).collect();
    texts.join("  ")
}

/// The machine, and how it was measured.
fn about(args: &RunArgs) -> String {
    let machine = Machine::this();
    format!(
        "{} cores, {}, {} GiB, {}; {} rounds, {}.",
        machine.cores,
        machine.processor,
        machine.memory_bytes >> 30,
        machine.kernel,
        args.rounds,
        args.setup.describe()
    )
}
