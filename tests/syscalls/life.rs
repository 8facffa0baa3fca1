//! One traced life of a broker.

use crate::broker::{Launch, Said, listen};
use crate::tracer::{Strike, Traced, held, trace};
use nix::unistd::Pid;
use rustix::process::{Pid as ProcessId, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A broker that has not started, or ended, after this long hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A broker under the eyes of a tracer, which is a thread of its own.
pub(crate) struct Life {
    tracer: JoinHandle<Traced>,
    /// Names the process and no later one with its number.
    process: OwnedFd,
    log: Arc<Mutex<String>>,
    hears: Receiver<Said>,
    /// Where it listens; `None` if it ended before it did.
    pub(crate) address: Option<SocketAddr>,
}

impl Life {
    /// Starts a broker and waits until it serves or has ended.
    pub(crate) fn begin(launch: &Launch, directory: &Path, strike: Strike) -> Self {
        let (launch, directory) = (launch.clone(), directory.to_owned());
        let (started, starts) = sync_channel(1);
        // The thread that starts the process is the one that may wait for it.
        let tracer = std::thread::spawn(move || {
            let (id, process, stderr) = start(&launch);
            started.send((process, stderr)).expect("somebody waits for it");
            trace(Pid::from_raw(id.as_raw_nonzero().get()), &directory, strike)
        });
        let (process, stderr) = starts.recv().expect("it is started");
        let (log, hears) = listen(stderr);
        let address = match hears.recv_timeout(PATIENCE) {
            Ok(Said::Ready(address)) => Some(address),
            Ok(Said::Ended) => None,
            Err(error) => panic!("the broker neither serves nor ends: {error}"),
        };
        Self { tracer, process, log, hears, address }
    }

    /// Sends a signal, if it is still there, and waits for its end.
    pub(crate) fn end(self, signal: Signal) -> (Traced, String) {
        let _ = pidfd_send_signal(&self.process, signal);
        if self.address.is_some() {
            let said = self.hears.recv_timeout(PATIENCE);
            assert!(matches!(said, Ok(Said::Ended)), "it does not end: {said:?}");
        }
        let traced = self.tracer.join().expect("the tracer says why it fails");
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (traced, log)
    }
}

#[expect(clippy::zombie_processes, reason = "the tracer waits for it, by its number")]
fn start(launch: &Launch) -> (ProcessId, OwnedFd, ChildStderr) {
    let mut command = held(&launch.command());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("there is a shell");
    let id = ProcessId::from_child(&child);
    let process = pidfd_open(id, PidfdFlags::empty()).expect("it was not waited for");
    (id, process, child.stderr.take().expect("it is piped"))
}
