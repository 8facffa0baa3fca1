//! Records that are there already, read as fast as they come; again from the beginning until the time is over.
//!
//! The first pass is over what was just written: it comes from memory, as a backlog does whose readers are not far behind.

use super::super::error::BenchError;
use super::super::target::Target;
use super::run::{Filler, Run, check_count, measured};
use super::{Bench, Outcome};

pub(super) async fn run<T: Target>(
    bench: &Bench<T>,
    topic: &str,
    backlog_bytes: u64,
    readers: u32,
    in_groups: bool,
) -> Result<Outcome, BenchError<T::Error>> {
    let mut backlog = Filler::new(bench, topic);
    backlog.write(backlog_bytes).await?;
    check_count(bench, topic, backlog.records).await?;
    let mut run = Run::new(bench, topic);
    for reader in 1..=readers {
        run.start_backlog_reader(format!("reader {reader}"), backlog.records, in_groups);
    }
    let span = run.measure().await?;
    let done = run.finish().await?;
    let part = done.read_back("consume", span.seconds, bench.load.record_bytes);
    Ok(Outcome { measured: measured(&span, vec![part]), steps: Vec::new(), stopped: span.stopped })
}
