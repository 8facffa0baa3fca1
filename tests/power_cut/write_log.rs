//! A disk that remembers every write and flush in order, and the images that power cuts would have left of it.
//!
//! `qemu-storage-daemon` stands between the file system and its disk and writes a log in the format of the kernel's
//! `dm-log-writes`: a super block with the number of entries, then for each entry a header of one sector and the bytes.
//! Before it answers a write the entry is in the log, so the number of entries right after an acknowledgement says how
//! far the disk was.

use crate::faults::disk::{Daemon, Kind, Mounted};
use crate::faults::random::Random;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// "jsfwshr" and a version, at the start of the log.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const ENTRIES_AT: u64 = 16;
const SECTOR_BYTES: usize = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// A moment is busy when so many writes were not flushed.
const BUSY_WRITES_MIN: usize = 3;

/// Images are copied in pieces of this size; one that was never written is a hole.
const PIECE_BYTES: usize = 64 << 10;

/// A mounted file system whose disk is recorded.
#[derive(Debug)]
pub(crate) struct RecordedDisk {
    // Dropped in this order: the file system goes before its disk.
    pub(crate) mounted: Mounted,
    _daemon: Daemon,
    kind: Kind,
    base: PathBuf,
    log: PathBuf,
}

impl RecordedDisk {
    /// Makes a file system in `directory` and records it from its first mount on.
    pub(crate) fn start(kind: Kind, directory: &Path) -> Self {
        let [base, disk, log, front, mount] = ["base", "disk", "log", "front", "mnt"].map(|name| directory.join(name));
        let sparse = |path: &Path, len: u64| new_file(path).set_len(len).expect("sparse files are allowed");
        sparse(&base, kind.disk_bytes());
        kind.make(&base);
        Image::load(&base).store(&disk);
        sparse(&log, 64 << 30);
        sparse(&front, 0);
        std::fs::create_dir(&mount).expect("a new directory");
        let file = |name: &str, path: &Path| {
            format!("driver=file,node-name={name},filename={},cache.no-flush=on", path.display())
        };
        let mut command = Command::new("qemu-storage-daemon");
        command.args(["--blockdev", &file("disk", &disk), "--blockdev", &file("log", &log)]);
        command
            .args(["--blockdev", "driver=blklogwrites,node-name=both,file=disk,log=log,log-super-update-interval=1"]);
        let front_export = format!("type=fuse,id=front,node-name=both,mountpoint={},writable=on", front.display());
        command.args(["--export", &front_export, "--chardev", "stdio,id=talk", "--monitor", "talk"]);
        // It greets on its monitor once everything above is there.
        let daemon = Daemon::start(&mut command, |output| output);
        let mounted = kind.mount(&front, &mount).expect("a new file system can be mounted");
        Self { mounted, _daemon: daemon, kind, base, log }
    }

    /// How far the disk is, at any time.
    pub(crate) fn clock(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let log = OpenOptions::new().read(true).open(&self.log).expect("the log is there");
        move || read_u64(&log, ENTRIES_AT)
    }

    /// Ends the recording.
    pub(crate) fn finish(self) -> Recording {
        let Self { mounted, _daemon: daemon, kind, base, log } = self;
        let entries = read_u64(&OpenOptions::new().read(true).open(&log).expect("the log is there"), ENTRIES_AT);
        drop(mounted);
        drop(daemon);
        Recording { kind, base, log: WriteLog::open(&log), entries }
    }
}

/// A recorded run.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) kind: Kind,
    /// The disk before the first entry.
    base: PathBuf,
    log: WriteLog,
    /// Entries until the run was over.
    pub(crate) entries: u64,
}

impl Recording {
    /// The images after power cuts; they must be asked for in order.
    pub(crate) fn replay(&self) -> Replay<'_> {
        Replay { log: &self.log, image: Image::load(&self.base), applied: 0 }
    }

    /// The moments at which many writes were not flushed yet.
    pub(crate) fn busy_moments(&self) -> Vec<u64> {
        let mut pending = 0;
        let mut busy = Vec::new();
        for (moment, entry) in (1..=self.entries).zip(&self.log.entries) {
            pending = if entry.flags & FLUSH == 0 { pending + 1 } else { 0 };
            if pending >= BUSY_WRITES_MIN {
                busy.push(moment);
            }
        }
        busy
    }
}

/// What a power cut does to writes that were not flushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loss {
    /// All are lost.
    Everything,
    /// None is.
    Nothing,
    /// The later ones are lost, and the first of those is torn.
    Later,
    /// Any are lost, this many in a hundred, and some of the others are torn.
    AnyOrder(u64),
}

