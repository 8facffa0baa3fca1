//! `millstream bench report`: reads results, writes the page.

use super::cannot_write;
use crate::bench::report::page;
use crate::bench::result::RunResult;
use crate::cli::exit::CliError;
use clap::Args;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Files with results, as --json writes them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write the page; - is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "bench.html")]
    output: PathBuf,
}

pub(super) fn run(args: &ReportArgs) -> Result<(), CliError> {
    let mut results = Vec::new();
    for file in &args.files {
        let text = std::fs::read_to_string(file)
            .map_err(|source| CliError::Io { what: format!("cannot read {}", file.display()), source })?;
        let read = RunResult::parse_lines(&text).map_err(|(line, what)| {
            CliError::Bench(format!("{} line {line} is not a result of millstream bench: {what}", file.display()))
        })?;
        results.extend(read);
    }
    if results.is_empty() {
        return Err(CliError::NoData("there is no result in these files; make some with --json".to_owned()));
    }
    let page = page(&results);
    if args.output == Path::new("-") {
        return std::io::stdout().write_all(page.as_bytes()).map_err(CliError::output);
    }
    #[expect(clippy::disallowed_methods, reason = "the user's own file, not one of the log's")]
    std::fs::write(&args.output, page).map_err(|source| cannot_write(&args.output, source))?;
    eprintln!("{} runs in {}", results.len(), args.output.display());
    Ok(())
}
