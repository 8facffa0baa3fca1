//! The reply token: what a replier shows. Opaque to clients; text, because it travels in a header and on command lines.
//!
//! It names the run and the call, and carries where the reply is to be appended, so that this outlives the run. Nobody can
//! guess the number of a call. The reply topic stands in it openly and is not signed: who can call `Reply` can also
//! produce.

use crate::types::TopicName;
use crate::types::record_set::MESSAGE_ID_BYTES_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// The first byte; another one is another layout.
const VERSION: u8 = 1;

/// Bytes that name run and call.
const NAMES_BYTES: usize = 1 + 16 + 16;

/// No token is longer: a version, run and call, the longest topic name with its length, the longest correlation id.
const TOKEN_BYTES_MAX: usize = NAMES_BYTES + 1 + u8::MAX as usize + MESSAGE_ID_BYTES_MAX;

/// One call that waits, or has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(Uuid);

/// Where a reply is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// The topic.
    pub topic: TopicName,
    /// What request and reply have in common there; 1 to [`MESSAGE_ID_BYTES_MAX`] bytes.
    pub correlation_id: String,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyToken {
    pub(super) run: Uuid,
    /// The call.
    pub call: CallId,
    /// Where the reply is appended, whoever waits.
    pub reply_to: Option<ReplyTo>,
}

impl CallId {
    /// A number that nobody can guess.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl std::fmt::Display for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ReplyToken {
    /// As text, of `A-Za-z0-9_-`.
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.run.as_bytes());
        bytes.extend_from_slice(self.call.0.as_bytes());
        if let Some(ReplyTo { topic, correlation_id }) = &self.reply_to {
            let name = topic.as_str().as_bytes();
            bytes.push(u8::try_from(name.len()).expect("the name of a topic has at most 249 bytes"));
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(correlation_id.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for text that is no token.
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > TOKEN_BYTES_MAX.div_ceil(3) * 4 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (names, rest) = bytes.split_at_checked(NAMES_BYTES)?;
        if names[0] != VERSION {
            return None;
        }
        let id = |bytes: &[u8]| Uuid::from_slice(bytes).ok();
        let (run, call) = (id(&names[1..17])?, CallId(id(&names[17..])?));
        let reply_to = match rest.split_first() {
            None => None,
            Some((len, rest)) => Some(reply_to(rest.split_at_checked((*len).into())?)?),
        };
        Some(Self { run, call, reply_to })
    }
}

fn reply_to((name, correlation_id): (&[u8], &[u8])) -> Option<ReplyTo> {
    let topic = TopicName::new(std::str::from_utf8(name).ok()?).ok()?;
    let correlation_id = std::str::from_utf8(correlation_id).ok().filter(|id| is_correlation_id(id))?.to_owned();
    Some(ReplyTo { topic, correlation_id })
}

/// Whether a request can be known by this.
pub(super) fn is_correlation_id(id: &str) -> bool {
    (1..=MESSAGE_ID_BYTES_MAX).contains(&id.len())
}

impl ReplyTo {
    /// `None` if the correlation id is empty or too long.
    pub fn new(topic: TopicName, correlation_id: String) -> Option<Self> {
        is_correlation_id(&correlation_id).then_some(Self { topic, correlation_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(reply_to: Option<ReplyTo>) -> ReplyToken {
        ReplyToken { run: Uuid::from_u128(7), call: CallId(Uuid::from_u128(u128::MAX)), reply_to }
    }

    #[test]
    fn a_token_comes_back_from_its_text_and_nothing_else_does() {
        let topic = TopicName::new(&"t".repeat(249)).expect("valid");
        let longest = ReplyTo::new(topic, "x".repeat(MESSAGE_ID_BYTES_MAX));
        for token in [token(None), token(longest)] {
            let text = token.encode();
            assert_eq!(ReplyToken::decode(&text), Some(token.clone()));
            assert_eq!(ReplyToken::decode(&format!("{text}=")), None);
            for cut in 0..44.min(text.len()) {
                assert_eq!(ReplyToken::decode(&text[..cut]), None, "{cut}");
            }
        }
        let mut other_version = URL_SAFE_NO_PAD.decode(token(None).encode()).expect("it is base64");
        other_version[0] += 1;
        assert_eq!(ReplyToken::decode(&URL_SAFE_NO_PAD.encode(other_version)), None);
        assert_eq!(ReplyToken::decode(&"A".repeat(10_000)), None);
    }

    #[test]
    fn a_name_that_is_none_makes_no_token() {
        let text = token(ReplyTo::new(TopicName::new("results").expect("valid"), "c".to_owned())).encode();
        let bytes = URL_SAFE_NO_PAD.decode(text).expect("it is base64");
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            ReplyToken::decode(&URL_SAFE_NO_PAD.encode(bytes))
        };
        assert_eq!(with(NAMES_BYTES, 200), None, "a length beyond the end");
        assert_eq!(with(NAMES_BYTES, 8), None, "no correlation id");
        assert_eq!(with(NAMES_BYTES + 1, b'/'), None, "no topic name");
        assert_eq!(with(NAMES_BYTES + 1, 0xFF), None, "not UTF-8");
    }
}
