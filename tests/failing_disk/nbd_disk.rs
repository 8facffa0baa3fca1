//! A disk that fails or is slow on demand: `nbdkit` with a filter serves a file, `nbdfuse` makes a file of that, a loop
//! device a disk, and on it is ext4.

use crate::faults::disk::{Daemon, Kind, Mounted, run, try_run};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The disk, mounted.
#[derive(Debug)]
pub(crate) struct NbdDisk {
    // Dropped in this order: the file system goes before its disk.
    mounted: Option<Mounted>,
    _front: Daemon,
    _server: Daemon,
    directory: PathBuf,
}

impl NbdDisk {
    /// Every write fails with EIO while the disk is tripped.
    pub(crate) fn failing(directory: &Path) -> Self {
        let trip = format!("error-file={}", directory.join("trip").display());
        Self::start(directory, "error", &["error=EIO", "error-pwrite-rate=1", &trip])
    }

    /// Every write takes this much longer.
    pub(crate) fn slow(directory: &Path, delay: Duration) -> Self {
        Self::start(directory, "delay", &[&format!("delay-write={}ms", delay.as_millis())])
    }

    fn start(directory: &Path, filter: &str, settings: &[&str]) -> Self {
        let [medium, socket, front, server_ready, front_ready, mount] =
            ["medium", "socket", "front", "server-ready", "front-ready", "mnt"].map(|name| directory.join(name));
        let file = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path).expect("a new file");
        file(&medium).set_len(Kind::Ext4.disk_bytes()).expect("sparse files are allowed");
        Kind::Ext4.make(&medium);
        file(&front);
        std::fs::create_dir(&mount).expect("a new directory");

        let mut server = Command::new("nbdkit");
        server.args(["--foreground", "--unix"]).arg(&socket).arg("--pidfile").arg(&server_ready);
        server.arg(format!("--filter={filter}")).arg("file").arg(&medium).args(settings);
        let server = start_when_ready(&mut server, server_ready);
        let mut nbdfuse = Command::new("nbdfuse");
        nbdfuse.arg("--pidfile").arg(&front_ready).arg(&front).arg("--unix").arg(&socket);
        let nbdfuse = start_when_ready(&mut nbdfuse, front_ready);
        let mounted = Kind::Ext4.mount(&front, &mount).expect("a new file system can be mounted");
        Self { mounted: Some(mounted), _front: nbdfuse, _server: server, directory: directory.to_owned() }
    }

    /// Where a broker on it keeps its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.mounted.as_ref().expect("it is mounted").data_dir()
    }

    /// From now on writes fail.
    pub(crate) fn trip(&self) {
        let file = OpenOptions::new().write(true).create_new(true).open(self.directory.join("trip"));
        file.expect("it was not tripped");
    }

    /// Writes succeed again. The file system stays mounted, and with it what the kernel believes to be on the disk.
    #[expect(clippy::disallowed_methods, reason = "not a file of the log")]
    pub(crate) fn heal(&self) {
        std::fs::remove_file(self.directory.join("trip")).expect("it was tripped");
    }

    /// Whether the file system has given up: when the disk failed a write of its own, ext4 takes no more.
    pub(crate) fn has_given_up(&self) -> bool {
        let probe = self.data_dir().join("probe");
        let probed = try_run(Command::new("touch").arg(&probe));
        probed.and_then(|()| try_run(Command::new("rm").arg(&probe))).is_err()
    }

    /// Unmounts and mounts it, as an operator does when the file system has given up.
    pub(crate) fn remount(&mut self) {
        self.mounted = None;
        let [front, mount] = ["front", "mnt"].map(|name| self.directory.join(name));
        self.mounted = Some(Kind::Ext4.mount(&front, &mount).expect("it can be mounted again"));
    }

    /// What is on the disk itself now, whatever the kernel believes: a copy of it, mounted.
    pub(crate) fn medium(&self) -> Medium {
        let [medium, copy, mount] = ["medium", "medium-copy", "medium-mnt"].map(|name| self.directory.join(name));
        run(Command::new("cp").arg("--sparse=always").arg(&medium).arg(&copy));
        std::fs::create_dir_all(&mount).expect("the directory can be made");
        Medium { mounted: Kind::Ext4.mount(&copy, &mount).expect("its journal can be replayed") }
    }
}

/// A mounted copy of a disk.
#[derive(Debug)]
pub(crate) struct Medium {
    mounted: Mounted,
}

impl Medium {
    /// Where the broker had its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.mounted.data_dir()
    }
}

/// Starts a program that writes its process id to a file once it is ready; the file is made a pipe, to wait on.
fn start_when_ready(command: &mut Command, pid_file: PathBuf) -> Daemon {
    run(Command::new("mkfifo").arg(&pid_file));
    // They report every failure that they were told to inject.
    command.stderr(Stdio::null());
    Daemon::start(command, |_| OpenOptions::new().read(true).open(pid_file).expect("it was made"))
}
