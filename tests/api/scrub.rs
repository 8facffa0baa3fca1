//! Damage in a sealed segment is found without a reader, shown to whoever asks, and keeps nobody from the rest.

use crate::common::records::sized;
use crate::common::refusal::refusal;
use crate::common::{TestBroker, until};
use millstream::proto::{FetchPosition, FetchRequest, TopicOptions};
use millstream::types::TopicName;
use std::os::unix::fs::FileExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_by_a_scrub_and_shown_where_the_topic_is_described() {
    let broker = TestBroker::start().await;
    let options = TopicOptions { segment_bytes: Some(1 << 20), ..Default::default() };
    let topic = broker.create_topic_with("orders", 1, options).await;
    for _ in 0..4 {
        broker.append("orders", 0, sized(1, 900_000)).await;
    }
    let client = broker.client().await;
    let name = TopicName::new("orders").expect("valid");
    let directory = broker.data_dir().join("topics").join(&topic.topic_id).join("0");
    let path = directory.join("00000000000000000001.log");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the segment is there");
    file.write_all_at(b"X", 5_000).expect("written past the broker");

    let read_before = client.server_info().await.expect("answers").scrub.bytes_read;
    assert!(client.start_scrub().await.expect("answers"), "the pass of the start has nothing to do");
    let partition = until("the scrub to find it", async || {
        let (_, mut partitions) = client.topic(&name).await.expect("answers");
        Some(partitions.remove(0)).filter(|state| !state.damaged.is_empty())
    })
    .await;
    let [range] = &partition.damaged[..] else { panic!("one range was damaged: {:?}", partition.damaged) };
    assert_eq!((range.first_offset.0, range.next_offset.0, range.position), (1, 2, 64));
    assert!(range.file.ends_with("00000000000000000001.log") && range.what.contains("checksum"), "{range:?}");

    let scrub = until("the pass to end", async || {
        Some(client.server_info().await.expect("answers").scrub).filter(|scrub| !scrub.is_running)
    })
    .await;
    assert_eq!(scrub.damaged_ranges, 1);
    assert!(scrub.ended_at.is_some() && scrub.bytes_read - read_before > 2_700_000, "{scrub:?}");
    assert!(broker.has_metric("millstream_scrub_damaged_ranges 1").await);

    for offset in [0, 2, 3] {
        assert_eq!(broker.fetch("orders", 0, offset).await.batches[0].base_offset, offset);
    }
    let position = FetchPosition { topic: "orders".into(), partition: 0, offset: 1 };
    let request = FetchRequest { positions: vec![position], ..Default::default() };
    let answer = broker.consumer().fetch(request).await;
    let reason = match answer {
        Ok(answer) => {
            let error = answer.into_inner().partitions.remove(0).error.expect("what is damaged is not served");
            error.reason
        }
        status => refusal(status).reason,
    };
    assert_eq!(reason, "DATA_CORRUPT");

    broker.delete_records("orders", 0, 2).await;
    assert!(broker.has_metric("millstream_scrub_damaged_ranges 0").await, "it went with its segment");
}
