//! `millstream completion`: completion scripts, made from the command tree itself.

use super::Cli;
use super::exit::CliError;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::io::Write as _;

const EXAMPLES: &str = "\
Examples:
  millstream completion bash > /etc/bash_completion.d/millstream
  millstream completion zsh > \"${fpath[1]}/_millstream\"
  millstream completion fish > ~/.config/fish/completions/millstream.fish";

/// Options of `completion`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionArgs {
    /// For which shell.
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &CompletionArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "millstream", &mut script);
    std::io::stdout().write_all(&script).map_err(CliError::output)
}
