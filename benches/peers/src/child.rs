//! A server as a child process: started in a directory of its own, killed and deleted when it is dropped.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take until it listens, and how often that is looked at.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A port of loopback that nobody listens on.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub port: u16,
    directory: TempDir,
}

impl Server {
    /// Starts what `command` makes of a directory and a free port, and waits until it listens there.
    pub fn start(parent: &Path, command: impl Fn(&Path, u16) -> Command) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("peer-").tempdir_in(parent)?;
        let port = free_port()?;
        let mut command = command(directory.path(), port);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            std::io::Error::new(error.kind(), format!("{program}: {error}"))
        })?;
        let mut server = Self { child, port, directory };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                return Err(std::io::Error::other(format!("{command:?} does not listen")));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(server)
    }

    /// Starts a program that chooses its port and prints its address as the first line of its output.
    pub fn start_printing(parent: &Path, mut command: Command) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("peer-").tempdir_in(parent)?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("no output"))?;
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| std::io::Error::other(format!("{line:?} is no address")))?;
        Ok(Self { child, port, directory })
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
