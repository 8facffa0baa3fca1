//! The command line as a person uses it, on a broker that runs.

use crate::broker::Broker;
use std::process::{Command, Output, Stdio};

/// `millstream` with these arguments, about this broker; nobody types into it.
pub(crate) fn millstream(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).arg("--broker").arg(broker.address().to_string()).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(broker: &Broker, arguments: &[&str]) -> Output {
    millstream(broker, arguments).output().expect("the binary was built by cargo")
}

/// What it printed.
pub(crate) fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
