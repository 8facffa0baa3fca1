//! The `millstream-produce` binary: `millstream produce` under a name of its own.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    millstream::cli::main_as("produce")
}
