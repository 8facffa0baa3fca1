//! A broker as a child process: started on a free port, listened to on standard error, signalled, waited for.
//!
//! Nothing here sleeps: a broker has started when it prints its address, and has ended when its standard error does.
//! Whatever way a test ends, its broker ends with it.

use millstream::client::{Client, ClientError};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A broker that has not started, or ended, after this long hangs. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// Names the bug on purpose that is active, in a build that has them (`src/planted.rs`).
const PLANTED_BUG: &str = "MILLSTREAM_PLANTED_BUG";

/// How to start the binary.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    directory: PathBuf,
}

impl Launch {
    /// `millstream serve` with its data in `data_dir` and both doors on free ports.
    pub(crate) fn new(data_dir: &Path) -> Self {
        let data_dir = data_dir.to_str().expect("temporary paths are text");
        Self::bare().argument("--data-dir").argument(data_dir).listen("127.0.0.1:0").admin("127.0.0.1:0")
    }

    /// `millstream serve` alone.
    pub(crate) fn bare() -> Self {
        Self::of(Path::new(env!("CARGO_BIN_EXE_millstream")))
    }

    /// The same of another build of the binary.
    pub(crate) fn of(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: vec!["serve".to_owned()],
            variables: Vec::new(),
            directory: std::env::temp_dir(),
        }
    }

    /// With one more argument.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// With the gRPC door there.
    pub(crate) fn listen(self, address: &(impl ToString + ?Sized)) -> Self {
        self.flag("--listen", &address.to_string())
    }

    /// With the admin door there.
    pub(crate) fn admin(self, address: &(impl ToString + ?Sized)) -> Self {
        self.flag("--admin", &address.to_string())
    }

    /// With an environment variable.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Started in this directory.
    pub(crate) fn in_directory(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// A flag that may be given only once: the last value counts.
    fn flag(mut self, name: &str, value: &str) -> Self {
        if let Some(at) = self.arguments.iter().position(|argument| argument == name) {
            self.arguments.drain(at..at + 2);
        }
        self.argument(name).argument(value)
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // Settings of whoever runs the tests are not ours, except the bug that is to be caught.
        let is_setting = |name: &str| name.starts_with("MILLSTREAM_") && name != PLANTED_BUG;
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.args(&self.arguments).envs(self.variables.iter().cloned()).current_dir(&self.directory);
        command
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn spawn(&self) -> Starting {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built by cargo");
        let (log, hears) = listen(child.stderr.take().expect("it is piped"));
        Starting { process: Process { child, log }, hears }
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub(crate) fn start(&self) -> Broker {
        self.try_start().unwrap_or_else(|ended| panic!("the broker ended instead of serving: {}", ended.stderr))
    }

    /// Starts it and waits until it serves, or has refused to.
    #[track_caller]
    pub(crate) fn try_start(&self) -> Result<Broker, Ended> {
        let Starting { mut process, hears } = self.spawn();
        match hears.recv_timeout(PATIENCE) {
            Ok(Said::Ready(address)) => Ok(Broker { process, hears, address }),
            Ok(Said::Ended) => Err(process.ended()),
            Err(waited) => panic!("the broker neither serves nor ends: {waited}: {}", process.log()),
        }
    }

    /// Runs a command that ends by itself: a refused start, a check.
    #[track_caller]
    pub(crate) fn run(&self) -> Ended {
        let Starting { mut process, hears } = self.spawn();
        match hears.recv_timeout(PATIENCE) {
            Ok(Said::Ended) => process.ended(),
            said => panic!("it was expected to end by itself, not {said:?}: {}", process.log()),
        }
    }
}

/// What a broker lets know on standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    Ready(SocketAddr),
    Ended,
}

/// Listens to the standard error of a broker: all of it as text, and what it lets know.
pub(crate) fn listen(stderr: ChildStderr) -> (Arc<Mutex<String>>, Receiver<Said>) {
    let log = Arc::new(Mutex::new(String::new()));
    let (said, hears) = sync_channel(2);
    let copy = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let address = line.strip_prefix("  gRPC        ").map(|address| address.parse().expect("an address"));
            *copy.lock().unwrap_or_else(PoisonError::into_inner) += &(line + "\n");
            if let Some(address) = address {
                let _ = said.send(Said::Ready(address));
            }
        }
        let _ = said.send(Said::Ended);
    });
    (log, hears)
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Checks that it was refused with `code`, in one line of error that says all of `facts`.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, facts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let lines: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("millstream: ")).collect();
        let [line] = lines[..] else { panic!("one line of error was expected: {}", self.stderr) };
        for fact in facts {
            assert!(line.contains(fact), "{fact:?} is not said: {line}");
        }
    }
}

/// The child, however far it is.
#[derive(Debug)]
struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    fn signal(&self, signal: Signal) {
        // Until it is waited for, the process id stays its own.
        kill_process(Pid::from_child(&self.child), signal).expect("a child may be signalled");
    }

    fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&mut self) -> Ended {
        let status = self.child.wait().expect("a child can be waited for");
        let mut stdout = String::new();
        let read = self.child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut stdout));
        read.expect("it is piped").expect("it is text");
        Ended { code: status.code(), stdout, stderr: self.log() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker on its way up. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Starting {
    process: Process,
    hears: Receiver<Said>,
}

#[allow(dead_code, reason = "test binaries share this file, and not each of them kills a broker that starts")]
impl Starting {
    /// Waits until it serves; gives it back if that takes longer than `patience`.
    pub(crate) fn wait(self, patience: Duration) -> Result<Broker, Self> {
        let Self { process, hears } = self;
        match hears.recv_timeout(patience) {
            Ok(Said::Ready(address)) => Ok(Broker { process, hears, address }),
            Err(RecvTimeoutError::Timeout) => Err(Self { process, hears }),
            _ => panic!("the broker ended instead of serving: {}", process.log()),
        }
    }
}

/// A broker that serves.
#[derive(Debug)]
pub(crate) struct Broker {
    process: Process,
    hears: Receiver<Said>,
    address: SocketAddr,
}

impl Broker {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log says this: what it writes comes through a pipe.
    pub(crate) async fn has_logged(&self, what: &str) {
        let looking = async {
            let mut looks = tokio::time::interval(Duration::from_millis(5));
            while !self.log().contains(what) {
                looks.tick().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        assert!(found.is_ok(), "{what:?} is not in\n{}", self.log());
    }

    /// A client of it.
    pub(crate) async fn client(&self) -> Client {
        connect(self.address).await
    }

    /// Asks it to stop; does not wait.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let begun = Instant::now();
        match self.hears.recv_timeout(PATIENCE) {
            Ok(Said::Ended) => self.process.ended(),
            said => panic!("{said:?} after {:?}, not an end: {}", begun.elapsed(), self.log()),
        }
    }

    /// SIGTERM, and a clean end.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        self.terminate();
        let ended = self.wait();
        assert_eq!(ended.code, Some(0), "not a clean stop: {}", ended.stderr);
        ended
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Ended {
        self.process.signal(Signal::KILL);
        self.process.ended()
    }
}

/// A client of the broker at `address`.
pub(crate) async fn connect(address: SocketAddr) -> Client {
    Client::connect(&address.to_string()).await.expect("the broker has said that it is ready")
}

/// The refusal in an error that must be one.
#[track_caller]
pub(crate) fn reason_of(error: &ClientError) -> &str {
    &error.refusal().unwrap_or_else(|| panic!("not refused by the broker: {error}")).reason
}
