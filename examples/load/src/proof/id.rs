//! The identity that every request carries: run, connection and sequence, in bytes that no upper-casing changes.
//!
//! Fourteen bytes: a tilde, then base-64 digits taken from `!` to `` ` ``, the longest stretch of ASCII without a
//! lower-case letter. Two of the digits are a check, so that a damaged id is not taken for somebody else's.

/// Bytes of an encoded id.
pub(crate) const HEADER: usize = 14;

/// The first byte of an id. It occurs nowhere else in a message, so ids can be found in a byte stream.
pub(crate) const MARK: u8 = b'~';

/// Connections that can be told apart: three digits.
pub(crate) const CONNECTIONS_MAX: u32 = 1 << CONNECTION_BITS;

const CHECK_BITS: u32 = 12;
const CONNECTION_BITS: u32 = 18;

/// The digit nought in all eight bytes of a word: digits are written and read a word at a time.
const FIRST_DIGITS: u64 = u64::from_ne_bytes([b'!'; 8]);
/// The bits that are in no digit once nought is taken off.
const NO_DIGIT: u64 = u64::from_ne_bytes([0xc0; 8]);
const LOW_FIVE: u64 = 0xff_ffff_ffff;
/// Where the first six bytes of an id lie in a word of memory.
const FRONT: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

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
        join(front(run, self.conn), self.back(hash))
    }

    /// The last eight bytes of the id, sequence and check, as they lie in memory.
    #[inline]
    pub(crate) fn back(self, hash: u64) -> u64 {
        spread(u64::from(self.seq) << CHECK_BITS | hash >> (64 - CHECK_BITS)).to_be()
    }

    /// Reads an id of this run from the start of `bytes`, with its hash; nothing if there is none, or a damaged one.
    #[inline]
    pub(crate) fn decode(run: u16, bytes: &[u8]) -> Option<(Self, u64)> {
        let head = bytes.first_chunk::<HEADER>()?;
        let front = u64::from_be_bytes(*head.first_chunk()?) >> 16;
        let whose = (front & LOW_FIVE).wrapping_sub(FIRST_DIGITS & LOW_FIVE);
        let which = u64::from_be_bytes(*head.last_chunk()?).wrapping_sub(FIRST_DIGITS);
        // All digits at once: of those out of range, the last one shows in the two bits that no digit has.
        if front >> 40 != u64::from(MARK) || (whose | which) & NO_DIGIT != 0 {
            return None;
        }
        let (whose, which) = (gather(whose), gather(which));
        if whose >> CONNECTION_BITS != u64::from(run) {
            return None;
        }
        let conn = (whose & ((1 << CONNECTION_BITS) - 1)) as u32;
        let id = Self { conn, seq: u32::try_from(which >> CHECK_BITS).ok()? };
        let hash = id.hash(run);
        (which & ((1 << CHECK_BITS) - 1) == hash >> (64 - CHECK_BITS)).then_some((id, hash))
    }
}

/// The first six bytes of the ids of a connection, mark, run and connection, as they lie in memory; two are nought.
pub(crate) fn front(run: u16, conn: u32) -> u64 {
    // Of the eight digits, five are used.
    let whose = spread(u64::from(run) << CONNECTION_BITS | u64::from(conn));
    ((u64::from(MARK) << 40 | whose & LOW_FIVE) << 16).to_be()
}

/// An id's bytes from its two parts.
#[inline]
pub(crate) fn join(front: u64, back: u64) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(&front.to_ne_bytes());
    out[6..].copy_from_slice(&back.to_ne_bytes());
    out
}

/// Whether `bytes` begin with the id of these two parts.
#[inline]
pub(crate) fn begins(bytes: &[u8; HEADER], front: u64, back: u64) -> bool {
    let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) else { return false };
    let (first, last) = (u64::from_ne_bytes(*first), u64::from_ne_bytes(*last));
    (first ^ front) & FRONT | last ^ back == 0
}

/// Eight digits of 48 bits, the highest in the highest byte. Three steps part halves, quarters and single digits.
#[inline]
fn spread(value: u64) -> u64 {
    let halves = (value & 0xff_ffff) | (value & 0xffff_ff00_0000) << 8;
    let quarters = (halves & 0x0000_0fff_0000_0fff) | (halves & 0x00ff_f000_00ff_f000) << 4;
    let digits = (quarters & 0x003f_003f_003f_003f) | (quarters & 0x0fc0_0fc0_0fc0_0fc0) << 2;
    digits + FIRST_DIGITS
}

/// The 48 bits of eight digits: the way back. The digits are in range.
#[inline]
fn gather(digits: u64) -> u64 {
    let quarters = (digits & 0x003f_003f_003f_003f) | (digits & 0x3f00_3f00_3f00_3f00) >> 2;
    let halves = (quarters & 0x0000_0fff_0000_0fff) | (quarters & 0x0fff_0000_0fff_0000) >> 4;
    (halves & 0xff_ffff) | (halves & 0x00ff_ffff_0000_0000) >> 8
}

#[cfg(test)]
mod tests {
    use super::{CONNECTIONS_MAX, HEADER, Id, begins, front};
    use proptest::prelude::*;

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
    fn an_id_is_written_in_digits_from_the_highest_down() {
        let id = Id { conn: 2 << 12 | 3 << 6 | 4, seq: 1 << 30 | 63 };
        let bytes = id.encode(1 << 6 | 63, 9 << 58 | 7 << 52);
        assert_eq!(&bytes, b"~\"`#$%\"!!!!`*(");
    }

    proptest! {
        #[test]
        fn nothing_but_an_id_reads_as_one(mut bytes: [u8; HEADER], like: [u8; HEADER], conn in 0..CONNECTIONS_MAX, seq: u32, run in 0u16..4096) {
            let id = Id { conn, seq };
            let good = id.encode(run, id.hash(run));
            prop_assert_eq!(Id::decode(run, &good), Some((id, id.hash(run))));
            // A sound id with a few bytes replaced, so that not everything is refused for its first byte.
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = if like[at] < 200 { good[at] } else { *byte };
            }
            prop_assert_eq!(begins(&bytes, front(run, conn), id.back(id.hash(run))), bytes == good);
            if let Some((other, hash)) = Id::decode(run, &bytes) {
                prop_assert_eq!(other.encode(run, hash), bytes);
            }
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
