//! Asks, answers, and measures how long that takes: one caller, one worker of a queue.

use millstream::client::admin::{QueueSettings, TopicSettings};
use millstream::client::{Client, ClientError, NewRecord, QueueEvent, QueueWindow, RequestOptions, Verdict};
use millstream::types::{Durability, Position, TopicName};
use std::time::{Duration, Instant};

/// Runs against the broker given as the first argument: so many requests (1,000) of each durability.
#[tokio::main]
#[allow(dead_code, reason = "the test that includes this file calls `run` itself")]
async fn main() -> Result<(), ClientError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    let requests = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(1_000);
    for durability in [Durability::Written, Durability::Synced] {
        let mut took = run(&address, durability, requests).await?;
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        println!("{durability:?}: {requests} round trips, p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
    }
    Ok(())
}

/// Makes a topic and a queue, answers each request with twice its number, and gives the time that each took.
pub(crate) async fn run(address: &str, durability: Durability, requests: u32) -> Result<Vec<Duration>, ClientError> {
    let client = Client::connect(address).await?;
    let name = format!("round-trip-{durability:?}-{}", std::process::id());
    let topic = TopicName::new(&name).map_err(ClientError::Name)?;
    let settings = TopicSettings { durability: Some(durability), ..TopicSettings::default() };
    client.create_topic(&topic, 1, &settings).await?;
    let settings = QueueSettings { durability: Some(durability), ..QueueSettings::default() };
    client.create_queue(&name, std::slice::from_ref(&topic), Position::Earliest, &settings).await?;
    let worker = tokio::spawn(answer(Client::connect(address).await?, name.clone()));

    let mut took = Vec::new();
    for number in 0..requests {
        let begun = Instant::now();
        let asked = number.to_string();
        let reply = client.request(&name, NewRecord::value(asked.as_bytes()), &RequestOptions::default()).await?;
        took.push(begun.elapsed());
        assert_eq!(reply.record.value.as_deref(), Some((number * 2).to_string().as_bytes()));
    }
    worker.abort();
    client.delete_queue(&name).await?;
    client.delete_topic(&topic).await?;
    Ok(took)
}

/// A worker: replies to each message, then is done with it.
async fn answer(client: Client, queue: String) -> Result<(), ClientError> {
    let mut stream = client.receive_stream(&queue, QueueWindow { messages: 1, bytes: 1 << 20 }).await?;
    loop {
        let QueueEvent::Messages(messages) = stream.next().await? else { continue };
        for message in messages {
            let value = message.record.value.as_deref().unwrap_or_default();
            let number: u32 = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
            if let Some(token) = message.record.reply_token() {
                client.reply(token, NewRecord::value((number * 2).to_string().as_bytes()), None).await?;
            }
            stream.settle(vec![message.settle(Verdict::Ack)])?;
        }
    }
}
