//! A broker of our own: the same program, as a child process, so that its processor time can be told from ours.
//!
//! It listens on ports that the system chooses and tells them on standard error. It has a process group of its own: Ctrl-C
//! at the terminal is for the benchmark, which reads the last figures and then stops the broker. However the benchmark
//! ends by itself, the broker ends with it, and so does a directory that was made for it.

use super::error::OwnBrokerError;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tempfile::TempDir;

/// It starts within this time, and stops within this time, or something is wrong.
const PATIENCE: Duration = Duration::from_mins(1);

/// Most of what it says that is kept, for the error message if it does not start.
const SAID_BYTES_MAX: usize = 4_096;

/// A broker that serves. Dropped, it is stopped.
#[derive(Debug)]
pub struct OwnBroker {
    child: Child,
    address: String,
    /// Ends when the broker's standard error does.
    ended: Receiver<String>,
    _directory: Option<TempDir>,
}

impl OwnBroker {
    /// Starts `program serve` with its data in `data_dir`, or in a directory that is deleted at the end, below `parent`.
    pub fn start(program: &Path, data_dir: Option<&Path>, parent: &Path) -> Result<Self, OwnBrokerError> {
        let made = match data_dir {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("millstream-bench-")
                    .tempdir_in(parent)
                    .map_err(|source| OwnBrokerError::Directory { parent: parent.to_owned(), source })?,
            ),
        };
        let directory = data_dir.or(made.as_ref().map(TempDir::path)).unwrap_or(parent);
        let mut command = Command::new(program);
        // It runs with its defaults, whatever is set for the broker of whoever runs this.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("MILLSTREAM_")) {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn"]);
        command.arg("--data-dir").arg(directory).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(OwnBrokerError::Start)?;
        let (ready, ended) = listen(child.stderr.take());
        let mut broker = Self { child, address: String::new(), ended, _directory: made };
        if let Ok(address) = ready.recv_timeout(PATIENCE) {
            broker.address = address;
            return Ok(broker);
        }
        let said = broker.ended.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let error = said.lines().find_map(|line| line.strip_prefix("millstream: "));
        Err(OwnBrokerError::Refused(error.unwrap_or("it said nothing").to_owned()))
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // Until it is waited for, the process id stays its own.
        let told = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if told.is_err() || self.ended.recv_timeout(PATIENCE).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Reads what the broker says: its address when it is ready, the beginning of all the rest when it has ended.
fn listen(stderr: Option<ChildStderr>) -> (Receiver<String>, Receiver<String>) {
    let (ready, is_ready) = sync_channel(1);
    let (ended, has_ended) = sync_channel(1);
    std::thread::spawn(move || {
        let mut said = String::new();
        let lines = stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok));
        for line in lines {
            if let Some(address) = line.strip_prefix("  gRPC        ") {
                // It says so once; whoever started it may have gone.
                let _ = ready.try_send(address.to_owned());
            }
            if said.len() + line.len() < SAID_BYTES_MAX {
                said += &(line + "\n");
            }
        }
        drop(ready);
        let _ = ended.send(said);
    });
    (is_ready, has_ended)
}
