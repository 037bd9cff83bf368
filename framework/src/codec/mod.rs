//! Pure bytes to frames and back: no socket, no clock, no allocation that a peer can name.
//!
//! A [`Framing`] is a value that says how messages are cut out of a byte stream. Its
//! [`Decoder`] holds the little that has to be remembered between two reads of one stream;
//! writing needs no state.
//!
//! ```
//! use switchboard::codec::{Decoded, Framing};
//!
//! let framing = Framing::lines();
//! let mut wire = Vec::new();
//! framing.encode(b"hello", &mut wire)?;
//! assert_eq!(wire, b"hello\n");
//!
//! let mut decoder = framing.decoder();
//! assert_eq!(decoder.decode(b"hel"), Ok(Decoded::Incomplete));
//! assert_eq!(decoder.decode(b"hello\nwor"), Ok(Decoded::Frame { body: 0..5, consumed: 6 }));
//! assert_eq!(decoder.decode(b"wor"), Ok(Decoded::Incomplete));
//! assert_eq!(decoder.decode_end(b"wor"), Ok(Decoded::Frame { body: 0..3, consumed: 3 }));
//! # Ok::<(), switchboard::codec::EncodeError>(())
//! ```

mod decoder;

mod raw;

mod lines;

mod length_prefix;

mod envelope;
mod error;
mod parse;

pub use crate::codec::decoder::{Decoded, Decoder};
pub use crate::codec::envelope::Envelope;
pub use crate::codec::error::{EncodeError, FrameError};
pub use crate::codec::length_prefix::{LengthPrefix, Width};
pub use crate::codec::lines::Lines;
pub use crate::codec::parse::ParseFramingError;

/// How messages are cut out of a byte stream.
///
/// A plain value: build it with [`raw`](Self::raw), [`lines`](Self::lines) or
/// [`length_prefix`](Self::length_prefix), or parse the name that a command line gives
/// (`raw`, `lines`, `len-le32`, `len-be32`, `len-be16`, `len-le16`, `len-u8`, `len-u32le`,
/// `len-i32le`). `Display` writes such a name; the limits are not part of it.
///
/// The name `len-le32` is the tutorials' four-byte prefix, Python's `struct.pack('i')`, and so
/// means [`Width::I32Le`] (as `len-i32le` does). A peer that writes unsigned lengths cannot tell
/// the difference below 2 GiB; from there on the length reads as negative and is a bad frame.
/// `len-u32le` is [`Width::U32Le`].
///
/// # Examples
///
/// ```
/// use switchboard::codec::{Framing, Width};
///
/// let framing = Framing::length_prefix(Width::U16Be).max_frame(512);
/// assert_eq!(framing.to_string(), "len-be16");
/// assert_eq!("len-be16".parse(), Ok(Framing::length_prefix(Width::U16Be)));
/// assert!("delimiter:00".parse::<Framing>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// A message is what one read returned.
    Raw,
    /// A message ends at a line feed.
    Lines(Lines),
    /// A message follows its length.
    LengthPrefix(LengthPrefix),
}

impl Framing {
    /// A message is what one read returned, as with `recv` in Python.
    ///
    /// Where one message ends and the next begins is then up to the network.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Decoded, Framing};
    ///
    /// let mut decoder = Framing::raw().decoder();
    /// assert_eq!(decoder.decode(b"ab\ncd"), Ok(Decoded::Frame { body: 0..5, consumed: 5 }));
    /// ```
    #[must_use]
    pub const fn raw() -> Self {
        Self::Raw
    }

    /// A message is a line: up to LF or CRLF, which are not part of it; at most 8 KiB.
    ///
    /// A CR elsewhere and a NUL are data. When the peer has sent FIN, an unterminated last line
    /// is a message too, exactly as it stands. [`encode`](Self::encode) appends LF and leaves the
    /// message as it is: one that contains LF arrives as several lines, and of one that ends with
    /// CR that CR is taken for a part of the line end.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Decoded, Framing};
    ///
    /// let mut decoder = Framing::lines().decoder();
    /// assert_eq!(decoder.decode(b"a\r\nb"), Ok(Decoded::Frame { body: 0..1, consumed: 3 }));
    /// ```
    #[must_use]
    pub const fn lines() -> Self {
        Self::Lines(Lines::new())
    }

