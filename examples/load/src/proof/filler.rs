//! The seeded filler of a message, and what the server must make of it.
//!
//! One table of 16-byte units is built for a run, with its transformed twin. A message takes consecutive units from a
//! place that its id decides, so that writing one is a copy and proving one is a comparison, at any size.
use crate::proof::Expect;
use crate::proof::id::{HEADER, mix};

const UNIT: usize = 16;
/// Few enough for both tables to stay in a core's first cache: every message touches them twice.
const UNITS: usize = 512;
/// Text up to this long is copied and compared without a call.
const SHORT: usize = 128;
/// So much of the beginning follows the end of the tables once more, so that short text never wraps.
const AGAIN: usize = SHORT / UNIT;
/// Text up to this long is written as part of a row, whatever its length: a copy of one length needs no loop.
const COPY: usize = 64;
/// A row of the table: room for an id, text, and padding; what is not wanted is cut off again.
pub(crate) const ROW: usize = (HEADER + COPY + UNIT).next_multiple_of(UNIT);
/// Fills what does not make a whole unit: only lower-case letters, so that even the shortest message proves upper-casing.
const PAD: &[u8; 40] = b"abcdefghijklmnopqrstuvwxyzabcdefghijklmn";

/// Places that padding may begin at.
const PADS: usize = 16;

/// The table of units, as sent and as expected back.
#[derive(Debug)]
pub(crate) struct Filler {
    /// Behind room for an id, so that a row of it begins with such room.
    sent: Vec<u8>,
    expected: Vec<u8>,
    /// Where each unit begins in `expected`: upper-casing may change a unit's length.
    offsets: Vec<usize>,
    pad_expected: Vec<u8>,
    /// Expected bytes are as many as those sent.
    same_length: bool,
}

/// How a piece compares with what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// Exactly the expected bytes.
    Whole,
    /// The expected bytes, then more.
    Longer,
    /// The beginning of the expected bytes, and no more.
    Prefix,
    /// A byte differs.
    Differs,
}

/// Whether two slices of one length are the same; short ones without a call.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() > SHORT {
        return a == b;
    }
    let (units_a, rest_a) = a.as_chunks::<UNIT>();
    let (units_b, rest_b) = b.as_chunks::<UNIT>();
    let mut units = units_a.iter().zip(units_b);
    a.len() == b.len() && units.all(|(a, b)| a == b) && same_rest(rest_a, rest_b)
}

/// Whether two slices of one length below 16 are the same: as two words that overlap.
#[inline]
fn same_rest(a: &[u8], b: &[u8]) -> bool {
    fn ends<const N: usize>(of: &[u8]) -> Option<([u8; N], [u8; N])> {
        Some((*of.first_chunk()?, *of.last_chunk()?))
    }
    match a.len() {
        0 => true,
        1 => a == b,
        2..4 => ends::<2>(a) == ends::<2>(b),
        4..8 => ends::<4>(a) == ends::<4>(b),
        _ => ends::<8>(a) == ends::<8>(b),
    }
}

/// Where a message's filler lies in the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    first: u16,
    pad_at: u16,
}

impl Place {
    /// The place that an id decides.
    #[inline]
    pub(crate) fn of(hash: u64) -> Self {
        Self { first: (hash % UNITS as u64) as u16, pad_at: (hash >> 16) as u16 % PADS as u16 }
    }

    #[inline]
    fn first(self) -> usize {
        usize::from(self.first)
    }

    /// The padding that fills `len` bytes up.
    #[inline]
    fn pad(self, len: usize) -> std::ops::Range<usize> {
        let begin = usize::from(self.pad_at);
        begin..begin + len % UNIT
    }

    /// The padding of the greatest length.
    #[inline]
    fn padding(self) -> &'static [u8; UNIT] {
        PAD[usize::from(self.pad_at) % PADS..]
            .first_chunk()
            .expect("invariant: a place lies within")
    }
}

impl Filler {
    /// Builds the table for a run. Which bytes it holds depends on what kind of text the server is expected to handle.
    pub(crate) fn new(seed: u64, expect: &Expect) -> Self {
        let mut filler = Self {
            sent: vec![0; HEADER],
            expected: Vec::with_capacity((UNITS + AGAIN) * UNIT),
            offsets: Vec::with_capacity(UNITS + 1),
            pad_expected: expect.transform(PAD),
            same_length: !matches!(expect, Expect::UpperUtf8 | Expect::Fixed(_)),
        };
        for number in 0..UNITS {
            let unit = unit(mix(seed ^ (number as u64) << 20), expect);
            filler.offsets.push(filler.expected.len());
            filler.expected.extend_from_slice(&expect.transform(&unit));
            filler.sent.extend_from_slice(&unit);
        }
        filler.offsets.push(filler.expected.len());
        if filler.same_length {
            filler.sent.extend_from_within(HEADER..HEADER + AGAIN * UNIT);
            filler.expected.extend_from_within(..AGAIN * UNIT);
        }
        filler
    }

