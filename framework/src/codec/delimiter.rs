//! Delimiter: a message ends at certain bytes, one to sixteen.

use memchr::memchr_iter;

use crate::codec::lines::Overlong;
use crate::codec::{Decoded, EncodeError, Envelope, FrameError};

/// The settings of [`Framing::delimiter`](crate::codec::Framing::delimiter).
///
/// # Examples
///
/// ```
/// use switchboard::codec::Framing;
///
/// let framing = Framing::delimiter(b"\r\n\r\n").max_frame(64 * 1024);
/// assert!(matches!(framing, Framing::Delimiter(_)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delimiter {
    mark: Mark,
    overlong: Overlong,
    max: usize,
}

/// The bytes themselves. Invariant: zero from `len` on, and `1 <= len <= LONGEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    bytes: [u8; Delimiter::LONGEST],
    len: u8,
}

impl Delimiter {
    /// Room for every delimiter that is in use, and little enough to be held in place.
    pub(super) const LONGEST: usize = 16;

    /// 8 KiB, as for lines.
    const DEFAULT_MAX: usize = 8 * 1024;

    /// None if there can be no such delimiter: it has no bytes, or too many.
    pub(super) const fn new(delimiter: &[u8]) -> Option<Self> {
        if delimiter.is_empty() || delimiter.len() > Self::LONGEST {
            return None;
        }
        let mut bytes = [0; Self::LONGEST];
        bytes.split_at_mut(delimiter.len()).0.copy_from_slice(delimiter);
        let mark = Mark { bytes, len: delimiter.len() as u8 };
        Some(Self { mark, overlong: Overlong::Fatal, max: Self::DEFAULT_MAX })
    }

    pub(super) const fn max_frame(self, bytes: usize) -> Self {
        Self { max: bytes, ..self }
    }

    pub(super) const fn skip_overlong(self) -> Self {
        Self { overlong: Overlong::Skip, ..self }
    }

    pub(super) const fn decoder(self) -> DelimiterDecoder {
        let Self { mark, overlong, max } = self;
        DelimiterDecoder { mark, overlong, max, phase: Phase::Reading, scanned: 0 }
    }

    pub(super) const fn envelope(self, len: usize) -> Result<Envelope, EncodeError> {
        if len > self.max {
            return Err(EncodeError::TooLong { len, max: self.max });
        }
        Ok(Envelope::after_first(&self.mark.bytes, self.mark.len()))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.mark.as_slice()
    }
}

impl Mark {
    const fn len(self) -> usize {
        self.len as usize
    }

    #[inline]
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// Where the first delimiter in `bytes` ends, if not within the first `scanned` ones.
    ///
    /// Found by its last byte, so that no byte is looked for twice, however the bytes come: what stands
    /// before such a byte is there already.
    #[inline]
    fn end_in(&self, bytes: &[u8], scanned: usize) -> Option<usize> {
        let delimiter = self.as_slice();
        let last = delimiter[delimiter.len() - 1];
        memchr_iter(last, bytes.get(scanned..).unwrap_or_default())
            .map(|at| scanned + at + 1)
            .find(|&end| bytes[..end].ends_with(delimiter))
    }

    /// Whether `pending`, in which there is no delimiter, can no longer become a message of up to `max`
    /// bytes: it is longer, and its end is not the beginning of a delimiter behind such a message.
    fn is_overlong(&self, pending: &[u8], max: usize) -> bool {
        if pending.len() <= max {
            return false;
        }
        let earliest = pending.len().saturating_sub(self.len() - 1);
        let mut begins = earliest..=max;
        !begins.any(|begin| self.as_slice().starts_with(&pending[begin..]))
    }
}

/// One stream's place in its current message. (The settings lie in it flat: that is what makes it fit.)
#[derive(Debug)]
pub(super) struct DelimiterDecoder {
    mark: Mark,
    overlong: Overlong,
    max: usize,
    phase: Phase,
    /// No delimiter ends within so many of the bytes that wait.
    scanned: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The message began, and may still become one.
    Reading,
    /// It was reported as over-long; everything up to and with its delimiter is thrown away.
    Skipping,
}

impl DelimiterDecoder {
    pub(super) const fn is_skipping(&self) -> bool {
        matches!(self.phase, Phase::Skipping)
    }