    /// A message follows its length, an integer of this width; at most 1 MiB.
    ///
    /// The length does not count itself. A message of no bytes is a message.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Decoded, Framing, Width};
    ///
    /// let mut decoder = Framing::length_prefix(Width::U16Be).decoder();
    /// assert_eq!(decoder.decode(b"\0\x02hi"), Ok(Decoded::Frame { body: 2..4, consumed: 4 }));
    /// ```
    #[must_use]
    pub const fn length_prefix(width: Width) -> Self {
        Self::LengthPrefix(LengthPrefix::new(width))
    }

    /// Sets the largest frame body in bytes, in both directions; line end and prefix not counted.
    ///
    /// No effect on [`raw`](Self::raw), where a read never returns more than the read buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{FrameError, Framing};
    ///
    /// let mut decoder = Framing::lines().max_frame(3).decoder();
    /// assert_eq!(decoder.decode(b"four"), Err(FrameError::TooLong { max: 3, skipping: false }));
    /// ```
    #[must_use]
    pub const fn max_frame(self, bytes: usize) -> Self {
        match self {
            Self::Raw => Self::Raw,
            Self::Lines(lines) => Self::Lines(lines.max_frame(bytes)),
            Self::LengthPrefix(prefix) => Self::LengthPrefix(prefix.max_frame(bytes)),
        }
    }

    /// Lines only: an over-long line is reported once and discarded up to and with its line feed,
    /// instead of being fatal. No effect on other framings.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Decoded, FrameError, Framing};
    ///
    /// let mut decoder = Framing::lines().max_frame(3).skip_overlong().decoder();
    /// let bytes = b"four\nok\n";
    /// assert_eq!(decoder.decode(bytes), Err(FrameError::TooLong { max: 3, skipping: true }));
    /// assert_eq!(decoder.decode(bytes), Ok(Decoded::Skipped { consumed: 5 }));
    /// assert_eq!(decoder.decode(&bytes[5..]), Ok(Decoded::Frame { body: 0..2, consumed: 3 }));
    /// ```
    #[must_use]
    pub const fn skip_overlong(self) -> Self {
        match self {
            Self::Lines(lines) => Self::Lines(lines.skip_overlong()),
            other => other,
        }
    }

    /// A decoder for the bytes of one stream.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Decoded, Framing};
    ///
    /// assert_eq!(Framing::lines().decoder().decode(b""), Ok(Decoded::Incomplete));
    /// ```
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self)
    }

    /// Appends the message, framed, to `out`.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] if the message is larger than the maximum or than its prefix can
    /// say; then nothing was appended.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{EncodeError, Framing, Width};
    ///
    /// let framing = Framing::length_prefix(Width::U8);
    /// let mut out = Vec::new();
    /// framing.encode(b"hi", &mut out)?;
    /// assert_eq!(out, b"\x02hi");
    /// assert_eq!(
    ///     framing.encode(&[0; 256], &mut out),
    ///     Err(EncodeError::TooLong { len: 256, max: 255 })
    /// );
    /// assert_eq!(out, b"\x02hi");
    /// # Ok::<(), EncodeError>(())
    /// ```
    pub fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let envelope = self.envelope(message.len())?;
        out.reserve(envelope.head().len() + message.len() + envelope.tail().len());
        out.extend_from_slice(envelope.head());
        out.extend_from_slice(message);
        out.extend_from_slice(envelope.tail());
        Ok(())
    }

    /// What stands before and after a message of `len` bytes on the wire, so that one shared body
    /// can be sent to many peers without being copied.
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode).
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Framing, Width};
    ///
    /// let envelope = Framing::length_prefix(Width::U32Be).envelope(5)?;
    /// assert_eq!((envelope.head(), envelope.tail()), (&[0, 0, 0, 5][..], &[][..]));
    /// # Ok::<(), switchboard::codec::EncodeError>(())
    /// ```
    pub fn envelope(&self, len: usize) -> Result<Envelope, EncodeError> {
        match self {
            Self::Raw => Ok(Envelope::EMPTY),
            Self::Lines(lines) => lines.envelope(len),
            Self::LengthPrefix(prefix) => prefix.envelope(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_leave_other_framings_alone() {
        assert_eq!(Framing::raw().max_frame(1).skip_overlong(), Framing::raw());
        let prefix = Framing::length_prefix(Width::U8);
        assert_eq!(prefix.clone().skip_overlong(), prefix);
    }
}
