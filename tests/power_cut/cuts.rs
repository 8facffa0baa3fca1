//! One cut after the other: the image, the mount, a broker on it, what it serves, the judgement.

use crate::broker::{Launch, connect};
use crate::faults::actor::{GROUP, append};
use crate::faults::history::{History, Judgement};
use crate::faults::lines::Lines;
use crate::faults::observed::{Observed, Partition, Record};
use crate::faults::random::Random;
use crate::workload::COMPACTED;
use crate::write_log::{Loss, Recording};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// Cuts that are looked at side by side.
const SIDE_BY_SIDE: usize = 2;

/// Every so many cuts, the broker must also go on: append, be killed, start again.
const GO_ON_EVERY: usize = 4;
const LAST_RECORD_BYTES: usize = 3_000;

/// Which cuts to look at, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Of whose cuts these are, for what is printed.
    pub(crate) name: &'static str,
    pub(crate) cuts: usize,
    pub(crate) seed: u64,
    /// Broken promises and refusals are printed up to so many; the figures count all.
    pub(crate) printed_max: usize,
}

/// What became of all cuts.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) cuts: usize,
    /// Cuts with anything wrong.
    pub(crate) flagged: usize,
    /// Records that were acknowledged before a cut and found after it, over all cuts.
    pub(crate) checked: u64,
    /// Cuts with a broken promise, and how they are described.
    pub(crate) broken: Vec<String>,
    /// Cuts after which a partition, or the broker, refused to serve.
    pub(crate) refused: Vec<String>,
    /// Cuts that the file system itself did not survive, so that nobody could look at what we left.
    pub(crate) unmounted: usize,
    /// Writes that were not flushed at a cut, over all cuts.
    pub(crate) pending: usize,
    pub(crate) milliseconds_per_cut: u128,
}

/// Looks at the disk after power cuts.
pub(crate) async fn look(plan: Plan, recording: &Recording, history: &Arc<History>, directory: &Path) -> Outcome {
    let lines = Arc::new(Lines::new(plan.seed));
    let mut random = Random::new(plan.seed ^ 0xc075);
    let mut moments = moments(plan, recording, history, &mut random);
    moments.sort_unstable();
    let mut replay = recording.replay();
    let mut outcome = Outcome::default();
    let mut running = JoinSet::new();
    let begun = Instant::now();
    for (number, cut) in moments.into_iter().enumerate() {
        while running.len() >= SIDE_BY_SIDE {
            outcome.add(running.join_next().await.expect("some run").expect("a look does not panic"), plan);
        }
        let loss = Loss::draw(&mut random);
        let image = directory.join(format!("cut-{number}"));
        outcome.pending += replay.cut(cut, loss, &mut random, &image);
        let (history, lines, kind) = (Arc::clone(history), Arc::clone(&lines), recording.kind);
        running.spawn(async move {
            let mount = image.with_extension("mnt");
            std::fs::create_dir(&mount).expect("a new directory");
            let what = format!("{} {number}: {cut} entries, {loss:?}", plan.name);
            let judgement = match kind.mount_after_cut(&image, &mount) {
                Ok(mounted) => Some(judge(&mounted.data_dir(), &history, &lines, cut, number % GO_ON_EVERY == 0).await),
                Err(why) => {
                    println!("UNMOUNTED {what}: {why}");
                    None
                }
            };
            (what, image, judgement)
        });
    }
    while let Some(judged) = running.join_next().await {
        outcome.add(judged.expect("a look does not panic"), plan);
    }
    outcome.milliseconds_per_cut = begun.elapsed().as_millis() / outcome.cuts.max(1) as u128;
    outcome
}

/// A third of the cuts are anywhere, a third right behind an acknowledgement, where what it promises has had no time to
/// get there by itself, and a third where much was in flight.
fn moments(plan: Plan, recording: &Recording, history: &History, random: &mut Random) -> Vec<u64> {
    let acked: Vec<u64> = history.sends.iter().filter_map(|send| send.span.acked).collect();
    let busy = recording.busy_moments();
    let one_of = |all: &[u64], random: &mut Random| all[random.index(all.len())].min(recording.entries);
    let moment = |number: usize| match number % 3 {
        1 => one_of(&acked, random),
        2 if !busy.is_empty() => one_of(&busy, random),
        _ => random.below(recording.entries + 1),
    };
    (0..plan.cuts).map(moment).collect()
}

