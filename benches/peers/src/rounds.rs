//! Runs: each round goes through the cases, each case through the systems in turn, each with a fresh server.
//!
//! Machines drift, by a factor of two within minutes; so ratios are taken within a round, and only then is the median
//! taken over rounds. The order of systems turns with each round.

use super::cases::Case;
use super::systems::{Setup, System};
use clap::{Args, ValueEnum};
use millstream::bench::result::{Part, RunResult};
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
    #[command(flatten)]
    setup: Setup,
}

/// Results of a case, by system, round by round.
type Rounds = BTreeMap<Case, BTreeMap<System, Vec<Option<RunResult>>>>;

pub async fn run(args: &RunArgs) -> ExitCode {
    let missing: Vec<_> = args.systems.iter().filter_map(|system| args.setup.check(*system).err()).collect();
    if !missing.is_empty() {
        missing.iter().for_each(|missing| eprintln!("{missing}"));
        return ExitCode::FAILURE;
    }
    let cases = if args.cases.is_empty() { Case::value_variants() } else { &args.cases };
    let (mut rounds, mut failed) = (Rounds::new(), false);
    for round in 0..args.rounds {
        for case in cases {
            for turn in 0..args.systems.len() {
                let system = args.systems[(turn + round) % args.systems.len()];
                if !case.is_for(system) {
                    continue;
                }
                let result = one(args, *case, system).await.inspect_err(|error| {
                    failed = true;
                    eprintln!("{system:?} {case:?}: {error}");
                });
                let result = result.ok();
                if let Some(result) = &result {
                    println!("{}", line(round, *case, result));
                }
                rounds.entry(*case).or_default().entry(system).or_default().push(result);
            }
        }
    }
    print_ratios(&rounds, args.systems[0]);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One case on one system, added to the file of results.
async fn one(args: &RunArgs, case: Case, system: System) -> Result<RunResult, Box<dyn Error>> {
    let result = args.setup.run(case, system).await?;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&args.json)?;
    writeln!(file, "{}", result.to_line())?;
    Ok(result)
}

fn last(result: &RunResult) -> &Part {
    result.measured.parts.last().expect("every workload has a part")
}

fn line(round: usize, case: Case, result: &RunResult) -> String {
    let part = last(result);
    let (p50, p99) = part.latency.as_ref().map_or((f64::NAN, f64::NAN), |all| (all.p50_us, all.p99_us));
    let broker = result.measured.broker_us_per_record().unwrap_or(f64::NAN);
    let client = result.measured.client_us_per_record().unwrap_or(f64::NAN);
    format!(
        "{round} {:<16} {:<10} {:>11.0} records/s  p50 {p50:>9.1} us  p99 {p99:>9.1} us  broker {broker:>8.3} us  client {client:>8.3} us",
        format!("{case:?}"),
        result.system,
        part.records_per_s
    )
}

/// Of each figure, that of the first system divided by that of each other, of the same round.
fn print_ratios(rounds: &Rounds, first: System) {
    type Figure = fn(&RunResult) -> Option<f64>;
    let figures: [(&str, Figure); 4] = [
        ("records/s", |result| Some(last(result).records_per_s)),
        ("p50", |result| Some(last(result).latency.as_ref()?.p50_us)),
        ("p99", |result| Some(last(result).latency.as_ref()?.p99_us)),
        ("broker CPU", |result| result.measured.broker_us_per_record()),
    ];
    println!("\n{first:?} divided by each other system: median (least..most) of rounds");
    for (case, systems) in rounds {
        let Some(ours) = systems.get(&first) else { continue };
        for (system, theirs) in systems.iter().filter(|(system, _)| **system != first) {
            let mut text = format!("{:<16} {:<8}", format!("{case:?}"), format!("{system:?}"));
            for (name, figure) in figures {
                let pairs = ours.iter().zip(theirs).filter_map(|(ours, theirs)| {
                    let (ours, theirs) = (figure(ours.as_ref()?)?, figure(theirs.as_ref()?)?);
                    (theirs > 0.0).then_some(ours / theirs)
                });
                let mut ratios: Vec<_> = pairs.collect();
                ratios.sort_by(f64::total_cmp);
                if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
                    let median = ratios[(ratios.len() - 1) / 2];
                    text += &format!("  {name} {median:.2} ({least:.2}..{most:.2})");
                }
            }
            println!("{text}");
        }
    }
}
