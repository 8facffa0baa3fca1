//! File systems in files, mounted; and the programs that stand between a file system and its disk.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// A program that is not ready after this long hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) {
    if let Err(why) = try_run(command) {
        panic!("{why}");
    }
}

/// Runs a command; what it was and said if it did not succeed.
pub(crate) fn try_run(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        })
    }
}

impl Kind {
    /// As small as it may be: an image is copied for each cut. XFS is not made smaller than 300 MB.
    pub(crate) fn disk_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 128 << 20,
            Self::Xfs => 304 << 20,
        }
    }

    /// Makes it in a file, or on what looks like one; nothing of it is left for the kernel to initialise later.
    pub(crate) fn make(self, image: &Path) {
        let mut command = match self {
            Self::Ext4 => Command::new("mkfs.ext4"),
            Self::Xfs => Command::new("mkfs.xfs"),
        };
        match self {
            Self::Ext4 => command.args(["-q", "-F", "-b", "4096", "-N", "2048", "-J", "size=4"]),
            Self::Xfs => command.args(["-q", "-f", "-K"]),
        };
        if self == Self::Ext4 {
            command.args(["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]);
        }
        run(command.arg(image));
    }

    /// Mounts an image of it.
    pub(crate) fn mount(self, image: &Path, at: &Path) -> Result<Mounted, String> {
        // The images of cuts have the identity of the disk they were taken from.
        let options = match self {
            Self::Ext4 => "loop,noatime",
            Self::Xfs => "loop,noatime,nouuid",
        };
        let kind = self.to_string();
        try_run(Command::new("mount").args(["-t", &kind, "-o", options]).arg(image).arg(at))?;
        Ok(Mounted { at: at.to_owned() })
    }

    /// Mounts an image after a power cut, as a machine that starts does: ext4 is checked if it cannot be mounted as it is.
    /// Its superblock is two sectors with one checksum, so a cut that tears it leaves nothing to mount.
    pub(crate) fn mount_after_cut(self, image: &Path, at: &Path) -> Result<Mounted, String> {
        let mounted = self.mount(image, at);
        if self == Self::Xfs || mounted.is_ok() {
            return mounted;
        }
        // Whatever it says: the mount tells whether it helped.
        let _ = try_run(Command::new("e2fsck").arg("-fy").arg(image));
        self.mount(image, at)
    }
}

/// A mounted file system; unmounted when it goes, which also lets go of the loop device.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Where a broker on it keeps its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.at.join("data")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(why) = try_run(Command::new("umount").arg(&self.at)) {
            eprintln!("{why}");
            let _ = try_run(Command::new("umount").arg("--lazy").arg(&self.at));
        }
    }
}

/// A program that runs beside the test until it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it and waits until it says something in the pipe that `listen` opens, which it does once it can be used.
    #[track_caller]
    pub(crate) fn start<P: Read>(
        command: &mut Command,
        listen: impl FnOnce(ChildStdout) -> P + Send + 'static,
    ) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut daemon = Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let stdout = daemon.0.stdout.take().expect("it is piped");
        let (says, hears) = sync_channel(1);
        std::thread::spawn(move || {
            let mut pipe = listen(stdout);
            if pipe.read_exact(&mut [0]).is_ok() {
                let _ = says.send(());
            }
            // Whatever else it has to say is not for us, but must not stop it.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        });
        hears.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{command:?} does not get ready"));
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
