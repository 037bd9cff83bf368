//! The identity that every request carries: run, connection and sequence, in bytes that no upper-casing changes.
//!
//! Fourteen bytes: a tilde, then base-64 digits taken from `!` to `` ` ``, the longest stretch of ASCII without a
//! lower-case letter. Two of the digits are a check, so that a damaged id is not taken for somebody else's.

/// Bytes of an encoded id.
pub(crate) const HEADER: usize = 14;

/// The first byte of an id. It occurs nowhere else in a message, so ids can be found in a byte stream.
pub(crate) const MARK: u8 = b'~';

/// Connections that can be told apart: three digits.
pub(crate) const CONNECTIONS_MAX: u32 = 1 << 18;

const FIRST_DIGIT: u8 = b'!';
const CHECK_BITS: u32 = 12;

/// Which request of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) conn: u32,
    pub(crate) seq: u32,
}

/// A cheap, well-mixing hash (the finaliser of SplitMix64): seeds, sizes and checks come from it.
#[inline]
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Id {
    /// The number that filler, size and check of this request are derived from.
    #[inline]
    pub(crate) fn hash(self, run: u16) -> u64 {
        mix((u64::from(run) << 50) ^ (u64::from(self.conn) << 32) ^ u64::from(self.seq))
    }

    /// Writes the id.
    #[inline]
    pub(crate) fn encode(self, run: u16, hash: u64) -> [u8; HEADER] {
        let mut out = [MARK; HEADER];
        put(&mut out[1..3], u64::from(run));
        put(&mut out[3..6], u64::from(self.conn));
        put(&mut out[6..12], u64::from(self.seq));
        put(&mut out[12..14], hash >> (64 - CHECK_BITS));
        out
    }

    /// Reads an id of this run from the start of `bytes`, with its hash; nothing if there is none, or a damaged one.
    #[inline]
    pub(crate) fn decode(run: u16, bytes: &[u8]) -> Option<(Self, u64)> {
        let head = bytes.first_chunk::<HEADER>()?;
        // All digits at once: what is out of range shows in the bits that no digit has.
        let digits = head.map(|digit| digit.wrapping_sub(FIRST_DIGIT));
        let range = digits[1..].iter().fold(0, |all, digit| all | digit);
        if head[0] != MARK || range >= 64 || take(&digits[1..3]) != u64::from(run) {
            return None;
        }
        let seq = u32::try_from(take(&digits[6..12])).ok()?;
        let id = Self { conn: take(&digits[3..6]) as u32, seq };
        let hash = id.hash(run);
        (take(&digits[12..14]) == hash >> (64 - CHECK_BITS)).then_some((id, hash))
    }
}

#[inline]
fn put(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = FIRST_DIGIT + (value & 63) as u8;
        value >>= 6;
    }
}

#[inline]
fn take(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, &digit| value << 6 | u64::from(digit))
}

#[cfg(test)]
mod tests {
    use super::{HEADER, Id};

    #[test]
    fn an_id_comes_back_and_upper_casing_leaves_it_alone() {
        for (conn, seq) in [(0, 0), (1, 63), (262_143, u32::MAX), (77, 123_456_789)] {
            let id = Id { conn, seq };
            let bytes = id.encode(4095, id.hash(4095));
            assert_eq!(bytes.to_ascii_uppercase(), bytes);
            assert_eq!(Id::decode(4095, &bytes), Some((id, id.hash(4095))));
            assert_eq!(Id::decode(4094, &bytes), None, "another run");
            assert_eq!(Id::decode(4095, &bytes[..HEADER - 1]), None, "cut short");
        }
    }

    #[test]
    fn nearly_every_damaged_byte_is_noticed() {
        let id = Id { conn: 5, seq: 99 };
        let good = id.encode(7, id.hash(7));
        let mut missed = 0;
        for at in 0..HEADER {
            for flip in 1..=255u8 {
                let mut bad = good;
                bad[at] ^= flip;
                missed += u32::from(Id::decode(7, &bad).is_some());
            }
        }
        assert!(missed <= 3, "{missed} damaged ids were taken for good ones");
    }
}
