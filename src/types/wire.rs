//! Protobuf bytes, read within bounds and written: what the encoded record set is walked and made with.

use bytes::BufMut;

pub(super) const WIRE_VARINT: u32 = 0;
pub(super) const WIRE_FIXED64: u32 = 1;
pub(super) const WIRE_BYTES: u32 = 2;
pub(super) const WIRE_FIXED32: u32 = 5;

/// A reading position in borrowed bytes. Everything below reads through it, so nothing can run past the end.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) position: usize,
}

/// Where reading failed, and what was expected there.
pub(super) type Fault = (usize, &'static str);

impl<'a> Cursor<'a> {
    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.bytes.len()
    }

    #[expect(clippy::inline_always, reason = "the walk over records is twice as long with calls")]
    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.position) {
            // Nearly all of them: tags, and lengths below 128.
            Some(&byte) if byte < 0x80 => {
                self.position += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        let start = self.position;
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.bytes.get(self.position) else {
                return Err((start, "the bytes end inside a number"));
            };
            self.position += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err((start, "a number has more than 64 bits"))
    }

    /// The bytes of a length-delimited field, as a cursor over the same memory that ends where the field ends.
    #[expect(clippy::inline_always, reason = "the walk over records is twice as long with calls")]
    #[inline(always)]
    pub(super) fn field(&mut self) -> Result<Cursor<'a>, Fault> {
        let start = self.position;
        let len = self.varint()?;
        let end = usize::try_from(len).ok().and_then(|len| self.position.checked_add(len));
        match end {
            Some(end) if end <= self.bytes.len() => {
                let field = Cursor { bytes: &self.bytes[..end], position: self.position };
                self.position = end;
                Ok(field)
            }
            _ => Err((start, "a length points past the end")),
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), Fault> {
        if self.bytes.len() - self.position < bytes {
            return Err((self.position, "the bytes end inside a field"));
        }
        self.position += bytes;
        Ok(())
    }

    /// Field number and wire type.
    #[expect(clippy::inline_always, reason = "the walk over records is twice as long with calls")]
    #[inline(always)]
    pub(super) fn tag(&mut self) -> Result<(u32, u32), Fault> {
        let start = self.position;
        let tag = u32::try_from(self.varint()?).map_err(|_| (start, "a field number is too large"))?;
        if tag >> 3 == 0 {
            return Err((start, "field number 0 does not exist"));
        }
        Ok((tag >> 3, tag & 7))
    }

    pub(super) fn skip_unknown(&mut self, wire: u32) -> Result<(), Fault> {
        match wire {
            WIRE_VARINT => self.varint().map(drop),
            WIRE_FIXED64 => self.skip(8),
            WIRE_BYTES => self.field().map(drop),
            WIRE_FIXED32 => self.skip(4),
            _ => Err((self.position, "groups are not supported")),
        }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }
}

pub(super) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Encoded size of a length-delimited field with a one-byte tag.
pub(super) fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Tags, lengths and numbers on their way into a buffer: gathered here, so that the buffer is asked for room once for
/// all that stand before the next bytes.
#[derive(Default)]
pub(super) struct Prefix {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Prefix {
    /// Two tags and two lengths, or a tag and a number.
    const BYTES_MAX: usize = 32;

    #[inline]
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.byte(value.to_le_bytes()[0]);
    }

    #[inline]
    pub(super) fn bytes_header(&mut self, field: u32, len: usize) {
        self.varint(u64::from(field << 3 | WIRE_BYTES));
        self.varint(len as u64);
    }

    /// Writes what was gathered, if anything was, and `bytes` behind it.
    #[inline]
    pub(super) fn flush(&mut self, out: &mut impl BufMut, bytes: &[u8]) {
        if self.len > 0 {
            out.put_slice(&self.bytes[..self.len]);
            self.len = 0;
        }
        out.put_slice(bytes);
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}
