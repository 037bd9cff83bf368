//! Lines: a message ends at LF or CRLF.

use memchr::memchr;

use crate::codec::{Decoded, EncodeError, Envelope, FrameError};

/// The settings of [`Framing::lines`](crate::codec::Framing::lines).
///
/// # Examples
///
/// ```
/// use switchboard::codec::Framing;
///
/// let framing = Framing::lines().max_frame(512).skip_overlong();
/// assert!(matches!(framing, Framing::Lines(_)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    max: usize,
    overlong: Overlong,
}

/// What an over-long message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlong {
    /// It ends the decoding.
    Fatal,
    /// It is reported once, discarded up to and with its end, and decoding goes on.
    Skip,
}

impl Lines {
    /// 8 KiB: room for any text protocol's line, little enough to hold for every connection.
    const DEFAULT_MAX: usize = 8 * 1024;

    pub(super) const fn new() -> Self {
        Self { max: Self::DEFAULT_MAX, overlong: Overlong::Fatal }
    }

    pub(super) const fn max_frame(self, bytes: usize) -> Self {
        Self { max: bytes, ..self }
    }

    pub(super) const fn skip_overlong(self) -> Self {
        Self { overlong: Overlong::Skip, ..self }
    }

    pub(super) const fn decoder(self) -> LineDecoder {
        LineDecoder { lines: self, phase: Phase::START }
    }

    pub(super) const fn envelope(self, len: usize) -> Result<Envelope, EncodeError> {
        if len > self.max {
            return Err(EncodeError::TooLong { len, max: self.max });
        }
        Ok(Envelope::after_first(b"\n", 1))
    }

    /// Whether `pending`, in which there is no LF, can no longer become a line: a CR just after
    /// the largest body may still turn out to be half of a CRLF.
    fn is_overlong(self, pending: &[u8]) -> bool {
        !matches!(pending.get(self.max..), None | Some([] | [b'\r']))
    }
}

/// One stream's place in its current line.
#[derive(Debug)]
pub(super) struct LineDecoder {
    lines: Lines,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The line began; its first `scanned` bytes hold no LF, so they are not looked at again.
    Reading { scanned: usize },
    /// The line was reported as over-long; everything up to its LF is thrown away.
    Skipping,
}

impl Phase {
    const START: Self = Self::Reading { scanned: 0 };
}

impl LineDecoder {
    pub(super) const fn is_skipping(&self) -> bool {
        matches!(self.phase, Phase::Skipping)
    }

