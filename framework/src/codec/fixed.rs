//! Fixed: every message has the same number of bytes, and nothing stands between two of them.

use crate::codec::{Decoded, EncodeError, Envelope, FrameError};

/// The settings of [`Framing::fixed`](crate::codec::Framing::fixed).
///
/// # Examples
///
/// ```
/// use switchboard::codec::Framing;
///
/// assert!(matches!(Framing::fixed(16), Framing::Fixed(_)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Never 0.
    len: usize,
}

impl Fixed {
    /// 1 GiB: no record is that long, and a slip of the pen often is.
    pub(super) const LARGEST: usize = 1 << 30;

    /// None if there can be no such messages.
    pub(super) const fn new(len: usize) -> Option<Self> {
        if len == 0 || len > Self::LARGEST { None } else { Some(Self { len }) }
    }

    pub(super) const fn len(self) -> usize {
        self.len
    }

    pub(super) const fn envelope(self, len: usize) -> Result<Envelope, EncodeError> {
        if len != self.len {
            return Err(EncodeError::WrongLength { len, expected: self.len });
        }
        Ok(Envelope::EMPTY)
    }

    #[inline]
    pub(super) const fn decode(self, bytes: &[u8]) -> Decoded {
        if bytes.len() < self.len {
            return Decoded::Incomplete;
        }
        Decoded::Frame { body: 0..self.len, consumed: self.len }
    }

    pub(super) const fn decode_end(self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        match self.decode(bytes) {
            Decoded::Incomplete if !bytes.is_empty() => {
                Err(FrameError::Unfinished { have: bytes.len() })
            }
            decoded => Ok(decoded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_so_many_bytes_and_waits_for_the_last() {
        let three = Fixed::new(3).expect("a length");
        assert_eq!(three.decode(b"ab"), Decoded::Incomplete);
        assert_eq!(three.decode(b"abcd"), Decoded::Frame { body: 0..3, consumed: 3 });
        assert_eq!(three.decode_end(b""), Ok(Decoded::Incomplete));
        assert_eq!(three.decode_end(b"ab"), Err(FrameError::Unfinished { have: 2 }));
    }

    #[test]
    fn only_a_message_of_that_length_goes_out() {
        let three = Fixed::new(3).expect("a length");
        assert_eq!(three.envelope(3), Ok(Envelope::EMPTY));
        for len in [0, 2, 4] {
            assert_eq!(three.envelope(len), Err(EncodeError::WrongLength { len, expected: 3 }));
        }
    }

    #[test]
    fn messages_of_no_bytes_and_of_more_than_a_gibibyte_are_impossible() {
        assert_eq!(Fixed::new(0), None);
        assert_eq!(Fixed::new((1 << 30) + 1), None);
        assert!(Fixed::new(1 << 30).is_some());
    }
}