    /// Appends room for an id and `len` bytes of filler as sent, and more to be cut off; nothing if they are too many to
    /// do that without a loop.
    #[inline(always)]
    pub(crate) fn append_row<'o>(
        &self,
        place: Place,
        len: usize,
        out: &'o mut Vec<u8>,
    ) -> Option<&'o mut [u8; ROW]> {
        let text = len & !(UNIT - 1);
        let row = self.sent.get(place.first() * UNIT..)?.first_chunk::<ROW>()?;
        if text > COPY {
            return None;
        }
        out.extend_from_slice(row);
        let row = out.last_chunk_mut::<ROW>()?;
        row[HEADER + text..][..UNIT].copy_from_slice(place.padding());
        Some(row)
    }

    /// Appends `len` bytes of filler as sent.
    pub(crate) fn append_sent(&self, place: Place, len: usize, out: &mut Vec<u8>) {
        let (mut first, mut units) = (place.first(), len / UNIT);
        while units > 0 {
            let run = units.min(UNITS - first);
            out.extend_from_slice(&self.sent[HEADER + first * UNIT..][..run * UNIT]);
            units -= run;
            first = 0;
        }
        out.extend_from_slice(&PAD[place.pad(len)]);
    }

    /// The expected bytes for `len` bytes of filler, piece by piece.
    fn expected(&self, place: Place, len: usize) -> impl Iterator<Item = &[u8]> {
        let (mut first, mut units) = (place.first(), len / UNIT);
        let mut pad = Some(&self.pad_expected[place.pad(len)]);
        std::iter::from_fn(move || {
            if units == 0 {
                return pad.take();
            }
            let run = units.min(UNITS - first);
            let piece = &self.expected[self.offsets[first]..self.offsets[first + run]];
            units -= run;
            first = 0;
            Some(piece)
        })
    }

    /// How many bytes are expected back for `len` bytes of filler.
    pub(crate) fn expected_len(&self, place: Place, len: usize) -> usize {
        if self.same_length {
            return len;
        }
        self.expected(place, len).map(<[u8]>::len).sum()
    }

    /// Appends what is expected back for `len` bytes of filler.
    pub(crate) fn append_expected(&self, place: Place, len: usize, out: &mut Vec<u8>) {
        self.expected(place, len).for_each(|piece| out.extend_from_slice(piece));
    }

    /// Whether replies are as long as requests.
    #[inline]
    pub(crate) fn same_length(&self) -> bool {
        self.same_length
    }

    /// Whether `got` is exactly what is expected back, where lengths stay the same: the quick way.
    #[inline(always)]
    pub(crate) fn is_whole(&self, place: Place, got: &[u8]) -> bool {
        let (text, rest) = got.split_at(got.len() & !(UNIT - 1));
        let expected =
            self.expected.get(place.first() * UNIT..).and_then(|from| from.get(..text.len()));
        match expected {
            Some(expected) if self.same_length => {
                same(text, expected) && same_rest(rest, &self.pad_expected[place.pad(got.len())])
            }
            _ => self.compare(place, got.len(), got) == Match::Whole,
        }
    }

    /// Compares `got` with what is expected back for `len` bytes of filler.
    #[inline]
    pub(crate) fn compare(&self, place: Place, len: usize, mut got: &[u8]) -> Match {
        for piece in self.expected(place, len) {
            let common = piece.len().min(got.len());
            if piece[..common] != got[..common] {
                return Match::Differs;
            }
            if common < piece.len() {
                return Match::Prefix;
            }
            got = &got[common..];
        }
        if got.is_empty() { Match::Whole } else { Match::Longer }
    }
}

