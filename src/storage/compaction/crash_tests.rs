//! A compaction is cut off at each of its operations, by a process that dies and by power cuts of both kinds: the log opens,
//! holds what it held, and can be compacted again.

use super::test_log::{Model, batch, compact, open};
use super::{CompactionPolicy, When};
use crate::storage::file_system::FileSystem;
use crate::storage::log::Log;
use crate::storage::sim_disk::{Fault, Loss};
use crate::storage::sim_file_system::SimFileSystem;
use std::path::Path;
use std::sync::Arc;

const DIRECTORY: &str = "/log";
const NOW_MS: i64 = 5_000;

/// So small that there are several groups.
const POLICY: CompactionPolicy = CompactionPolicy { segment_bytes: 500, ..super::test_log::POLICY };

/// Power cuts tried at each operation.
const CUTS: usize = 4;

fn fs_of(disk: &SimFileSystem) -> Arc<dyn FileSystem> {
    Arc::new(disk.clone())
}

/// Three groups: one that merges, one that shrinks, and one that holds the recovery point.
fn written(seed: u64) -> (SimFileSystem, Log, Model) {
    let disk = SimFileSystem::new(seed);
    let mut log = open(&fs_of(&disk), Path::new(DIRECTORY));
    let mut model = Model::default();
    for value in 0..10_u64 {
        let many: Vec<_> = (20..32).map(|key| (key, (key != 25).then_some(value))).collect();
        let lasting = 100 + u8::try_from(value).expect("small");
        let few = [(1, Some(value)), (lasting, Some(value)), (2, (value % 3 > 0).then_some(value))];
        let records = if value < 4 { few.to_vec() } else { [&few[..], &many].concat() };
        let outcome = log.append(&[batch(&records)], 1_000);
        assert!(outcome.error.is_none());
        model.records.extend(records);
        log.sync().expect("syncs");
        if value % 2 == 1 {
            log.seal_now().expect("seals");
        }
    }
    log.keeper().sync_sealed().expect("syncs");
    (disk, log, model)
}

/// Opens what a crash left behind, twice, and compacts it again.
fn survive(disk: &SimFileSystem, model: &Model, when: &str) {
    let fs = fs_of(disk);
    let log = open(&fs, Path::new(DIRECTORY));
    model.check(&log, NOW_MS);
    let is_leftover = |path: &Path| path.extension().is_some_and(|kind| kind == "swap" || kind == "cleaned");
    let files = disk.files();
    assert!(!files.keys().any(|path| is_leftover(path)), "{when}: {:?}", files.keys());
    drop(log);
    let mut log = open(&fs, Path::new(DIRECTORY));
    assert_eq!(disk.files(), files, "{when}: recovering twice is recovering once");
    model.check(&log, NOW_MS);
    let mut model = model.clone();
    let records = [(1, Some(99)), (3, Some(99))];
    assert!(log.append(&[batch(&records)], NOW_MS).error.is_none());
    model.records.extend(records);
    log.sync().expect("syncs");
    log.seal_now().expect("seals");
    compact(&log, POLICY, NOW_MS);
    model.compacted(&log, NOW_MS);
    model.check(&log, NOW_MS);
}

#[test]
fn a_compaction_may_be_cut_off_at_any_operation() {
    let mut cuts = 0;
    for seed in 0..1 {
        for operation in 1.. {
            let (disk, log, model) = written(seed);
            disk.stop_at(Some(disk.operations() + operation));
            let result = log.keeper().compact(POLICY, When::Now, Some(NOW_MS), &mut |_| true);
            let is_over = !disk.is_stopped();
            assert!(result.is_ok() || !is_over, "{result:?}");
            drop(log);
            let when = format!("seed {seed}, operation {operation}");
            for _ in 0..CUTS {
                survive(&disk.crash(Loss::Ordered), &model, &when);
                survive(&disk.crash(Loss::AnyOrder), &model, &when);
            }
            disk.stop_at(None);
            survive(&disk, &model, &when);
            cuts += 2 * CUTS + 1;
            if is_over {
                assert!(operation > 25, "the test is about several groups: {operation} operations");
                break;
            }
        }
    }
    println!("{cuts} crashes");
}

/// The next power cut comes while the log recovers from the first.
#[test]
fn a_recovery_from_an_interrupted_compaction_may_be_cut_off_too() {
    for operation in 1.. {
        let (disk, log, model) = written(3);
        disk.stop_at(Some(disk.operations() + operation));
        let _ = log.keeper().compact(POLICY, When::Now, Some(NOW_MS), &mut |_| true);
        let is_over = !disk.is_stopped();
        drop(log);
        for again in (1..12).step_by(2) {
            for loss in [Loss::Ordered, Loss::AnyOrder] {
                let disk = disk.crash(loss);
                disk.stop_at(Some(disk.operations() + again));
                let _ = Log::open(fs_of(&disk), Path::new(DIRECTORY), super::test_log::ID, super::test_log::OPTIONS);
                survive(&disk.crash(loss), &model, &format!("operation {operation}, then {again}"));
            }
        }
        if is_over {
            return;
        }
    }
}

/// A disk that fails once: before the swap the pass may be tried again; after it, the log goes on with what it has open,
/// and the next start clears up.
#[test]
fn a_failing_disk_costs_a_pass_and_nothing_else() {
    for fault in [Fault::Io, Fault::Full, Fault::ShortWrite, Fault::Sync] {
        for operation in 1.. {
            let (disk, mut log, mut model) = written(4);
            disk.plan(disk.operations() + operation, fault);
            let failed = log.keeper().compact(POLICY, When::Now, Some(NOW_MS), &mut |_| true).is_err();
            let has_happened = disk.happened().is_some();
            disk.plan(u64::MAX, fault);
            model.check(&log, NOW_MS);
            let records = [(1, Some(77))];
            assert!(log.append(&[batch(&records)], NOW_MS).error.is_none(), "appends go on");
            model.records.extend(records);
            log.sync().expect("syncs");
            let again = log.keeper().compact(POLICY, When::Now, Some(NOW_MS), &mut |_| true);
            assert!(failed || again.is_ok(), "{again:?}");
            model.check(&log, NOW_MS);
            drop(log);
            for loss in [Loss::Ordered, Loss::AnyOrder] {
                survive(&disk.crash(loss), &model, &format!("{fault:?} at {operation}"));
            }
            if !has_happened {
                break;
            }
        }
    }
}

/// `keys_max` is what bounds memory; a pass that is cut short by it must not be worse than one that is not.
#[test]
fn passes_with_a_small_map_may_be_cut_off_too() {
    for operation in (1..).step_by(5) {
        let (disk, log, model) = written(5);
        disk.stop_at(Some(disk.operations() + operation));
        let policy = CompactionPolicy { keys_max: 3, ..POLICY };
        let mut is_done = false;
        for _ in 0..100 {
            match log.keeper().compact(policy, When::Now, Some(NOW_MS), &mut |_| true) {
                Ok(Some(pass)) if !pass.is_complete => {}
                result => {
                    is_done = result.is_ok();
                    break;
                }
            }
        }
        drop(log);
        for loss in [Loss::Ordered, Loss::AnyOrder] {
            survive(&disk.crash(loss), &model, &format!("operation {operation}"));
        }
        if is_done && !disk.is_stopped() {
            return;
        }
    }
}
