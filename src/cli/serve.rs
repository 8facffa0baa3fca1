//! `millstream serve`: runs a broker. Not here yet; the command line already knows its name.

use clap::Args;
use std::process::ExitCode;

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {}

/// Runs a broker until it is told to stop.
pub fn run(_args: ServeArgs) -> ExitCode {
    eprintln!("millstream: this build has no broker in it");
    ExitCode::FAILURE
}