impl Loss {
    pub(crate) fn draw(random: &mut Random) -> Self {
        match random.below(10) {
            0 | 1 => Self::Everything,
            2 => Self::Nothing,
            3..=5 => Self::Later,
            _ => Self::AnyOrder(10 + random.below(80)),
        }
    }
}

/// The disk on its way through the log.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    log: &'a WriteLog,
    image: Image,
    applied: usize,
}

impl Replay<'_> {
    /// Leaves in `path` what is on the disk after a power cut behind the first `cut` entries. Gives how many writes
    /// were not flushed then.
    pub(crate) fn cut(&mut self, cut: u64, loss: Loss, random: &mut Random, path: &Path) -> usize {
        let cut = usize::try_from(cut).expect("64-bit");
        let entries = &self.log.entries[..cut];
        // Requests come one at a time, so a flush covers all before it.
        let flushed = entries.iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |last| last + 1);
        for entry in entries.get(self.applied..flushed).unwrap_or_default() {
            self.image.write(entry, &self.log.read(entry));
        }
        self.applied = self.applied.max(flushed);
        let file = self.image.store(path);
        let pending: Vec<&Entry> = entries[flushed..].iter().filter(|entry| entry.bytes > 0).collect();
        let kept = random.index(pending.len() + 1);
        for (i, entry) in pending.iter().enumerate() {
            let durable = entry.flags & FUA != 0;
            let (keep, torn) = match loss {
                _ if durable => (true, false),
                Loss::Nothing => (true, false),
                Loss::Everything => (false, false),
                Loss::Later => (i <= kept, i == kept),
                Loss::AnyOrder(percent) => (!random.percent(percent), random.percent(30)),
            };
            if keep {
                let bytes = self.log.read(entry);
                for (sector, bytes) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if !torn || random.percent(50) {
                        let at = entry.position + (sector * SECTOR_BYTES) as u64;
                        file.write_all_at(bytes, at).expect("the image can be written");
                    }
                }
            }
        }
        pending.len()
    }
}

#[derive(Debug)]
struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// One write, flush or discard.
#[derive(Debug)]
struct Entry {
    /// Where on the disk, and how much.
    position: u64,
    bytes: usize,
    flags: u64,
    /// Where in the log its bytes are.
    at: u64,
}

impl WriteLog {
    fn open(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).open(path).expect("the log is there");
        assert_eq!(read_u64(&file, 0), MAGIC, "the log of qemu-storage-daemon is not what it was");
        let sector_bytes = read_u64(&file, 24) & 0xffff_ffff;
        let mut at = sector_bytes;
        let mut entries = Vec::new();
        for _ in 0..read_u64(&file, ENTRIES_AT) {
            let [sector, sectors, flags] = [0, 8, 16].map(|field| read_u64(&file, at + field));
            at += sector_bytes;
            let bytes = usize::try_from(sectors * sector_bytes).expect("64-bit");
            entries.push(Entry { position: sector * sector_bytes, bytes, flags, at });
            if flags & DISCARD == 0 {
                at += sectors * sector_bytes;
            }
        }
        Self { file, entries }
    }

    fn read(&self, entry: &Entry) -> Vec<u8> {
        let mut bytes = vec![0; entry.bytes];
        if entry.flags & DISCARD == 0 {
            self.file.read_exact_at(&mut bytes, entry.at).expect("the log holds its entries");
        }
        bytes
    }
}

/// A disk in memory.
#[derive(Debug)]
struct Image {
    bytes: Vec<u8>,
    /// Which pieces are not a hole.
    used: Vec<bool>,
}

impl Image {
    fn load(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("the image is there");
        let used = bytes.chunks(PIECE_BYTES).map(|piece| piece.iter().any(|byte| *byte != 0)).collect();
        Self { bytes, used }
    }

    fn write(&mut self, entry: &Entry, bytes: &[u8]) {
        if !bytes.is_empty() {
            let at = usize::try_from(entry.position).expect("64-bit");
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            self.used[at / PIECE_BYTES..=(at + bytes.len() - 1) / PIECE_BYTES].fill(true);
        }
    }

    fn store(&self, path: &Path) -> File {
        let file = new_file(path);
        file.set_len(self.bytes.len() as u64).expect("sparse files are allowed");
        for (i, piece) in self.bytes.chunks(PIECE_BYTES).enumerate().filter(|(i, _)| self.used[*i]) {
            file.write_all_at(piece, (i * PIECE_BYTES) as u64).expect("the image can be written");
        }
        file
    }
}

fn new_file(path: &Path) -> File {
    OpenOptions::new().write(true).create_new(true).open(path).expect("a new file")
}

fn read_u64(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).expect("the log has a super block");
    u64::from_le_bytes(bytes)
}