    #[inline]
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        self.decode_with(bytes, |unseen| memchr(b'\n', unseen))
    }

    pub(super) fn decode_end(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        match self.decode(bytes)? {
            Decoded::Incomplete if !bytes.is_empty() => self.frame(bytes.len(), bytes.len()),
            decoded => Ok(decoded),
        }
    }

    /// `find` looks for LF; an argument so that tests can count what it is shown.
    #[inline]
    fn decode_with(
        &mut self,
        bytes: &[u8],
        find: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> Result<Decoded, FrameError> {
        match self.phase {
            Phase::Reading { scanned } => self.read(bytes, scanned, find),
            Phase::Skipping => Ok(self.skip(bytes, find)),
        }
    }

    #[inline]
    fn read(
        &mut self,
        bytes: &[u8],
        scanned: usize,
        find: impl FnOnce(&[u8]) -> Option<usize>,
    ) -> Result<Decoded, FrameError> {
        debug_assert!(scanned <= bytes.len(), "bytes that were Incomplete must be passed again");
        // The largest body and CRLF: what lies beyond cannot change the answer.
        let window = bytes.len().min(self.lines.max.saturating_add(2));
        match find(bytes.get(scanned..window).unwrap_or_default()) {
            Some(at) => {
                let newline = scanned + at;
                let has_cr = bytes[..newline].ends_with(b"\r");
                self.frame(newline - usize::from(has_cr), newline + 1)
            }
            None if self.lines.is_overlong(&bytes[..window]) => self.overlong(),
            None => {
                self.phase = Phase::Reading { scanned: window };
                Ok(Decoded::Incomplete)
            }
        }
    }

    /// The line has ended: its body is the first `len` bytes, the next one begins at `consumed`.
    fn frame(&mut self, len: usize, consumed: usize) -> Result<Decoded, FrameError> {
        if len > self.lines.max {
            return self.overlong();
        }
        self.phase = Phase::START;
        Ok(Decoded::Frame { body: 0..len, consumed })
    }

    fn overlong(&mut self) -> Result<Decoded, FrameError> {
        self.phase = Phase::Skipping;
        let skipping = self.lines.overlong == Overlong::Skip;
        Err(FrameError::TooLong { max: self.lines.max, skipping })
    }

    fn skip(&mut self, bytes: &[u8], find: impl FnOnce(&[u8]) -> Option<usize>) -> Decoded {
        match find(bytes) {
            Some(newline) => {
                self.phase = Phase::START;
                Decoded::Skipped { consumed: newline + 1 }
            }
            None if bytes.is_empty() => Decoded::Incomplete,
            None => Decoded::Skipped { consumed: bytes.len() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LONG: Result<Decoded, FrameError> =
        Err(FrameError::TooLong { max: 4, skipping: false });

    fn frame(len: usize, consumed: usize) -> Result<Decoded, FrameError> {
        Ok(Decoded::Frame { body: 0..len, consumed })
    }

    /// What a fresh decoder with a maximum of 4 makes of `bytes`.
    #[track_caller]
    fn check(bytes: &[u8], expected: &Result<Decoded, FrameError>) {
        assert_eq!(&Lines::new().max_frame(4).decoder().decode(bytes), expected, "{bytes:?}");
    }

    /// The same, after FIN.
    #[track_caller]
    fn check_end(bytes: &[u8], expected: &Result<Decoded, FrameError>) {
        assert_eq!(&Lines::new().max_frame(4).decoder().decode_end(bytes), expected, "{bytes:?}");
    }

    #[test]
    fn a_line_ends_at_lf_or_crlf_and_nowhere_else() {
        check(b"ab\n", &frame(2, 3));
        check(b"ab\r\n", &frame(2, 4));
        check(b"\nab", &frame(0, 1));
        check(b"\r\n", &frame(0, 2));
        check(b"a\rb\n", &frame(3, 4));
        check(b"a\r\r\n", &frame(2, 4));
        check(b"a\0b\n", &frame(3, 4));
        check(b"a\r", &Ok(Decoded::Incomplete));
        check(b"", &Ok(Decoded::Incomplete));
    }

    #[test]
    fn exactly_the_maximum_is_allowed_and_the_line_end_does_not_count() {
        check(b"abcd\n", &frame(4, 5));
        check(b"abcd\r\n", &frame(4, 6));
        check(b"abc\r\r\n", &frame(4, 6));
        check(b"abcd", &Ok(Decoded::Incomplete));
        check(b"abcd\r", &Ok(Decoded::Incomplete));
    }

    #[test]
    fn one_byte_more_is_too_long_as_soon_as_it_is_seen() {
        check(b"abcde", &TOO_LONG);
        check(b"abcde\n", &TOO_LONG);
        check(b"abcde\r\n", &TOO_LONG);
        check(b"abcd\rx", &TOO_LONG);
        check(b"abcd\r\r\n", &TOO_LONG);
    }

    #[test]
    fn after_fin_the_last_line_is_a_frame_as_it_stands() {
        check_end(b"ab", &frame(2, 2));
        check_end(b"ab\r", &frame(3, 3));
        check_end(b"ab\ncd", &frame(2, 3));
        check_end(b"abcd", &frame(4, 4));
        check_end(b"abcd\r", &TOO_LONG);
        check_end(b"", &Ok(Decoded::Incomplete));
    }

    #[test]
    fn the_limits_of_the_limit() {
        let mut none = Lines::new().max_frame(0).decoder();
        assert_eq!(none.decode(b"\r"), Ok(Decoded::Incomplete));
        assert_eq!(none.decode(b"\r\n"), frame(0, 2));
        assert!(none.decode(b"a").is_err());
        let mut all = Lines::new().max_frame(usize::MAX).decoder();
        assert_eq!(all.decode(b"abc\n"), frame(3, 4));
    }

    #[test]
    fn a_skipped_line_is_thrown_away_as_it_comes() {
        let mut decoder = Lines::new().max_frame(4).skip_overlong().decoder();
        let reported = Err(FrameError::TooLong { max: 4, skipping: true });
        assert_eq!(decoder.decode(b"abcde"), reported);
        assert_eq!(decoder.decode(b"abcde"), Ok(Decoded::Skipped { consumed: 5 }));
        assert_eq!(decoder.decode(b""), Ok(Decoded::Incomplete));
        assert_eq!(decoder.decode(b"fghijklmnop"), Ok(Decoded::Skipped { consumed: 11 }));
        assert_eq!(decoder.decode(b"q\r\nok\n"), Ok(Decoded::Skipped { consumed: 3 }));
        assert_eq!(decoder.decode(b"ok\n"), frame(2, 3));
    }

    /// Feeds `bytes` one by one, dropping what is consumed; how many bytes `find` was shown.
    fn bytes_scanned(lines: Lines, bytes: &[u8]) -> usize {
        let mut decoder = lines.decoder();
        let (mut begin, mut end, mut scanned) = (0, 0, 0);
        while begin < bytes.len() && end <= bytes.len() {
            let decoded = decoder.decode_with(&bytes[begin..end], |unseen| {
                scanned += unseen.len();
                memchr(b'\n', unseen)
            });
            match decoded {
                Ok(Decoded::Frame { consumed, .. } | Decoded::Skipped { consumed }) => {
                    begin += consumed;
                }
                Ok(Decoded::Incomplete) => end += 1,
                Err(error) => assert!(!error.is_fatal(), "{error}"),
            }
        }
        scanned
    }

    #[test]
    fn a_line_that_comes_byte_by_byte_is_scanned_once() {
        let line = [vec![b'x'; 64 * 1024], b"\n".to_vec()].concat();
        assert_eq!(bytes_scanned(Lines::new().max_frame(64 * 1024), &line), line.len());
    }

    #[test]
    fn a_skipped_line_that_comes_byte_by_byte_is_scanned_at_most_twice() {
        let line = [vec![b'x'; 64 * 1024], b"\n".to_vec()].concat();
        let scanned = bytes_scanned(Lines::new().max_frame(4096).skip_overlong(), &line);
        assert!(scanned <= line.len() + 4096 + 2, "{scanned} for {}", line.len());
    }

    #[test]
    fn a_too_long_line_is_scanned_no_further_than_its_maximum() {
        let mut scanned = 0;
        let decoded =
            Lines::new().max_frame(100).decoder().decode_with(&[b'x'; 65_536], |unseen| {
                scanned = unseen.len();
                None
            });
        assert!(decoded.is_err());
        assert_eq!(scanned, 102);
    }
}
