//! One topic to many consumer groups, each of which gets every record.
//!
//! Producers stay near the slowest group (64 MiB), so the rate is that of a system in balance: what is produced is
//! delivered, to everyone.

use super::super::error::BenchError;
use super::super::reading::Lag;
use super::super::target::{ReadFrom, Target};
use super::run::{Rhythm, Run, check_count, measured};
use super::{Bench, Outcome};

pub(super) async fn run<T: Target>(
    bench: &Bench<T>,
    topic: &str,
    groups: u32,
) -> Result<Outcome, BenchError<T::Error>> {
    let load = &bench.load;
    let lag = Lag::new(groups, load.batch_records, load.record_bytes);
    let mut run = Run::new(bench, topic);
    for (place, number) in (0..).zip(1..=groups) {
        let group = format!("{topic}-{number}");
        let lag = Some((lag.clone(), place));
        run.start_reader(format!("group {number}"), ReadFrom::Beginning, Some(group), lag).await?;
    }
    run.start_senders(&load.shares(), &Rhythm::Closed(Some(lag))).await?;
    let span = run.measure().await?;
    let done = run.finish().await?;
    check_count(bench, topic, done.acked).await?;
    let parts = vec![done.produced(span.seconds, load.record_bytes), done.followed(span.seconds, load.record_bytes)];
    Ok(Outcome { measured: measured(&span, parts), steps: Vec::new(), stopped: span.stopped })
}
