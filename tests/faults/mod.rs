//! What the tests that break disks share: a world of their own to break them in, disks, records that can be told
//! apart, and what a broker serves.

pub(crate) mod actor;
pub(crate) mod disk;
pub(crate) mod history;
pub(crate) mod lines;
pub(crate) mod means;
pub(crate) mod observed;
pub(crate) mod random;
pub(crate) mod world;

/// A number from the environment.
pub(crate) fn asked(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it must be a number")))
}

/// The seed of everything that is random: the one asked for, or a fresh one. It is printed with each result.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    asked("MILLSTREAM_SEED").unwrap_or_else(|| RandomState::new().hash_one(0_u8) >> 32) | 1
}

/// The binary with planted bugs, for control runs: without one, nobody knows that these tests can fail.
pub(crate) fn planted_binary() -> std::path::PathBuf {
    const VARIABLE: &str = "MILLSTREAM_PLANTED_BINARY";
    let path = std::env::var_os(VARIABLE).map(std::path::PathBuf::from).filter(|path| path.is_file());
    let path = path.unwrap_or_else(|| {
        panic!(
            "{VARIABLE} does not name a binary for the control run. Build one and try again:\n\
             MILLSTREAM_PLANTED=1 cargo build --locked --bin millstream --target-dir target/planted\n\
             export {VARIABLE}=target/planted/debug/millstream"
        )
    });
    std::path::absolute(path).expect("there is a working directory")
}
