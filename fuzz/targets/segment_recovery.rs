//! Opening a log whose files are damaged, or arbitrary: no panic, no memory beyond a multiple of the files; opening it
//! twice gives what opening it once gave; what can be read reads the same each time; and an open log works.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::storage::{Log, LogReader, StorageError};
use millstream::types::Offset;
use millstream_fuzz::damaged_log::{ID, OPTIONS, Plan, batch, directory};
use millstream_fuzz::{MemoryFileSystem, bounded};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Frames in a file are 73 bytes at least, so no read of a sane log takes more steps; lies about offsets could.
const READS_MAX: usize = 4096;

type Found = Result<(Offset, Offset), String>;

fuzz_target!(|plan: Plan| {
    let files = plan.carry_out();
    let bytes: usize = files.files().values().map(Vec::len).sum();
    // Views of memory are copies: of each segment in turn while it is verified, and once more while it is read.
    bounded(16 * bytes + (1 << 20), || try_it(&files, plan.damages.is_empty()));
});

fn open(files: &MemoryFileSystem) -> (Option<Log>, Found) {
    match Log::open(files.shared(), &directory(), ID, OPTIONS) {
        Ok((log, _)) => {
            let found = (log.reader().log_start(), log.next_offset());
            (Some(log), Ok(found))
        }
        Err(error) => (None, Err(error.to_string())),
    }
}

fn try_it(files: &MemoryFileSystem, is_whole: bool) {
    let (first, found) = open(files);
    let read = first.map(|log| read_all(&log.reader(), log.next_offset()));
    let after_first = files.files();
    let (second, found_again) = open(files);
    assert_eq!(found, found_again, "opening twice is opening once");
    assert_eq!(changes(&after_first, &files.files()), [""; 0], "opening a second time changes nothing");
    let Some(mut log) = second else {
        assert!(!is_whole, "nothing was damaged: {found:?}");
        return;
    };
    let again = read_all(&log.reader(), log.next_offset());
    // The words may differ: the first start names what it met, the second trusts its checkpoint, and the reader finds it.
    let outline = |(records, damage): &(u64, Option<String>)| (*records, damage.is_some());
    assert_eq!(read.as_ref().map(outline), Some(outline(&again)), "read at first: {read:?}, then: {again:?}");
    if is_whole {
        let (records, error) = read.unwrap_or_default();
        assert_eq!(error, None, "nothing was damaged");
        assert_eq!(records, log.next_offset().records_since(log.reader().log_start()));
    }
    go_on(files, &mut log, is_whole);
    if log.close().is_ok() {
        let (log, found) = open(files);
        assert!(log.is_some(), "a log that was closed cleanly opens: {found:?}");
    }
}

/// Which files are not as they were, and from where on.
fn changes(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<String> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let told = differ.map(|path| {
        let of = |files: &BTreeMap<PathBuf, Vec<u8>>| files.get(path).cloned().unwrap_or_default();
        let (before, after) = (of(before), of(after));
        let at = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
        let tail = |bytes: &[u8]| String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 200)]).into_owned();
        let (was, is) = (tail(&before), tail(&after));
        format!("{}: {} bytes, then {}; from {at} on {was:?}, then {is:?}", path.display(), before.len(), after.len())
    });
    told.collect()
}

/// How many records there are, and the first thing that is wrong with any of them.
fn read_all(reader: &LogReader, end: Offset) -> (u64, Option<String>) {
    let mut next = reader.log_start();
    let mut records = 0;
    let mut damage = None;
    for _ in 0..READS_MAX {
        if next >= end {
            break;
        }
        match reader.read(next, end, 1024) {
            Ok(batches) => {
                let (from, behind) = (next, batches.next_offset);
                for batch in batches {
                    assert!(batch.base_offset >= next, "reading goes forward");
                    records += u64::from(batch.record_count);
                    next = batch.next_offset();
                    let _ = batch.first_records(2, 100);
                }
                assert!(behind > from && behind >= next, "from {from} to {next}, then on at {behind}");
                next = behind;
            }
            Err(StorageError::Damaged { first_offset, next_offset, what, .. }) => {
                assert!(first_offset <= next && next < next_offset, "{next} is not in {first_offset} to {next_offset}");
                damage.get_or_insert(what);
                next = next_offset;
            }
            Err(error) => {
                assert!(matches!(error, StorageError::Corrupt { .. } | StorageError::OutOfRange { .. }), "{error}");
                return (records, Some(error.to_string()));
            }
        }
        let _ = reader.offset_of_time(i64::from(next.0 as u8), end);
    }
    (records, damage)
}

/// An open log takes records, and gives them back, unless damage that nobody looked at yet is in the way.
fn go_on(files: &MemoryFileSystem, log: &mut Log, is_whole: bool) {
    let base = log.next_offset();
    let outcome = log.append(&[batch(3, 50, None)], 2_000);
    if outcome.error.is_some() || base.0 > u64::MAX - 10 {
        return;
    }
    let appended = outcome.results.first().map(|result| result.as_ref().map(|appended| appended.base_offset).ok());
    assert_eq!(appended, Some(Some(base)));
    log.sync().expect("memory does not fail");
    // What is known of producers is read from the log now, or from its snapshot.
    let _ = log.append(&[batch(1, 10, Some(3))], 2_001);
    match log.reader().read(base, log.next_offset(), 4096) {
        Ok(read) => assert_eq!(read.first().map(|batch| (batch.base_offset, batch.record_count)), Some((base, 3))),
        Err(error) => assert!(!is_whole, "just written: {error}"),
    }
    let _ = log.sync();
    let _ = log.keeper().sync_sealed();
    let _ = log.seal_if_old(10_000_000);
    let _ = log.keeper().sync_sealed();
    let (again, found) = open(files);
    if let Some(again) = again {
        assert_eq!(again.next_offset(), log.next_offset(), "what was synced is there");
    } else {
        panic!("a log that was open opens again: {found:?}");
    }
}
