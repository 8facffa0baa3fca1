//! A disk that fails, and one that is slow: what a broker acknowledges and serves then, and how it ends.
//!
//! A failed sync is answered "outcome unknown" and ends the broker. The next one, started on the same mount, serves
//! what was acknowledged and nothing that the disk does not have, whatever the kernel's cache says. A slow disk slows
//! the appends that wait for it down, and nothing else.
//!
//! Takes root and some tools (`tests/faults/means.rs` names them), so it runs when it is asked for, as `.ci/run` does:
//!
//! ```sh
//! MILLSTREAM_PLANTED=1 cargo build --bin millstream --target-dir target/planted
//! export MILLSTREAM_PLANTED_BINARY=target/planted/debug/millstream
//! cargo test --test failing_disk -- --nocapture
//! MILLSTREAM_ROUNDS=30 cargo test --release --test failing_disk failed_syncs -- --nocapture      # the long form
//! ```

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "shared with tests/process.rs, which uses all of it")]
mod broker;
#[path = "failing_disk/failed_syncs.rs"]
mod failed_syncs;
#[path = "faults/mod.rs"]
#[expect(dead_code, reason = "shared with tests/power_cut.rs, which uses all of it")]
mod faults;
#[path = "failing_disk/nbd_disk.rs"]
mod nbd_disk;
#[path = "failing_disk/slow_disk.rs"]
mod slow_disk;

use broker::Launch;
use faults::world::World;
use faults::{means, planted_binary, seed};
use std::path::Path;

/// Bugs that must be noticed, in so many rounds.
const PLANTED: &[&str] = &["RetryFailedSync", "RecoveryTrustsPageCache"];
const CONTROL_ROUNDS: u64 = 5;

fn launch(program: &Path, data_dir: &Path) -> Launch {
    let data_dir = data_dir.to_str().expect("paths here are text");
    Launch::of(program).argument("--data-dir").argument(data_dir).listen("127.0.0.1:0").admin("127.0.0.1:0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failed_syncs_are_neither_acknowledged_nor_believed() {
    let Some(world) = World::enter("failed_syncs_are_neither_acknowledged_nor_believed") else { return };
    means::require(&["root", "loop", "fuse", "ext4", "nbdkit", "nbdkit error filter", "nbdfuse"]);
    let (seed, planted) = (seed(), planted_binary());
    let rounds = faults::asked("MILLSTREAM_ROUNDS").unwrap_or(10);
    println!("eio: MILLSTREAM_ROUNDS={rounds} MILLSTREAM_SEED={seed}");
    let ours = Path::new(env!("CARGO_BIN_EXE_millstream"));
    let found = failed_syncs::run(|at| launch(ours, at), &world.directory("ours"), seed, rounds).await;

    let mut control = Vec::new();
    for bug in PLANTED {
        let launch = |at: &Path| launch(&planted, at).variable("MILLSTREAM_PLANTED_BUG", bug);
        let found = failed_syncs::run(launch, &world.directory(bug), seed, CONTROL_ROUNDS).await;
        let verdict =
            if found.is_clean() { "NOT FLAGGED".to_owned() } else { format!("flagged in round {}", found.rounds) };
        control.push(format!("{bug} {verdict}"));
    }
    println!(
        "eio: {} rounds, {} acked, {} lost, {} phantom, {} otherwise wrong, {} remounts; control: {}; seed={seed}",
        found.rounds,
        found.acked,
        found.lost.len(),
        found.phantoms.len(),
        found.wrong.len(),
        found.remounts,
        control.join(", ")
    );
    assert!(found.is_clean(), "{found:#?}");
    assert!(found.remounts < found.rounds, "no round was survived by what the kernel believes");
    assert!(!control.iter().any(|verdict| verdict.ends_with("NOT FLAGGED")), "{control:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_disk_slows_down_nothing_but_what_waits_for_it() {
    let Some(world) = World::enter("a_slow_disk_slows_down_nothing_but_what_waits_for_it") else { return };
    means::require(&["root", "loop", "fuse", "ext4", "nbdkit", "nbdkit delay filter", "nbdfuse"]);
    slow_disk::run(&world.directory("slow"), seed()).await;
}
