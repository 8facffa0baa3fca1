//! Power cuts below a real file system: what is acknowledged as synced is there afterwards, whatever was in flight.
//!
//! A broker runs on ext4 and on XFS while every write and flush of the disk is recorded. For each cut the disk is built
//! again as it was at some moment: what was flushed, and any part of what was not, torn between sectors. The file
//! system replays its journal, a broker starts, and everything it serves is compared with what had been acknowledged
//! by then. The same with a broker that does not sync must be noticed, or the test proves nothing.
//!
//! Takes root and some tools (`tests/faults/means.rs` names them), so it runs when it is asked for, as `.ci/run` does:
//!
//! ```sh
//! MILLSTREAM_PLANTED=1 cargo build --bin millstream --target-dir target/planted
//! export MILLSTREAM_PLANTED_BINARY=target/planted/debug/millstream
//! cargo test --test power_cut -- --nocapture
//! MILLSTREAM_CUTS=1000 cargo test --release --test power_cut -- --nocapture      # the long form
//! ```

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "shared with tests/process.rs, which uses all of it")]
mod broker;
#[path = "power_cut/cuts.rs"]
mod cuts;
#[path = "faults/mod.rs"]
mod faults;
#[path = "power_cut/workload.rs"]
mod workload;
#[path = "power_cut/write_log.rs"]
mod write_log;

use broker::Launch;
use cuts::{Outcome, Plan};
use faults::disk::Kind;
use faults::world::World;
use faults::{means, planted_binary, seed};
use std::path::Path;
use std::sync::Arc;
use write_log::{RecordedDisk, Recording};

/// Cuts of the broker that does not sync.
const CONTROL_CUTS: usize = 30;

/// Of so many cuts, one may leave a file system that nobody can mount (seen: one in 1,900). More would mean that the cuts
/// are wrong, and would hide what they should show.
const CUTS_EACH_UNMOUNTED: usize = 50;

fn launch(program: &Path, data_dir: &Path) -> Launch {
    // Upkeep has more to do in the little time there is.
    let launch = Launch::of(program).variable("MILLSTREAM_BROKER_RETENTION_CHECK_MS", "100");
    let data_dir = data_dir.to_str().expect("paths here are text");
    launch.argument("--data-dir").argument(data_dir).listen("127.0.0.1:0").admin("127.0.0.1:0")
}

/// Records a run and looks at the disk after cuts.
async fn record_and_cut(
    kind: Kind,
    directory: &Path,
    plan: Plan,
    launch: impl Fn(&Path) -> Launch,
) -> (Recording, Outcome) {
    let disk = RecordedDisk::start(kind, directory);
    // Long enough that cuts differ, and no longer.
    let steps = (plan.cuts as u64 * 2).clamp(150, 1_200);
    let data_dir = disk.mounted.data_dir();
    let history = workload::run(&launch(&data_dir), &data_dir, plan.seed, steps, disk.clock()).await;
    let recording = disk.finish();
    let outcome = cuts::look(plan, &recording, &Arc::new(history), directory).await;
    (recording, outcome)
}

async fn survives_power_cuts(kind: Kind, world: &World, cuts: usize) {
    let (plan, planted) = (Plan { name: "ours", cuts, seed: seed(), printed_max: 5 }, planted_binary());
    println!("powercut: {cuts} cuts on {kind}, MILLSTREAM_SEED={}", plan.seed);
    let ours = Path::new(env!("CARGO_BIN_EXE_millstream"));
    let (recording, outcome) =
        record_and_cut(kind, &world.directory(plan.name), plan, |data_dir| launch(ours, data_dir)).await;

    let control_plan = Plan { cuts: CONTROL_CUTS, name: "control", printed_max: 1, ..plan };
    let (_, control) = record_and_cut(kind, &world.directory(control_plan.name), control_plan, |data_dir| {
        launch(&planted, data_dir).variable("MILLSTREAM_PLANTED_BUG", "AckBeforeSync")
    })
    .await;

    println!(
        "powercut: {} cuts of {} log entries ({kind}), {} acked records checked, {} cuts with a loss, {} refused, {} \
         not mounted, {} writes in flight, {} ms a cut; control: {} of {} cuts flagged; seed={}",
        outcome.cuts,
        recording.entries,
        outcome.checked,
        outcome.broken.len(),
        outcome.refused.len(),
        outcome.unmounted,
        outcome.pending,
        outcome.milliseconds_per_cut,
        control.flagged,
        control.cuts,
        plan.seed
    );
    assert!(outcome.broken.is_empty(), "{:#?}", outcome.broken);
    assert!(outcome.refused.is_empty(), "a power cut alone looks like damage: {:#?}", outcome.refused);
    assert!(
        outcome.unmounted <= outcome.cuts.div_ceil(CUTS_EACH_UNMOUNTED),
        "{} disks were not mounted",
        outcome.unmounted
    );
    assert!(outcome.checked > 0 && outcome.pending > 0, "cuts that cut nothing prove nothing");
    assert!(!control.broken.is_empty(), "a broker that does not sync was not noticed");
}

fn cuts_wanted() -> usize {
    usize::try_from(faults::asked("MILLSTREAM_CUTS").unwrap_or(100)).expect("64-bit")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_synced_survives_power_cuts_on_ext4() {
    let Some(world) = World::enter("what_is_synced_survives_power_cuts_on_ext4") else { return };
    means::require(&["root", "loop", "fuse", "qemu-storage-daemon", "ext4"]);
    survives_power_cuts(Kind::Ext4, &world, cuts_wanted()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_synced_survives_power_cuts_on_xfs() {
    let Some(world) = World::enter("what_is_synced_survives_power_cuts_on_xfs") else { return };
    means::require(&["root", "loop", "fuse", "qemu-storage-daemon", "xfs"]);
    survives_power_cuts(Kind::Xfs, &world, cuts_wanted() / 2).await;
}