    #[inline]
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        debug_assert!(self.scanned <= bytes.len(), "Incomplete bytes must be passed again");
        match self.phase {
            Phase::Reading => self.read(bytes),
            Phase::Skipping => Ok(self.skip(bytes)),
        }
    }

    pub(super) fn decode_end(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        match self.decode(bytes)? {
            Decoded::Incomplete if bytes.is_empty() => Ok(Decoded::Incomplete),
            Decoded::Incomplete if self.is_skipping() => {
                self.restart();
                Ok(Decoded::Skipped { consumed: bytes.len() })
            }
            Decoded::Incomplete if bytes.len() > self.max => self.overlong(),
            Decoded::Incomplete => {
                self.restart();
                Ok(Decoded::Frame { body: 0..bytes.len(), consumed: bytes.len() })
            }
            decoded => Ok(decoded),
        }
    }

    #[inline]
    fn read(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        // The largest body and its delimiter: what lies beyond cannot change the answer.
        let window = bytes.len().min(self.max.saturating_add(self.mark.len()));
        if let Some(end) = self.mark.end_in(&bytes[..window], self.scanned) {
            let body = 0..end - self.mark.len();
            self.restart();
            return Ok(Decoded::Frame { body, consumed: end });
        }
        self.scanned = window;
        if self.mark.is_overlong(&bytes[..window], self.max) {
            return self.overlong();
        }
        Ok(Decoded::Incomplete)
    }

    fn overlong(&mut self) -> Result<Decoded, FrameError> {
        self.phase = Phase::Skipping;
        let skipping = self.overlong == Overlong::Skip;
        Err(FrameError::TooLong { max: self.max, skipping })
    }

    /// Throws away what cannot be the beginning of the delimiter, or the rest with it.
    fn skip(&mut self, bytes: &[u8]) -> Decoded {
        if let Some(consumed) = self.mark.end_in(bytes, self.scanned) {
            self.restart();
            return Decoded::Skipped { consumed };
        }
        self.scanned = bytes.len().min(self.mark.len() - 1);
        match bytes.len() - self.scanned {
            0 => Decoded::Incomplete,
            consumed => Decoded::Skipped { consumed },
        }
    }

    /// The next byte begins a message.
    fn restart(&mut self) {
        self.phase = Phase::Reading;
        self.scanned = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LONG: Result<Decoded, FrameError> =
        Err(FrameError::TooLong { max: 4, skipping: false });

    fn at_most_4(delimiter: &[u8]) -> Delimiter {
        Delimiter::new(delimiter).expect("a delimiter").max_frame(4)
    }

    fn frame(len: usize, consumed: usize) -> Result<Decoded, FrameError> {
        Ok(Decoded::Frame { body: 0..len, consumed })
    }

    /// What a fresh decoder with a maximum of 4 makes of `bytes`.
    #[track_caller]
    fn check(delimiter: &[u8], bytes: &[u8], expected: &Result<Decoded, FrameError>) {
        assert_eq!(&at_most_4(delimiter).decoder().decode(bytes), expected, "{bytes:?}");
    }

    #[test]
    fn a_message_ends_at_the_first_whole_delimiter() {
        check(b"\0", b"ab\0c", &frame(2, 3));
        check(b"--", b"a-b--c", &frame(3, 5));
        check(b"--", b"----", &frame(0, 2));
        check(b"--", b"a-", &Ok(Decoded::Incomplete));
        check(b"--", b"", &Ok(Decoded::Incomplete));
    }

    #[test]
    fn a_delimiter_that_begins_like_its_own_middle_is_found() {
        check(b"aab", b"aaab", &frame(1, 4));
        check(b"aab", b"aaaab", &frame(2, 5));
        check(b"abab", b"aabab", &frame(1, 5));
        check(b"aa", b"aaa", &frame(0, 2));
    }

    #[test]
    fn a_delimiter_of_one_or_of_sixteen_bytes_is_one_and_no_other() {
        assert_eq!(Delimiter::new(b""), None);
        assert_eq!(Delimiter::new(&[7; 17]), None);
        let long = Delimiter::new(&[7; 16]).expect("sixteen bytes");
        assert_eq!(long.decoder().decode(&[7; 15]), Ok(Decoded::Incomplete));
        assert_eq!(long.decoder().decode(&[7; 16]), frame(0, 16));
    }

    #[test]
    fn exactly_the_maximum_is_allowed_and_one_more_is_refused_as_soon_as_it_is_seen() {
        check(b"--", b"abcd--", &frame(4, 6));
        check(b"--", b"abcd", &Ok(Decoded::Incomplete));
        check(b"--", b"abcd-", &Ok(Decoded::Incomplete));
        check(b"--", b"abc--", &frame(3, 5));
        check(b"--", b"abcde", &TOO_LONG);
        check(b"--", b"abcd-e", &TOO_LONG);
        check(b"--", b"abcde--", &TOO_LONG);
        check(b"aab", b"xxxxaa", &Ok(Decoded::Incomplete));
        check(b"aab", b"xxxxxa", &TOO_LONG);
        check(b"aab", b"xxxxaaa", &TOO_LONG);
    }

    #[test]
    fn after_fin_the_rest_is_a_message_as_it_stands() {
        let after_fin = |bytes| at_most_4(b"--").decoder().decode_end(bytes);
        assert_eq!(after_fin(b"ab"), frame(2, 2));
        assert_eq!(after_fin(b"ab-"), frame(3, 3));
        assert_eq!(after_fin(b"a--b"), frame(1, 3));
        assert_eq!(after_fin(b"abcd-"), TOO_LONG);
        assert_eq!(after_fin(b""), Ok(Decoded::Incomplete));
    }

    #[test]
    fn the_limits_of_the_limit() {
        let mut none = at_most_4(b"--").max_frame(0).decoder();
        assert_eq!(none.decode(b"-"), Ok(Decoded::Incomplete));
        assert_eq!(none.decode(b"--"), frame(0, 2));
        assert!(none.decode(b"a").is_err());
        let mut all = at_most_4(b"--").max_frame(usize::MAX).decoder();
        assert_eq!(all.decode(b"abc--"), frame(3, 5));
    }

    #[test]
    fn an_over_long_message_is_thrown_away_but_for_what_may_begin_its_delimiter() {
        let mut decoder = at_most_4(b"--").skip_overlong().decoder();
        let reported = Err(FrameError::TooLong { max: 4, skipping: true });
        assert_eq!(decoder.decode(b"abcde"), reported);
        assert!(decoder.is_skipping());
        assert_eq!(decoder.decode(b"abcde"), Ok(Decoded::Skipped { consumed: 4 }));
        assert_eq!(decoder.decode(b"e"), Ok(Decoded::Incomplete));
        assert_eq!(decoder.decode(b"efgh-"), Ok(Decoded::Skipped { consumed: 4 }));
        assert_eq!(decoder.decode(b"-"), Ok(Decoded::Incomplete));
        assert_eq!(decoder.decode(b"--ok--"), Ok(Decoded::Skipped { consumed: 2 }));
        assert!(!decoder.is_skipping());
        assert_eq!(decoder.decode(b"ok--"), frame(2, 4));
    }

    #[test]
    fn fin_while_it_is_thrown_away_throws_the_rest_away() {
        let mut decoder = at_most_4(b"--").skip_overlong().decoder();
        assert!(decoder.decode_end(b"abcde-").is_err());
        assert_eq!(decoder.decode_end(b"abcde-"), Ok(Decoded::Skipped { consumed: 5 }));
        assert_eq!(decoder.decode_end(b"-"), Ok(Decoded::Skipped { consumed: 1 }));
        assert_eq!(decoder.decode_end(b""), Ok(Decoded::Incomplete));
    }

    #[test]
    fn bytes_that_were_scanned_are_not_looked_at_again() {
        let delimiter = at_most_4(b"-").max_frame(100);
        // The delimiter within what was scanned is a lie that only a second look would find.
        assert_eq!(delimiter.mark.end_in(b"a-b", 2), None);
        let mut decoder = delimiter.decoder();
        for len in 1..50 {
            assert_eq!(decoder.decode(&[b'x'; 50][..len]), Ok(Decoded::Incomplete));
            assert_eq!(decoder.scanned, len);
        }
    }
}
