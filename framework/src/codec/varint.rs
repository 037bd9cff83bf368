//! Varint: an integer in groups of seven bits, the lowest first, as protobuf's delimited streams have it.

use crate::codec::{Envelope, FrameError};

/// Bytes at most: ten groups of seven bits hold 64.
pub(super) const LONGEST: usize = 10;

/// The varint at the beginning of `bytes`: its size and what it says, if it is whole.
///
/// Groups of zeros at its end are read as protobuf's readers do: a writer that leaves room for a length
/// before it knows it pads it so. What such a length says is not in doubt.
#[inline]
pub(super) fn read(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut value: u64 = 0;
    for (at, byte) in bytes.iter().take(LONGEST).enumerate() {
        let group = u64::from(byte & 0x7f);
        let last = at + 1 == LONGEST;
        // Nine groups hold 63 bits: the tenth has room for one, and nothing may follow it.
        if last && (group > 1 || byte & 0x80 != 0) {
            return Err(FrameError::MalformedLength);
        }
        value |= group << (7 * at);
        if byte & 0x80 == 0 {
            // Where sizes are narrower, one that no maximum allows.
            return Ok(Some((at + 1, usize::try_from(value).unwrap_or(usize::MAX))));
        }
    }
    Ok(None)
}

/// A message's length before it, in as few bytes as can be.
pub(super) fn write(len: usize) -> Envelope {
    let mut bytes = [0; LONGEST];
    let mut rest = len as u64;
    let mut size = 0;
    loop {
        let group = (rest & 0x7f) as u8;
        rest >>= 7;
        bytes[size] = if rest == 0 { group } else { group | 0x80 };
        size += 1;
        if rest == 0 {
            return Envelope::before_first(&bytes, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_is_written_in_as_few_bytes_as_can_be_and_read_back() {
        let known: [(usize, &[u8]); 6] = [
            (0, b"\x00"),
            (1, b"\x01"),
            (127, b"\x7f"),
            (128, b"\x80\x01"),
            (300, b"\xac\x02"),
            (1 << 20, b"\x80\x80\x40"),
        ];
        for (len, bytes) in known {
            assert_eq!(write(len).head(), bytes);
            assert_eq!(read(bytes), Ok(Some((bytes.len(), len))));
        }
        for shift in 0..usize::BITS {
            for len in [usize::MAX >> shift, 1 << shift] {
                let head = write(len);
                let size = head.head().len();
                assert_eq!(read(head.head()), Ok(Some((size, len))));
                for cut in 0..size {
                    assert_eq!(read(&head.head()[..cut]), Ok(None), "{len} {cut}");
                }
            }
        }
    }

    #[test]
    fn a_padded_length_says_what_it_says() {
        assert_eq!(read(b"\x85\x00"), Ok(Some((2, 5))));
        assert_eq!(read(b"\x85\x80\x80\x80\x80\x80\x80\x80\x80\x00"), Ok(Some((10, 5))));
    }

    #[test]
    fn more_than_ten_bytes_or_64_bits_are_no_length() {
        assert_eq!(read(&[0x80; 9]), Ok(None));
        assert_eq!(read(&[0x80; 10]), Err(FrameError::MalformedLength));
        assert_eq!(read(&[0xff; 100]), Err(FrameError::MalformedLength));
        assert!(read(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_ok());
        let bits_65 = read(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
        assert_eq!(bits_65, Err(FrameError::MalformedLength));
    }
}
