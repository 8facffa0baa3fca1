//! The output of a command as the reply to its message.
//!
//! A reply is given once the matter is at its end: the command has succeeded, the message is rejected, or this was its
//! last attempt. It goes before the verdict: a worker that dies between the two makes the message come again, and the
//! second reply is refused.

use crate::client::{Client, ClientError, NewRecord, QueueMessage, Verdict};
use crate::limits;
use std::io::{Read, Write as _};

/// The most output that fits a reply; the rest is for what frames it.
const OUTPUT_BYTES_MAX: usize = limits::REPLY_BYTES_MAX - 64;

/// What a command has written, as far as a reply can hold it.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl Output {
    /// Reads to the end, or to the most.
    pub(super) fn read(from: impl Read) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        from.take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        let is_too_long = bytes.len() > OUTPUT_BYTES_MAX;
        Ok(Self { bytes: crate::cli::whole_input::without_last_newline(bytes), is_too_long })
    }

    /// More output than a reply can hold does not get less by trying again, whatever the command says of itself.
    pub(super) fn judge(&mut self, verdict: Verdict) -> Verdict {
        if !self.is_too_long {
            return verdict;
        }
        self.bytes.clear();
        Verdict::Reject { reason: format!("the command wrote more than the {OUTPUT_BYTES_MAX} bytes of a reply") }
    }
}

/// Gives the reply, if there is one to give now; the verdict that follows.
pub(super) async fn reply(
    client: &Client,
    queue: &str,
    message: &QueueMessage,
    output: &Output,
    verdict: Verdict,
) -> Verdict {
    let Some(token) = message.record.reply_token() else {
        // Nobody asked; it is for whoever watches the worker.
        if !output.bytes.is_empty() {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(&output.bytes).and_then(|()| stdout.write_all(b"\n"));
        }
        return verdict;
    };
    let failure = match &verdict {
        Verdict::Ack => None,
        Verdict::Reject { reason } => Some(reason.as_str()),
        Verdict::Nack { reason, .. } if is_last_attempt(client, queue, message).await => Some(reason.as_str()),
        _ => return verdict,
    };
    match client.reply(token, NewRecord::value(&output.bytes), failure).await {
        Ok(_) => verdict,
        Err(error) => after_refusal(message, &error, verdict),
    }
}

/// Without an answer the attempt is not known to be the last.
async fn is_last_attempt(client: &Client, queue: &str, message: &QueueMessage) -> bool {
    let described = client.describe_queue(queue).await;
    let attempts_max = described.ok().and_then(|described| described.queue.settings.attempts_max);
    attempts_max.is_some_and(|most| most > 0 && message.attempt >= most)
}

/// Work that is done stays done when nobody waits for its reply. A reply that could not be given for another reason is
/// tried again with the message, so that it ends in a reply or as a dead letter, and never without a word.
fn after_refusal(message: &QueueMessage, error: &ClientError, verdict: Verdict) -> Verdict {
    let (at, offset) = (&message.record.partition, message.record.offset);
    eprintln!("millstream: {at} offset {offset}: {error}");
    let reason = error.refusal().map(|refusal| refusal.reason.as_str());
    match (&verdict, reason) {
        (Verdict::Ack, Some("REPLY_NOT_AWAITED" | "REPLY_ALREADY_GIVEN")) => verdict,
        (Verdict::Ack, _) => Verdict::Nack { delay: None, reason: format!("the reply could not be given: {error}") },
        _ => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_a_reply_without_its_last_newline_and_too_much_is_none() {
        let mut output = Output::read(&b"42\n"[..]).expect("it can be read");
        assert_eq!((output.judge(Verdict::Ack), output.bytes.as_slice()), (Verdict::Ack, b"42".as_slice()));
        let most = vec![b'x'; OUTPUT_BYTES_MAX];
        let mut output = Output::read(&most[..]).expect("it can be read");
        assert_eq!((output.judge(Verdict::Ack), output.bytes.len()), (Verdict::Ack, OUTPUT_BYTES_MAX));
        let mut output = Output::read(std::io::repeat(b'x')).expect("it can be read");
        assert!(matches!(output.judge(Verdict::Ack), Verdict::Reject { .. }));
        assert_eq!(output.bytes, b"");
    }
}
