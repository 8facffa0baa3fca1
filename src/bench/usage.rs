//! What a process has used, from /proc: processor time and memory.
//!
//! Processor time comes in ticks of the kernel, a hundredth of a second for the most part: a measured time of a second is
//! precise to a percent or two. Memory counts what the process has mapped and touched, log files too, so the anonymous
//! part stands apart.

use serde::{Deserialize, Serialize};
use std::io;

/// One reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    cpu_seconds: f64,
    memory: Memory,
}

/// Memory of a process, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What is in memory now, with mapped files.
    pub resident_bytes: u64,
    /// Of that, what is no file.
    pub anonymous_bytes: u64,
    /// The most that was resident at any time.
    pub peak_bytes: u64,
}

/// What a process used between two readings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, in seconds, of all its threads.
    pub cpu_seconds: f64,
    /// Memory at the end.
    pub memory: Memory,
}

impl Reading {
    /// Reads what process `process_id` has used so far.
    pub(super) fn of(process_id: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat"))?;
        let status = std::fs::read_to_string(format!("/proc/{process_id}/status"))?;
        let ticks = cpu_ticks(&stat).ok_or_else(|| io::Error::other("/proc/PID/stat is not as it should be"))?;
        #[expect(clippy::cast_precision_loss, reason = "ticks of a process are far below 2^52")]
        let cpu_seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(Self { cpu_seconds, memory: memory(&status) })
    }

    /// What was used since `before`.
    pub(super) fn since(&self, before: &Self) -> Usage {
        Usage { cpu_seconds: (self.cpu_seconds - before.cpu_seconds).max(0.0), memory: self.memory }
    }
}

/// User and system time. The name of the program stands in parentheses before them and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// What a kernel does not say is 0.
fn memory(status: &str) -> Memory {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    };
    Memory { resident_bytes: bytes("VmRSS"), anonymous_bytes: bytes("RssAnon"), peak_bytes: bytes("VmHWM") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 5 0 100 1000 10 18446744073709551615 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a"), None);
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\n";
        let expected = Memory { resident_bytes: 1 << 20, anonymous_bytes: 512 << 10, peak_bytes: 2 << 20 };
        assert_eq!(memory(status), expected);
        assert_eq!(memory(""), Memory::default());
    }

    #[test]
    fn this_process_uses_memory_and_a_process_that_is_gone_is_an_error() {
        let reading = Reading::of(std::process::id()).expect("this process is there");
        assert!(reading.memory.resident_bytes > 1 << 20);
        assert!(Reading::of(u32::MAX).is_err());
    }
}