/// Starts a broker on a data directory and judges what it serves; and that it goes on from there, if `go_on`.
async fn judge(data_dir: &Path, history: &History, lines: &Lines, cut: u64, go_on: bool) -> Judgement {
    let broker = match Launch::new(data_dir).try_start() {
        Ok(broker) => broker,
        Err(ended) => {
            let last = ended.stderr.lines().last().unwrap_or_default().to_owned();
            return Judgement { refused: vec![format!("the broker does not start: {last}")], ..Judgement::default() };
        }
    };
    let unexplained = |why| Judgement { broken: vec![why], ..Judgement::default() };
    let client = connect(broker.address()).await;
    let observed = match Observed::of(&client, GROUP, lines).await {
        Ok(observed) => observed,
        Err(why) => return unexplained(why),
    };
    let mut judgement = history.judge(&observed, cut);
    let is_right = judgement.broken.is_empty() && judgement.refused.is_empty();
    let appended =
        if go_on && is_right { append_everywhere(broker.address(), observed, lines).await.map(Some) } else { Ok(None) };
    broker.kill();
    let went_on = match appended {
        Ok(Some(due)) => serves_again(data_dir, &due, lines).await,
        other => other.map(drop),
    };
    judgement.broken.extend(went_on.err().map(|why| format!("the broker does not go on: {why}")));
    judgement
}

/// Appends a record to every partition that nothing else changes (compaction may, at any time); gives what must be
/// served from now on.
async fn append_everywhere(broker: SocketAddr, mut observed: Observed, lines: &Lines) -> Result<Observed, String> {
    observed.topics.remove(COMPACTED);
    for (topic, partitions) in &mut observed.topics {
        for (number, partition) in (0..).zip(partitions) {
            let Partition::Serves { end, records, .. } = partition else { continue };
            let line = u32::MAX - number;
            let value = lines.value(line, LAST_RECORD_BYTES);
            let offset = append(broker, topic, number, line, &value).await.map_err(|status| format!("{status:?}"))?;
            if offset != *end {
                return Err(format!("{topic}/{number}: offset {offset} was given, {end} was due"));
            }
            records.push(Record { offset, line, len: value.len() });
            *end += 1;
        }
    }
    Ok(observed)
}

/// Another broker must serve the same.
async fn serves_again(data_dir: &Path, due: &Observed, lines: &Lines) -> Result<(), String> {
    let broker = Launch::new(data_dir).try_start().map_err(|ended| ended.stderr)?;
    let observed = Observed::of(&connect(broker.address()).await, GROUP, lines).await?;
    broker.kill();
    let at = due.topics.iter().find(|(topic, partitions)| observed.topics.get(*topic) != Some(*partitions));
    match at {
        Some((topic, _)) => Err(format!("after another kill, {topic} is not what it was")),
        None => Ok(()),
    }
}

impl Outcome {
    fn add(&mut self, (what, image, judgement): (String, PathBuf, Option<Judgement>), plan: Plan) {
        self.cuts += 1;
        self.unmounted += usize::from(judgement.is_none());
        let judgement = judgement.unwrap_or_default();
        self.checked += judgement.checked;
        self.flagged += usize::from(!judgement.broken.is_empty() || !judgement.refused.is_empty());
        for (found, all, word) in
            [(judgement.broken, &mut self.broken, "BROKEN"), (judgement.refused, &mut self.refused, "REFUSED")]
        {
            if let Some(first) = found.first() {
                let more = found.len() - 1;
                all.push(format!("{what}: {first} (and {more} more)"));
                if all.len() <= plan.printed_max {
                    println!("{word} {what}");
                    found.iter().take(plan.printed_max).for_each(|line| println!("    {line}"));
                    keep(&image);
                }
            }
        }
        remove(&image);
    }
}

/// Keeps the image of a cut that went wrong, if `MILLSTREAM_KEEP` names a directory for them. (The broker that looked
/// at it has changed it.)
fn keep(image: &Path) {
    if let Some(directory) = std::env::var_os("MILLSTREAM_KEEP") {
        let copy = Path::new(&directory).join(image.file_name().expect("it has a name"));
        let kept = std::process::Command::new("cp").arg("--sparse=always").arg(image).arg(&copy).status();
        println!("    kept as {}: {kept:?}", copy.display());
    }
}

#[expect(clippy::disallowed_methods, reason = "images are not files of the log")]
fn remove(image: &Path) {
    std::fs::remove_file(image).expect("it was made here");
}
