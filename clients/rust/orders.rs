//! Produces, consumes in a group, and goes on after reconnecting where it stopped.

use millstream::client::admin::TopicSettings;
use millstream::client::{Client, ClientError, ConsumerOptions, Event, NewRecord, ProducerOptions};
use millstream::types::{Position, TopicName};

/// Runs against the broker given as the first argument.
#[tokio::main]
#[allow(dead_code, reason = "the test that includes this file calls `run` itself")]
async fn main() -> Result<(), ClientError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    for line in run(&address).await? {
        println!("{line}");
    }
    Ok(())
}

/// Sends ten orders, reads four of them, connects again and reads the rest. Gives what was read.
pub(crate) async fn run(address: &str) -> Result<Vec<String>, ClientError> {
    let client = Client::connect(address).await?;
    let topic = TopicName::new("orders").map_err(ClientError::Name)?;
    client.create_topic(&topic, 3, &TopicSettings::default()).await?;

    let producer = client.producer("orders", ProducerOptions::default()).await?;
    for number in 0..9 {
        let (key, value) = (format!("customer-{}", number % 3), format!("order {number}"));
        let _ = producer.send(NewRecord::value(value.as_bytes()).with_key(key.as_bytes())).await?;
    }
    // A receipt tells where a record is; it is there when its topic's durability is reached.
    let receipt = producer.send(NewRecord::value(b"order 9").with_key(b"customer-0")).await?;
    let ack = receipt.wait().await?;
    assert!(ack.partition < 3);
    producer.flush().await?;

    let mut lines = read(&client, &topic, 4).await?;
    lines.extend(read(&Client::connect(address).await?, &topic, 6).await?);
    Ok(lines)
}

/// Joins the group, reads `count` records, commits them and leaves.
async fn read(client: &Client, topic: &TopicName, count: usize) -> Result<Vec<String>, ClientError> {
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        start: Position::Earliest,
        ..ConsumerOptions::new(vec![topic.clone()])
    };
    let mut consumer = client.consumer(options).await?;
    let mut lines = Vec::new();
    while lines.len() < count {
        let Event::Records(records) = consumer.next().await? else { continue };
        for record in
            records.batches.iter().flat_map(millstream::client::ConsumedBatch::records).take(count - lines.len())
        {
            let text = |bytes: Option<bytes::Bytes>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            lines.push(format!(
                "{}/{} {} = {}",
                record.partition.partition,
                record.offset,
                text(record.key),
                text(record.value)
            ));
            consumer.mark(&record.partition, record.offset.advance(1));
        }
    }
    consumer.commit_marked().await?;
    Ok(lines)
}
