//! Dead letters that are sent back while the broker is killed.

use crate::history::Event;
use crate::history::audit::reason_of;
use crate::history::payload::Random;
use crate::world::World;
use bytes::Bytes;
use millstream::client::admin::{LetterSelection, RedriveOptions};
use millstream::client::{Client, ClientError};
use millstream::types::Offset;
use std::sync::Arc;
use std::time::Duration;

/// No redrive sends more: whoever audits waits for it.
const LETTERS_MAX: u64 = 100;

/// Sends dead letters of any queue back to where they came from, now and then, until the world closes.
pub(crate) async fn redrive(world: Arc<World>, client: Client, mut random: Random) {
    while !world.is_closing() {
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        let _open = world.gate.read().await;
        let queue = u16::try_from(random.below(world.subject.letters.len() as u64)).expect("few");
        let letters_max = 1 + random.below(LETTERS_MAX);
        world.recorder.record(Event::RedriveAsked { queue });
        match redrive_some(&world, &client, queue, letters_max).await {
            Ok(()) => world.recorder.record(Event::RedriveDone { queue }),
            // One that was cut off may still be in its last step, or there is no room: this one has sent nothing more.
            Err(error) if ["LETTERS_BUSY", "DISK_FULL"].contains(&reason_of(&error)) => {
                world.recorder.record(Event::RedriveDone { queue });
            }
            // The broker is down, or out of reach.
            Err(_) => {}
        }
    }
}

/// Waits until no redrive is at work: one whose caller is gone ends after its step.
pub(crate) async fn until_none_is_at_work(client: &Client, world: &World) {
    for topic in &world.subject.letters {
        let (topic, key, end_offset) = (topic.clone(), Some(Bytes::from_static(b"of none")), Some(Offset(1)));
        let none = LetterSelection { topic, key, end_offset, ..LetterSelection::default() };
        while let Err(error) = client.redrive_dead_letters(&none, &RedriveOptions::default()).await {
            assert_eq!(reason_of(&error), "LETTERS_BUSY", "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn redrive_some(world: &World, client: &Client, queue: u16, letters_max: u64) -> Result<(), ClientError> {
    let topic = world.subject.letters[usize::from(queue)].clone();
    let selection = LetterSelection { topic, ..LetterSelection::default() };
    let options = RedriveOptions { letters_max, ..RedriveOptions::default() };
    let mut redrive = client.redrive_dead_letters(&selection, &options).await?;
    while let Some(progress) = redrive.next().await? {
        for letter in progress.letters {
            let log = world.subject.log(&letter.to).expect("a log of the history");
            let offset = letter.to_offset.expect("it is no dry run").0;
            world.recorder.record(Event::RedriveTold { queue, at: letter.offset.0, log, offset });
        }
        for letter in progress.refused {
            world.trouble(format!("letter {} of queue {queue} cannot go: {}", letter.offset, letter.refusal));
        }
    }
    Ok(())
}