/// Sixteen bytes of text: never a line end or the mark of an id, no white space at either end, a lower-case letter last.
fn unit(mut seed: u64, expect: &Expect) -> [u8; UNIT] {
    const PLAIN: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  ";
    let mut out = [b'x'; UNIT];
    let mut at = 0;
    let mut next = || {
        seed = mix(seed);
        seed
    };
    while at < UNIT - 1 {
        let pick = next();
        let piece: &[u8] = match expect {
            Expect::UpperUtf8 if pick & 3 == 0 => {
                // Two bytes stay two (é, ж), two become three (ŉ), three become two (ﬁ), ß becomes SS, some have no case.
                let words = ["é", "ж", "ß", "ŉ", "ﬁ", "你", "好", "😀"];
                words[(pick >> 2) as usize % words.len()].as_bytes()
            }
            Expect::UpperGbk if pick & 1 == 0 => {
                // GBK/3: second bytes may be a-z, which a byte-wise upper-casing breaks.
                let lead = 0x81 + (pick >> 8) % 0x20;
                let trail = 0x61 + (pick >> 16) % 26;
                out[at..].iter_mut().zip([lead as u8, trail as u8]).for_each(|(o, b)| *o = b);
                at = (at + 2).min(UNIT - 1);
                if at == UNIT - 1 {
                    // A half character at the end is replaced by a letter.
                    break;
                }
                continue;
            }
            _ => std::slice::from_ref(&PLAIN[pick as usize % if at == 0 { 62 } else { 64 }]),
        };
        if at + piece.len() < UNIT {
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        } else {
            out[at..].fill(b'x');
            break;
        }
    }
    if matches!(expect, Expect::UpperGbk) {
        mend_gbk(&mut out);
    }
    out[UNIT - 1] = b'a' + (next() % 26) as u8;
    out
}

/// Makes sure that no two-byte character hangs over into the last byte.
fn mend_gbk(unit: &mut [u8; UNIT]) {
    let mut at = 0;
    while at < UNIT - 1 {
        if unit[at] < 0x80 {
            at += 1;
        } else if at + 1 < UNIT - 1 {
            at += 2;
        } else {
            unit[at] = b'g';
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Filler, Match, Place, UNIT, UNITS, unit};
    use crate::proof::Expect;
    use crate::proof::id::{HEADER, mix};

    const ALL: [Expect; 4] = [Expect::Echo, Expect::Upper, Expect::UpperUtf8, Expect::UpperGbk];

    #[test]
    fn every_unit_is_sound_text_of_its_kind() {
        for expect in ALL {
            for seed in 0..5000 {
                let unit = unit(mix(seed), &expect);
                assert!(unit[UNIT - 1].is_ascii_lowercase() && unit[0] != b' ');
                assert!(!unit.iter().any(|b| b"\r\n~".contains(b)));
                if matches!(expect, Expect::UpperUtf8) {
                    std::str::from_utf8(&unit).expect("whole characters");
                }
            }
        }
    }

    #[test]
    fn what_is_expected_compares_as_whole_and_every_change_is_seen() {
        for expect in ALL {
            let filler = Filler::new(3, &expect);
            for len in
                [2, 3, 5, 9, 15, 16, 17, 50, 64, 79, 80, 127, 128, 143, 144, 1000, 65_507, 200_000]
            {
                // From the last unit on, text begins again with the first.
                let hash = mix(len as u64) | if len % 2 == 0 { UNITS as u64 - 1 } else { 0 };
                let (mut sent, mut back) = (Vec::new(), Vec::new());
                let place = Place::of(hash);
                filler.append_sent(place, len, &mut sent);
                let mut quick = Vec::new();
                match filler.append_row(place, len, &mut quick) {
                    Some(row) => assert_eq!(row[HEADER..HEADER + len], sent),
                    None => assert!(len > 64 || expect == Expect::UpperUtf8),
                }
                filler.append_expected(place, len, &mut back);
                assert_eq!(sent.len(), len);
                assert_eq!(back.len(), filler.expected_len(place, len));
                assert_eq!(expect.transform(&sent), back);
                assert_eq!(filler.compare(place, len, &back), Match::Whole);
                assert!(back.len() != len || filler.is_whole(place, &back));
                assert_eq!(filler.compare(place, len, &back[..back.len() - 1]), Match::Prefix);
                back.push(b'!');
                assert_eq!(filler.compare(place, len, &back), Match::Longer);
                let middle = back.len() / 2;
                back[middle] ^= 1;
                assert_eq!(filler.compare(place, len, &back), Match::Differs);
                back.pop();
                assert!(!filler.same_length || !filler.is_whole(place, &back));
            }
        }
    }

    #[test]
    fn gbk_text_has_second_bytes_that_a_bytewise_upper_casing_breaks() {
        let filler = Filler::new(1, &Expect::UpperGbk);
        let mut sent = Vec::new();
        filler.append_sent(Place::of(9), 4096, &mut sent);
        assert_ne!(sent.to_ascii_uppercase(), Expect::UpperGbk.transform(&sent));
    }
}
