//! What fault injection needs of a machine. Everything is tried at the start and printed; what is missing fails the
//! test by name, with the package that brings it: a test that skips itself is green for nothing.

use std::process::Command;

/// Name, a command that succeeds where it is there, the Debian package that brings it.
const MEANS: &[(&str, &[&str], &str)] = &[
    ("root", &["test", "-w", "/proc/sys/kernel/hostname"], "(run as root, or with sudo without a password)"),
    ("loop", &["losetup", "--find"], "mount"),
    ("fuse", &["test", "-c", "/dev/fuse"], "fuse3"),
    ("ext4", &["mkfs.ext4", "-V"], "e2fsprogs"),
    ("xfs", &["mkfs.xfs", "-V"], "xfsprogs"),
    ("qemu-storage-daemon", &["qemu-storage-daemon", "--version"], "qemu-utils"),
    ("nbdkit", &["nbdkit", "--version"], "nbdkit"),
    ("nbdkit error filter", &["nbdkit", "--filter=error", "memory", "--dump-plugin"], "nbdkit"),
    ("nbdkit delay filter", &["nbdkit", "--filter=delay", "memory", "--dump-plugin"], "nbdkit"),
    ("nbdfuse", &["nbdfuse", "--version"], "libnbd-bin"),
];

/// Tries the means of these names, prints what was found, and fails if one is missing.
#[track_caller]
pub(crate) fn require(names: &[&str]) {
    let mut missing = Vec::new();
    for (name, command, package) in names.iter().map(|name| found(name)) {
        match Command::new(command[0]).args(&command[1..]).output() {
            Ok(output) if output.status.success() => {
                let text =
                    String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
                println!("means: {name}: yes, {}", text.lines().next().unwrap_or_default());
            }
            tried => {
                let why = tried.map_or_else(|error| error.to_string(), |output| format!("{command:?}: {output:?}"));
                println!("means: {name}: NO, {why}; it comes with {package}");
                missing.push(format!("{name} ({package})"));
            }
        }
    }
    assert!(missing.is_empty(), "this machine lacks what the test needs: {}", missing.join(", "));
}

fn found(name: &str) -> (&'static str, &'static [&'static str], &'static str) {
    *MEANS.iter().find(|(known, ..)| *known == name).unwrap_or_else(|| panic!("{name} is not in the table of means"))
}
