//! A world of its own for a test that mounts things: a mount and a process namespace, entered by running this binary
//! again. When the test ends, whatever way, the kernel ends every process in it, unmounts everything and lets go of the
//! loop devices: nothing is left to clean up, even after `kill -9`. All its files are in memory.

use std::path::PathBuf;
use std::process::Command;

/// Names the directory of the world to the process inside it.
const INSIDE: &str = "MILLSTREAM_FAULT_WORLD";

/// Says that this machine cannot mount.
const NO_MOUNT: &str = "MILLSTREAM_NO_MOUNT";

/// Most memory that the files of one world take.
const SIZE: &str = "size=6g,mode=0700";

/// The world, seen from inside.
#[derive(Debug)]
pub(crate) struct World {
    path: PathBuf,
}

impl World {
    /// Inside, the world. Outside, runs the test of this name inside and gives `None` when it has passed.
    #[track_caller]
    pub(crate) fn enter(test: &str) -> Option<Self> {
        if let Some(path) = std::env::var_os(INSIDE) {
            let path = PathBuf::from(path);
            super::disk::run(Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "millstream-test"]).arg(&path));
            return Some(Self { path });
        }
        if std::env::var_os(NO_MOUNT).is_some() {
            println!("\n!!! {test}: NOTHING IS TESTED, because {NO_MOUNT} is set !!!\n");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = as_root();
        // Should this process be killed, the one below dies with it, and its world with that.
        command.args(["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
        command.arg("--mount-proc").arg("env").arg(format!("{INSIDE}={}", directory.path().display()));
        let ours = |(name, value): (String, String)| name.starts_with("MILLSTREAM_").then(|| format!("{name}={value}"));
        command.args(std::env::vars().filter_map(ours));
        command.arg(std::env::current_exe().expect("this binary has a path"));
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        let status = command.status().expect("the test can be started again");
        assert!(
            status.success(),
            "{test} failed inside its world ({status}); what it printed says why. It takes root, or sudo without a \
             password; {NO_MOUNT}=1 does without this test"
        );
        None
    }

    /// A new directory in it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).expect("the world can be written to");
        path
    }
}

/// The beginning of a command that runs as root.
fn as_root() -> Command {
    if rustix::process::geteuid().is_root() {
        Command::new("env")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "env"]);
        command
    }
}
