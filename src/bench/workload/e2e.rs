//! From the time a record was meant to be sent until a reader has it, at a fixed rate.

use super::super::error::BenchError;
use super::super::result::Measured;
use super::super::stage::Length;
use super::super::target::{ReadFrom, Target};
use super::run::{Rhythm, Run, Share, check_count, measured};
use super::{Bench, Outcome};

/// One stretch at a rate, with one reader at the end of the topic.
pub(super) struct Paced {
    pub(super) measured: Measured,
    pub(super) stopped: bool,
    pub(super) acked: u64,
    pub(super) shares: Vec<Share>,
}

pub(super) async fn run<T: Target>(bench: &Bench<T>, topic: &str, rate: u64) -> Result<Outcome, BenchError<T::Error>> {
    let paced = paced(bench, topic, &bench.load.shares(), rate, bench.load.length).await?;
    check_count(bench, topic, paced.acked).await?;
    Ok(Outcome { measured: paced.measured, steps: Vec::new(), stopped: paced.stopped })
}

/// Sends at a rate and follows; from wherever the topic ends now.
pub(super) async fn paced<T: Target>(
    bench: &Bench<T>,
    topic: &str,
    shares: &[Share],
    rate: u64,
    length: Length,
) -> Result<Paced, BenchError<T::Error>> {
    let mut run = Run::new(bench, topic);
    run.start_reader("the reader".to_owned(), ReadFrom::End, None, None).await?;
    run.start_senders(shares, &Rhythm::Rate(rate)).await?;
    let span = run.conduct(length).await?;
    let done = run.finish().await?;
    let record_bytes = bench.load.record_bytes;
    let parts = vec![done.produced(span.seconds, record_bytes), done.followed(span.seconds, record_bytes)];
    Ok(Paced { measured: measured(&span, parts), stopped: span.stopped, acked: done.acked, shares: done.shares() })
}
