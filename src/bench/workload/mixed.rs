//! All at once: sending at a rate, readers at the end, and one that reads old records as fast as it can.
//!
//! What it shows is the latency of those at the end while somebody catches up.

use super::super::error::BenchError;
use super::super::target::{ReadFrom, Target};
use super::run::{Filler, Rhythm, Run, check_count, measured};
use super::{Bench, Outcome};

pub(super) async fn run<T: Target>(
    bench: &Bench<T>,
    topic: &str,
    rate: u64,
    readers: u32,
    backlog_bytes: u64,
) -> Result<Outcome, BenchError<T::Error>> {
    let load = &bench.load;
    let mut backlog = Filler::new(bench, topic);
    backlog.write(backlog_bytes).await?;
    let mut run = Run::new(bench, topic);
    for reader in 1..=readers {
        run.start_reader(format!("tail reader {reader}"), ReadFrom::End, None, None).await?;
    }
    run.start_senders(&load.shares(), &Rhythm::Rate(rate)).await?;
    run.start_backlog_reader("the backlog reader".to_owned(), backlog.records, false);
    let span = run.measure().await?;
    let done = run.finish().await?;
    check_count(bench, topic, backlog.records + done.acked).await?;
    let (seconds, record_bytes) = (span.seconds, load.record_bytes);
    let parts = vec![
        done.produced(seconds, record_bytes),
        done.followed(seconds, record_bytes),
        done.read_back("backlog", seconds, record_bytes),
    ];
    Ok(Outcome { measured: measured(&span, parts), steps: Vec::new(), stopped: span.stopped })
}
