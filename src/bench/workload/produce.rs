//! As many records as are acknowledged: how many a second, how long each waits, what it costs.

use super::super::error::BenchError;
use super::super::target::Target;
use super::run::{Rhythm, Run, check_count, measured};
use super::{Bench, Outcome};

pub(super) async fn run<T: Target>(bench: &Bench<T>, topic: &str) -> Result<Outcome, BenchError<T::Error>> {
    let mut run = Run::new(bench, topic);
    run.start_senders(&bench.load.shares(), &Rhythm::Closed(None)).await?;
    let span = run.measure().await?;
    let done = run.finish().await?;
    check_count(bench, topic, done.acked).await?;
    let produced = done.produced(span.seconds, bench.load.record_bytes);
    Ok(Outcome { measured: measured(&span, vec![produced]), steps: Vec::new(), stopped: span.stopped })
}
