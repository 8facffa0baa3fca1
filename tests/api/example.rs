//! The Rust example does what it says.

use crate::common::TestBroker;

#[allow(dead_code, reason = "its main function is for people")]
#[path = "../../clients/rust/orders.rs"]
mod orders;

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_example_goes_on_where_it_stopped() {
    let broker = TestBroker::start().await;
    let mut read = orders::run(&broker.address()).await.expect("the example runs");
    assert_eq!(read.len(), 10, "{read:?}");
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len(), 10, "no order is read twice: {read:?}");
}
