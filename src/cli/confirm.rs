//! Asking before something is gone for good.
//!
//! On a terminal a person is asked; a script has to say `--yes`, so that none deletes by a slip.

use super::exit::CliError;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Asks whether to do `what`, unless `yes` says so already.
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!("this would {what}; say --yes to do it without being asked")));
    }
    eprint!("This will {what}. Type yes to go on: ");
    std::io::stderr().flush().map_err(CliError::output)?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|source| CliError::Io { what: "cannot read the answer".to_owned(), source })?;
    if answer.trim() == "yes" { Ok(()) } else { Err(CliError::Usage("nothing was done".to_owned())) }
}
