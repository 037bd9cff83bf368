//! Decoding one stream: the state of its framing, and the end of it after a fatal error.

use std::ops::Range;

use crate::codec::checked::CustomDecoder;
use crate::codec::delimiter::DelimiterDecoder;
use crate::codec::length_prefix::PrefixDecoder;
use crate::codec::lines::LineDecoder;
use crate::codec::{Fixed, FrameError, Framing, raw};

/// What [`Decoder::decode`] made of the bytes. All positions count from the first byte given.
///
/// # Examples
///
/// ```
/// use switchboard::codec::{Decoded, Framing};
///
/// let bytes = b"one\r\ntwo";
/// let Ok(Decoded::Frame { body, consumed }) = Framing::lines().decoder().decode(bytes) else {
///     panic!("a whole line is there");
/// };
/// assert_eq!(&bytes[body], b"one");
/// assert_eq!(&bytes[consumed..], b"two");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A message: where its body is, and where the next frame begins.
    Frame {
        /// The message without its framing; never more bytes than the maximum.
        body: Range<usize>,
        /// The length of the frame, framing included; never 0.
        consumed: usize,
    },
    /// These bytes are no message, such as an over-long line's: drop them and call again.
    Skipped {
        /// How many; never 0.
        consumed: usize,
    },
    /// No whole frame yet: call again when there are more bytes.
    Incomplete,
}

/// What has to be remembered between two reads of one stream; made by [`Framing::decoder`].
///
/// Small (at most 48 bytes), owns no buffer, and never allocates; the state of a codec of one's own is
/// boxed when the first bytes come. A [`FrameReader`](crate::codec::FrameReader) is one with a buffer.
///
/// # Examples
///
/// The loop of a reader: decode until `Incomplete`, then keep what was not consumed.
///
/// ```
/// use switchboard::codec::{Decoded, Framing};
///
/// let mut decoder = Framing::lines().decoder();
/// let (mut pending, mut messages) = (Vec::new(), Vec::new());
/// for read in [&b"one\ntw"[..], b"o\nthr"] {
///     pending.extend_from_slice(read);
///     let mut done = 0;
///     loop {
///         match decoder.decode(&pending[done..])? {
///             Decoded::Frame { body, consumed } => {
///                 messages.push(pending[done..][body].to_vec());
///                 done += consumed;
///             }
///             Decoded::Skipped { consumed } => done += consumed,
///             Decoded::Incomplete => break,
///         }
///     }
///     pending.drain(..done);
/// }
/// assert_eq!(messages, [b"one", b"two"]);
/// assert_eq!(pending, b"thr");
/// # Ok::<(), switchboard::codec::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    state: State,
}

/// One framing each, and the end of them all.
#[derive(Debug)]
enum State {
    /// Nothing to remember.
    Raw,
    /// How far the line was scanned, or that it is being skipped.
    Lines(LineDecoder),
    /// Width and maximum; the prefix is read anew each time, since it stays in the bytes.
    LengthPrefix(PrefixDecoder),
    /// How far the message was scanned, or that it is being skipped.
    Delimiter(DelimiterDecoder),
    /// The length of every message.
    Fixed(Fixed),
    /// What a codec of one's own remembers.
    Custom(CustomDecoder),
    /// A fatal error was reported; where the next frame begins is not known.
    Poisoned,
}

impl Decoder {
    pub(super) fn new(framing: &Framing) -> Self {
        let state = match framing {
            Framing::Raw => State::Raw,
            Framing::Lines(lines) => State::Lines(lines.decoder()),
            Framing::LengthPrefix(prefix) => State::LengthPrefix(prefix.decoder()),
            Framing::Delimiter(delimiter) => State::Delimiter(delimiter.decoder()),
            Framing::Fixed(fixed) => State::Fixed(*fixed),
            Framing::Custom(custom) => State::Custom(custom.decoder()),
        };
        Self { state }
    }

