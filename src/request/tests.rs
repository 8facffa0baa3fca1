//! Who gets which reply, and who is told that nobody does.

use super::*;

fn reply(text: &'static str) -> Reply {
    Reply { record: Bytes::from_static(text.as_bytes()), failure: None }
}

fn requests() -> Arc<Requests> {
    Arc::new(Requests::new(2, 2))
}

#[tokio::test]
async fn the_first_reply_reaches_its_call_and_the_second_is_refused() {
    let requests = requests();
    let (mut one, mut two) = (requests.open(None).expect("room"), requests.open(None).expect("room"));
    let (first, second) = (one.token().clone(), two.token().clone());
    assert!(requests.claim(&second).expect("it waits").deliver(reply("two")));
    assert!(requests.claim(&first).expect("it waits").deliver(reply("one")));
    assert_eq!((one.reply().await, two.reply().await), (reply("one"), reply("two")));
    assert_eq!(requests.claim(&first).expect_err("it has one"), RequestError::AlreadyGiven);
}

#[test]
fn as_many_calls_wait_as_may_and_those_that_leave_make_room() {
    let requests = requests();
    let _one = requests.open(None).expect("room");
    let two = requests.open(None).expect("room");
    assert_eq!(requests.open(None).expect_err("full"), RequestError::TooManyWaiting { limit: 2 });
    let token = two.token().clone();
    drop(two);
    let cause = Unawaited::CallerGone;
    assert_eq!(requests.claim(&token).expect_err("it has gone"), RequestError::NotAwaited { cause });
    requests.open(None).expect("there is room again");
}

#[tokio::test]
async fn a_reply_that_could_not_be_given_can_be_given_again() {
    let requests = requests();
    let mut call = requests.open(None).expect("room");
    let token = call.token().clone();
    let claim = requests.claim(&token).expect("it waits");
    assert_eq!(requests.claim(&token).expect_err("another one is on its way"), RequestError::AlreadyGiven);
    drop(claim);
    assert!(requests.claim(&token).expect("it waits again").deliver(reply("late")));
    assert_eq!(call.reply().await, reply("late"));
}

/// The giver was told that it is delivered: the caller must not say that nothing came.
#[test]
fn a_reply_at_the_last_moment_is_not_lost() {
    let requests = requests();
    let call = requests.open(None).expect("room");
    let claim = requests.claim(call.token()).expect("it waits");
    assert!(claim.deliver(reply("just in time")));
    assert_eq!(call.give_up(), Some(reply("just in time")));
    let call = requests.open(None).expect("room");
    let claim = requests.claim(call.token()).expect("it waits");
    assert_eq!(call.give_up(), None);
    assert!(!claim.deliver(reply("too late")), "and then nobody is told otherwise");
}

#[test]
fn a_caller_that_leaves_while_a_reply_is_on_its_way_does_not_wait_again() {
    let requests = requests();
    let call = requests.open(None).expect("room");
    let token = call.token().clone();
    let claim = requests.claim(&token).expect("it waits");
    drop((call, claim));
    assert_eq!(requests.state().waiting.len(), 0);
    assert!(matches!(requests.claim(&token), Err(RequestError::NotAwaited { .. })));
}

#[test]
fn with_a_reply_topic_a_call_that_nobody_waits_for_is_replied_to_once_in_any_run() {
    let topic = crate::types::TopicName::new("results").expect("valid");
    let before = requests();
    let token = before.open(ReplyTo::new(topic, "c".to_owned())).expect("room").token().clone();
    let after = requests();
    assert!(!after.claim(&token).expect("its topic is there").deliver(reply("r")));
    assert_eq!(after.claim(&token).expect_err("it has one"), RequestError::AlreadyGiven);
    let plain = before.open(None).expect("room").token().clone();
    let cause = Unawaited::BrokerRestarted;
    assert_eq!(after.claim(&plain).expect_err("of another run"), RequestError::NotAwaited { cause });
}

#[test]
fn the_memory_of_replies_is_bounded() {
    let requests = requests();
    let tokens: Vec<_> = (0..3)
        .map(|_| {
            let call = requests.open(None).expect("room");
            requests.claim(call.token()).expect("it waits").deliver(reply("r"));
            call.token().clone()
        })
        .collect();
    assert!(matches!(requests.claim(&tokens[0]), Err(RequestError::NotAwaited { .. })), "long ago");
    assert!(matches!(requests.claim(&tokens[2]), Err(RequestError::AlreadyGiven)));
}
