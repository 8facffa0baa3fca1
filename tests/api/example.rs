//! The Rust examples do what they say.

use crate::common::TestBroker;

#[allow(dead_code, reason = "its main function is for people")]
#[path = "../../clients/rust/orders.rs"]
mod orders;
#[allow(dead_code, reason = "its main function is for people")]
#[path = "../../clients/rust/round_trip.rs"]
mod round_trip;

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_example_goes_on_where_it_stopped() {
    let broker = TestBroker::start().await;
    let mut read = orders::run(&broker.address()).await.expect("the example runs");
    assert_eq!(read.len(), 10, "{read:?}");
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len(), 10, "no order is read twice: {read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_example_asks_and_answers() {
    let broker = TestBroker::start().await;
    let took = round_trip::run(&broker.address(), millstream::types::Durability::Written, 20).await;
    assert_eq!(took.expect("the example runs").len(), 20);
}
