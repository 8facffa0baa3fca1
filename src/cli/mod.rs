//! The command line: `millstream VERB`, and the same verbs under names of their own (`millstream-produce`).
//!
//! Data goes to standard output, everything else to standard error. Exit codes and messages are in `exit`; every
//! verb but `serve` and `log` is an ordinary client of a broker, and has a file or folder of its own:
//!
//! ```text
//! serve   topic   produce/   consume/   group   queue/   dlq/   schedule/   worker   request   reply
//! broker   log/   bench/   completion   version                             verbs
//! exit   interrupt   units   time   json   table   confirm   whole_input    what they share
//! ```

mod bench;
mod broker;
mod completion;
mod confirm;
mod consume;
mod dlq;
mod exit;
mod filter;
mod group;
mod interrupt;
mod json;
mod log;
mod produce;
mod queue;
mod reply;
mod request;
mod schedule;
pub mod serve;
mod table;
mod time;
mod topic;
mod version;
mod whole_input;
mod worker;

use crate::client::{Client, ClientError};
use crate::process_limits::use_small_pages;
use clap::{Args, Parser, Subcommand};
use exit::CliError;
use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  millstream serve                              run a broker
  millstream topic create orders --partitions 4
  echo 'two coffees' | millstream produce orders
  millstream consume orders -e                  print all there is

Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 timeout or no data, 5 done in part or problems found, 6 a
request failed, 130 interrupted.";

/// A persistent, log-structured message broker, and the tools to work with it.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a broker.
    Serve(serve::ServeArgs),
    /// Create, list, describe, alter, delete and truncate topics.
    Topic(topic::TopicArgs),
    /// Send records to a topic: arguments, lines of a file, or standard input.
    Produce(produce::ProduceArgs),
    /// Print the records of topics: a range, all there is, or as they come.
    Consume(consume::ConsumeArgs),
    /// List, describe, move and delete consumer groups.
    Group(group::GroupArgs),
    /// Create, describe, change, pause and delete queues; take and look at their messages.
    Queue(queue::QueueArgs),
    /// Dead letters of queues: list, look at, send back, give up, export.
    Dlq(dlq::DlqArgs),
    /// Have records delivered later: add, list, cancel, set another time.
    Schedule(schedule::ScheduleArgs),
    /// Run a command for each message of a queue.
    Worker(worker::WorkerArgs),
    /// Send a record and print the reply to it.
    Request(request::RequestArgs),
    /// Reply to a request.
    Reply(reply::ReplyArgs),
    /// Show how a broker stands, confirm its clock, have it look for damage.
    Broker(broker::BrokerVerbArgs),
    /// Look at the files of a data directory, without a broker: segments, frames, whether all is whole.
    Log(log::LogArgs),
    /// Measure a broker: throughput, latency, cost of a record; make a page of the results.
    Bench(bench::BenchArgs),
    /// Print a completion script for a shell.
    Completion(completion::CompletionArgs),
    /// Print the version.
    Version(version::VersionArgs),
}

/// Where the broker is.
#[derive(Debug, Clone, Args)]
struct BrokerArgs {
    /// Address of the broker, as HOST:PORT.
    #[arg(short, long, env = "MILLSTREAM_BROKER", default_value = "127.0.0.1:7171", value_name = "ADDR")]
    broker: String,
}

impl BrokerArgs {
    async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.broker).await
    }
}

/// The command line of the process. Called as `millstream-VERB`, it is that verb.
pub fn main() -> ExitCode {
    run(with_verb_of_name(std::env::args_os().collect()))
}

/// The command line of a binary that is one verb: `produce` or `consume`.
pub fn main_as(verb: &str) -> ExitCode {
    run(with_verb(std::env::args_os().collect(), verb))
}

fn run(arguments: Vec<OsString>) -> ExitCode {
    use_small_pages();
    match Cli::parse_from(arguments).verb {
        Verb::Serve(args) => serve::run(args),
        Verb::Topic(args) => exit::report(block_on(topic::run(args))),
        Verb::Produce(args) => exit::report(block_on(produce::run(args))),
        Verb::Consume(args) => exit::report(block_on(consume::run(args))),
        Verb::Group(args) => exit::report(block_on(group::run(args))),
        Verb::Queue(args) => exit::report(block_on(queue::run(args))),
        Verb::Dlq(args) => exit::report(block_on(dlq::run(args))),
        Verb::Schedule(args) => exit::report(block_on(schedule::run(args))),
        Verb::Worker(args) => exit::report(block_on(worker::run(args))),
        Verb::Request(args) => exit::report(block_on(request::run(args))),
        Verb::Reply(args) => exit::report(block_on(reply::run(args))),
        Verb::Broker(args) => exit::report(block_on(broker::run(args))),
        Verb::Log(args) => exit::report(log::run(args)),
        Verb::Bench(args) => exit::report(bench::run(args)),
        Verb::Completion(args) => exit::report(completion::run(&args)),
        Verb::Version(args) => exit::report(block_on(version::run(args))),
    }
}

/// Runs a client verb. The transport has a thread of its own beside the one that encodes or prints; more would only
/// pass work around.
fn block_on(verb: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| CliError::Io { what: "cannot start".to_owned(), source })?;
    let result = runtime.block_on(verb);
    // A read of standard input may never return; the process does not wait for it.
    runtime.shutdown_background();
    result
}

/// `millstream-produce ...` means `millstream produce ...`, whatever link or copy it is called by.
fn with_verb_of_name(arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|path| Path::new(path).file_stem()?.to_str());
    match name.and_then(|name| name.strip_prefix("millstream-")) {
        Some(verb @ ("produce" | "consume")) => {
            let verb = verb.to_owned();
            with_verb(arguments, &verb)
        }
        _ => arguments,
    }
}

fn with_verb(mut arguments: Vec<OsString>, verb: &str) -> Vec<OsString> {
    if arguments.is_empty() {
        arguments.push("millstream".into());
    }
    arguments.insert(1, verb.into());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_link_named_like_a_verb_is_that_verb() {
        let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(
            with_verb_of_name(arguments(&["/usr/bin/millstream-produce", "orders"])),
            arguments(&["/usr/bin/millstream-produce", "produce", "orders"])
        );
        let plain = arguments(&["millstream", "topic", "list"]);
        assert_eq!(with_verb_of_name(plain.clone()), plain);
        assert_eq!(with_verb_of_name(Vec::new()), Vec::<OsString>::new());
    }

    /// Every verb shows how it is used; a help without an example is a reference, not a help.
    #[test]
    fn every_help_has_an_example() {
        fn check(command: &clap::Command) {
            let is_leaf = command.get_subcommands().next().is_none();
            let skip = ["help", "serve"].contains(&command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!is_leaf || skip || help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
