//! The broker that is measured: one of our own, or one that runs.

use crate::bench::OwnBroker;
use crate::cli::exit::CliError;
use clap::Args;
use std::path::{Path, PathBuf};

/// What `statfs` calls a file system that is in memory.
const TMPFS_MAGIC: i64 = 0x0102_1994;

#[derive(Debug, Args)]
pub(super) struct SystemArgs {
    /// Measure the broker at this address, HOST:PORT; without it, one is started for the run.
    #[arg(long, value_name = "ADDR")]
    server: Option<String>,
    /// The process of that broker, if it runs on this machine: its processor time and memory are measured too.
    #[arg(long, value_name = "PID", requires = "server")]
    broker_pid: Option<u32>,
    /// Where the broker that is started keeps its data; without it, in a temporary directory that is deleted.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "server")]
    data_dir: Option<PathBuf>,
}

/// The broker of a run. Dropped, it is stopped, if it is ours.
#[derive(Debug)]
pub(super) enum System {
    Own(OwnBroker),
    Running { address: String, process_id: Option<u32> },
}

impl SystemArgs {
    /// Starts a broker, if none was named.
    pub(super) fn start(&self) -> Result<System, CliError> {
        if let Some(address) = &self.server {
            if let Some(process_id) = self.broker_pid.filter(|id| !Path::new(&format!("/proc/{id}/stat")).exists()) {
                let what = format!("--broker-pid {process_id}: there is no such process on this machine; leave it out");
                return Err(CliError::Usage(what));
            }
            return Ok(System::Running { address: address.clone(), process_id: self.broker_pid });
        }
        let program = std::env::current_exe()
            .map_err(|source| CliError::Io { what: "cannot find this program".to_owned(), source })?;
        let parent = std::env::temp_dir();
        if is_in_memory(self.data_dir.as_deref().unwrap_or(&parent)) {
            eprintln!(
                "the data of the broker is in memory (tmpfs), where a sync costs nothing; name a disk with --data-dir"
            );
        }
        let broker = OwnBroker::start(&program, self.data_dir.as_deref(), &parent);
        Ok(System::Own(broker.map_err(|error| CliError::Bench(error.to_string()))?))
    }
}

impl System {
    pub(super) fn address(&self) -> &str {
        match self {
            Self::Own(broker) => broker.address(),
            Self::Running { address, .. } => address,
        }
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        match self {
            Self::Own(broker) => Some(broker.process_id()),
            Self::Running { process_id, .. } => *process_id,
        }
    }
}

fn is_in_memory(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
}
