//! The lease token: what a receiver shows to settle a message. Opaque to clients, 53 bytes.
//!
//! It names the queue's life, the coordinator's run, the message, its attempt and the delivery. All of them must be
//! those of the present lease. It is no secret: who may call the broker may settle.

use super::ids::{DeliveryId, PartitionKey, Place, QueueId, Run};
use crate::types::{Offset, TopicId};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The first byte; another one is another layout.
const VERSION: u8 = 1;

/// Bytes of a token.
pub(super) const TOKEN_BYTES: usize = 1 + 8 + 4 + 16 + 4 + 8 + 4 + 8;

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseToken {
    pub queue: QueueId,
    pub run: Run,
    pub place: Place,
    pub attempt: u32,
    pub delivery: DeliveryId,
}

impl LeaseToken {
    /// Appends the token's bytes: all tokens of a delivery stand in one buffer.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u64_le(self.queue.0);
        out.put_u32_le(self.run.0);
        out.put_slice(self.place.at.topic_id.0.as_bytes());
        out.put_u32_le(self.place.at.partition);
        out.put_u64_le(self.place.offset.0);
        out.put_u32_le(self.attempt);
        out.put_u64_le(self.delivery.0);
    }

    /// `None` for bytes that are no token.
    pub(super) fn decode(token: &Bytes) -> Option<Self> {
        if token.len() != TOKEN_BYTES || token[0] != VERSION {
            return None;
        }
        let mut rest = &token[1..];
        let (queue, run) = (QueueId(rest.get_u64_le()), Run(rest.get_u32_le()));
        let mut id = [0; 16];
        rest.copy_to_slice(&mut id);
        let at = PartitionKey { topic_id: TopicId(uuid::Uuid::from_bytes(id)), partition: rest.get_u32_le() };
        let place = Place { at, offset: Offset(rest.get_u64_le()) };
        Some(Self { queue, run, place, attempt: rest.get_u32_le(), delivery: DeliveryId(rest.get_u64_le()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_bytes_and_nothing_else_does() {
        let at = PartitionKey { topic_id: TopicId(uuid::Uuid::from_u128(7 << 64)), partition: u32::MAX };
        let place = Place { at, offset: Offset(u64::MAX) };
        let token =
            LeaseToken { queue: QueueId(3), run: Run(9), place, attempt: 17, delivery: DeliveryId(u64::MAX - 1) };
        let mut bytes = BytesMut::new();
        token.encode(&mut bytes);
        let bytes = bytes.freeze();
        assert_eq!(bytes.len(), TOKEN_BYTES);
        assert_eq!(LeaseToken::decode(&bytes), Some(token));
        for cut in 0..TOKEN_BYTES {
            assert_eq!(LeaseToken::decode(&bytes.slice(..cut)), None);
        }
        let other_version = [&[VERSION + 1][..], &bytes[1..]].concat();
        assert_eq!(LeaseToken::decode(&other_version.into()), None);
    }
}