    /// Looks for the first frame in `bytes`, which are all bytes that no earlier call consumed.
    ///
    /// After `Incomplete`, and after an error that is not fatal, the next call must pass the same
    /// bytes, with more appended or not: the decoder remembers how far it scanned. After anything
    /// else it must begin `consumed` bytes further on.
    ///
    /// # Errors
    ///
    /// A [`FrameError`]. After a fatal one every later call returns [`FrameError::Poisoned`].
    ///
    /// # Panics
    ///
    /// In debug builds, if fewer bytes are passed than after the last `Incomplete` of a line or of a
    /// delimited message. A codec of one's own may panic as it likes.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{FrameError, Framing, Width};
    ///
    /// let mut decoder = Framing::length_prefix(Width::I32Le).decoder();
    /// let bytes = (-1_i32).to_le_bytes();
    /// assert_eq!(decoder.decode(&bytes), Err(FrameError::NegativeLength { length: -1 }));
    /// assert_eq!(decoder.decode(&bytes), Err(FrameError::Poisoned));
    /// ```
    #[inline]
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        let decoded = match &mut self.state {
            State::Raw => Ok(raw::decode(bytes)),
            State::Lines(lines) => lines.decode(bytes),
            State::LengthPrefix(prefix) => prefix.decode(bytes),
            State::Delimiter(delimiter) => delimiter.decode(bytes),
            State::Fixed(fixed) => Ok(fixed.decode(bytes)),
            State::Custom(custom) => custom.decode(bytes),
            State::Poisoned => Err(FrameError::Poisoned),
        };
        self.poison_if_fatal(decoded)
    }

    /// As [`decode`](Self::decode), once the peer has sent FIN and no more bytes will come.
    ///
    /// `Incomplete` now means that nothing is left. An unterminated last line, or what stands before a
    /// delimiter that did not come, is a frame.
    ///
    /// # Errors
    ///
    /// As for `decode`; a length prefix, a body or a fixed length that is cut short is
    /// [`FrameError::Unfinished`].
    ///
    /// # Panics
    ///
    /// As for `decode`.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{FrameError, Framing, Width};
    ///
    /// let mut decoder = Framing::length_prefix(Width::U8).decoder();
    /// assert_eq!(decoder.decode_end(b"\x05hell"), Err(FrameError::Unfinished { have: 5 }));
    /// ```
    pub fn decode_end(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        let decoded = match &mut self.state {
            State::Raw => Ok(raw::decode(bytes)),
            State::Lines(lines) => lines.decode_end(bytes),
            State::LengthPrefix(prefix) => prefix.decode_end(bytes),
            State::Delimiter(delimiter) => delimiter.decode_end(bytes),
            State::Fixed(fixed) => fixed.decode_end(bytes),
            State::Custom(custom) => custom.decode_end(bytes),
            State::Poisoned => Err(FrameError::Poisoned),
        };
        self.poison_if_fatal(decoded)
    }

    /// Whether an over-long message is being thrown away whose end has not come yet.
    pub(crate) const fn is_skipping(&self) -> bool {
        match &self.state {
            State::Lines(lines) => lines.is_skipping(),
            State::Delimiter(delimiter) => delimiter.is_skipping(),
            State::Raw
            | State::LengthPrefix(_)
            | State::Fixed(_)
            // What a codec of one's own skips belongs to no message.
            | State::Custom(_)
            | State::Poisoned => false,
        }
    }

    /// Whether decoding runs code of the user.
    #[inline]
    pub(crate) const fn is_custom(&self) -> bool {
        matches!(self.state, State::Custom(_))
    }

    /// One place decides that nothing follows a fatal error.
    fn poison_if_fatal(
        &mut self,
        decoded: Result<Decoded, FrameError>,
    ) -> Result<Decoded, FrameError> {
        if decoded.as_ref().is_err_and(FrameError::is_fatal) {
            self.state = State::Poisoned;
        }
        decoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Width;

    #[test]
    fn a_decoder_fits_in_the_slot_of_an_idle_connection() {
        assert!(size_of::<Decoder>() <= 48, "{} bytes", size_of::<Decoder>());
    }

    #[test]
    fn nothing_follows_a_fatal_error() {
        let fatal = [
            (Framing::lines().max_frame(1), &b"ab"[..]),
            (Framing::length_prefix(Width::U8).max_frame(1), b"\x02"),
            (Framing::length_prefix(Width::I32Le), b"\xff\xff\xff\xff"),
            (Framing::length_prefix(Width::Varint), &[0xff; 10]),
            (Framing::delimiter(b"--").max_frame(1), b"ab"),
        ];
        for (framing, bytes) in fatal {
            let mut decoder = framing.decoder();
            assert!(decoder.decode(bytes).is_err_and(|error| error.is_fatal()), "{framing}");
            assert_eq!(decoder.decode(b"\n"), Err(FrameError::Poisoned), "{framing}");
            assert_eq!(decoder.decode_end(b""), Err(FrameError::Poisoned), "{framing}");
        }
    }
}
