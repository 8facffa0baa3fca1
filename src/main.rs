//! The `millstream` command.
use clap::Parser;
#[derive(Parser)]
struct A {
    #[command(subcommand)]
    c: C,
}
#[derive(clap::Subcommand)]
enum C {
    Serve(millstream::cli::serve::ServeArgs),
}
fn main() -> std::process::ExitCode {
    match A::parse().c {
        C::Serve(a) => millstream::cli::serve::run(a),
    }
}
