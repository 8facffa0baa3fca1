//! What the operating system lets this process have: open files and memory maps, and how the broker shares them out; and
//! memory, in small pages.
//!
//! Segment files take at most half of each; the other half of the descriptors is for connections and small files, the
//! other half of the maps for bytes that are on their way to readers after their file was closed.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for everything besides segments and connections: the runtime, the lock, small files that
/// are written by storage threads, files that are opened for a moment.
const FILES_RESERVED: u64 = 64;

/// The default of Linux, where it cannot be read.
const MAPS_DEFAULT: u64 = 65_530;

/// What this process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Open files.
    pub files: u64,
    /// Memory maps.
    pub maps: u64,
}

impl ProcessLimits {
    /// The limits of this process, after its own limit of open files was raised as far as it may go: the low one is
    /// there for programs of old that cannot count beyond 1,024.
    pub fn raise() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // Without a limit there is none to raise.
        let highest = maximum.or(current);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: highest, maximum });
        let files = if raised.is_ok() { highest } else { current };
        let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse().ok());
        Self { files: files.unwrap_or(u64::MAX), maps: maps.unwrap_or(MAPS_DEFAULT) }
    }

    /// How many segment files may be open; `chosen` is what the operator says, 0 = nothing.
    pub fn open_files_max(&self, chosen: u32) -> usize {
        let derived = (self.files / 2).min(self.maps / 2);
        let open_files_max = if chosen == 0 { derived } else { chosen.into() };
        usize::try_from(open_files_max).unwrap_or(usize::MAX)
    }

    /// How many connections there may be, of those that the operator allows.
    pub fn connections_max(&self, chosen: u32, open_files_max: usize) -> u32 {
        let left = self.files.saturating_sub(open_files_max as u64).saturating_sub(FILES_RESERVED).max(1);
        u32::try_from(left).unwrap_or(u32::MAX).min(chosen)
    }
}

/// Takes memory in pages of 4 KiB only. Huge pages, which the allocator asks for, are taken whole however little of one is
/// used: an idle broker held 18 MiB of them for 3 MiB of data, and no workload of `millstream bench` ran faster for it.
pub fn use_small_pages() {
    // Without it everything works, with more memory.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_scarcer_resource_is_for_segments_and_connections_leave_a_reserve() {
        let common = ProcessLimits { files: 1_024, maps: 65_530 };
        assert_eq!(common.open_files_max(0), 512);
        assert_eq!(common.connections_max(10_000, 512), 448);
        let generous = ProcessLimits { files: 1 << 20, maps: 65_530 };
        assert_eq!(generous.open_files_max(0), 32_765, "maps are the scarcer one");
        assert_eq!(generous.connections_max(10_000, 32_765), 10_000, "as the operator says");
        assert_eq!(common.open_files_max(2_000), 2_000, "the operator knows best");
        assert_eq!(common.connections_max(10_000, 2_000), 1);
    }

    #[test]
    fn the_limits_of_this_process_are_read() {
        let limits = ProcessLimits::raise();
        assert!(limits.files >= 256 && limits.maps >= 1_000, "{limits:?}");
        assert_eq!(ProcessLimits::raise(), limits, "raised once, raised for good");
    }
}
