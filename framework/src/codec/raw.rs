//! Raw: a message is what one read returned.

use crate::codec::Decoded;

/// Everything there is; a read that returned nothing is no message.
pub(super) const fn decode(bytes: &[u8]) -> Decoded {
    match bytes.len() {
        0 => Decoded::Incomplete,
        len => Decoded::Frame { body: 0..len, consumed: len },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_are_one_message_and_none_are_no_message() {
        assert_eq!(decode(b"a\nb\0"), Decoded::Frame { body: 0..4, consumed: 4 });
        assert_eq!(decode(b""), Decoded::Incomplete);
    }
}
