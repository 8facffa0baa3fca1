//! What appending and following cost as the log grows: at 1 GB, 2 GB, 4 GB and so on, up to the size asked for.
//!
//! Each step writes the log up to its size, appends as fast as it can for a while, then sends at a rate and follows. A log
//! whose cost grows with its size shows in the last step against the first. The parts `produce` and `tail` of a step are
//! those of the two stretches; processor time is that of the first.

use super::super::error::BenchError;
use super::super::result::Step;
use super::super::target::Target;
use super::e2e::paced;
use super::run::{Filler, Rhythm, Run, check_count, measured};
use super::{Bench, Outcome};
use crate::units::format_bytes;

/// The size of the first step, unless less is asked for.
const FIRST_STEP_BYTES: u64 = 1_000_000_000;

pub(super) async fn run<T: Target>(
    bench: &Bench<T>,
    topic: &str,
    backlog_bytes: u64,
    rate: u64,
) -> Result<Outcome, BenchError<T::Error>> {
    let load = &bench.load;
    let record_bytes = load.record_bytes as u64;
    let mut filler = Filler::new(bench, topic);
    let (mut shares, mut appended) = (load.shares(), 0);
    let (mut steps, mut stopped) = (Vec::new(), false);
    for size in sizes(backlog_bytes) {
        let there = (filler.records + appended) * record_bytes;
        match filler.write(size.saturating_sub(there)).await {
            // The steps before this one were measured whole.
            Err(BenchError::Stopped(_)) if !steps.is_empty() => {
                stopped = true;
                break;
            }
            written => written?,
        }
        let mut run = Run::new(bench, topic);
        run.start_senders(&shares, &Rhythm::Closed(None)).await?;
        let span = run.conduct(load.length).await?;
        let done = run.finish().await?;
        let produced = done.produced(span.seconds, load.record_bytes);
        let followed = paced(bench, topic, &done.shares(), rate, load.length).await?;
        appended += done.acked + followed.acked;
        check_count(bench, topic, filler.records + appended).await?;
        shares = followed.shares;
        let mut measured = measured(&span, vec![produced]);
        measured.parts.extend(followed.measured.part("tail").cloned());
        (bench.notice)(&format!("{} in the log: measured", format_bytes(size)));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        steps.push(Step { at: size as f64, met: None, measured });
        stopped = span.stopped || followed.stopped;
        if stopped {
            break;
        }
    }
    let Some(last) = steps.last() else {
        return Err(BenchError::NothingMeasured("there was no step"));
    };
    Ok(Outcome { measured: last.measured.clone(), steps, stopped })
}

/// Doubling, and the size asked for at the end.
fn sizes(backlog_bytes: u64) -> Vec<u64> {
    let mut sizes: Vec<_> = std::iter::successors(Some(FIRST_STEP_BYTES), |size| size.checked_mul(2))
        .take_while(|size| *size < backlog_bytes)
        .collect();
    sizes.push(backlog_bytes);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_up_to_the_one_asked_for() {
        let gb = |sizes: &[u64]| sizes.iter().map(|size| size * 1_000_000_000).collect::<Vec<_>>();
        assert_eq!(sizes(5_000_000_000), gb(&[1, 2, 4, 5]));
        assert_eq!(sizes(1_000_000_000), gb(&[1]));
        assert_eq!(sizes(77), [77]);
    }
}
