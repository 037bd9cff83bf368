//! Pure bytes to frames and back: no socket, no clock, no allocation that a peer can name.
//!
//! A [`Framing`] is a value that says how messages are cut out of a byte stream. Its
//! [`Decoder`] holds the little that has to be remembered between two reads of one stream;
//! writing needs no state. A [`FrameReader`] is a decoder with a buffer around it, and a [`Codec`] is a
//! framing of one's own.
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
mod varint;

mod delimiter;

mod fixed;

mod checked;
mod custom;

mod envelope;
mod error;
mod parse;
mod reader;

pub use crate::codec::custom::{Codec, Custom, Decode};
pub use crate::codec::decoder::{Decoded, Decoder};
pub use crate::codec::delimiter::Delimiter;
pub use crate::codec::envelope::Envelope;
pub use crate::codec::error::{EncodeError, FrameError};
pub use crate::codec::fixed::Fixed;
pub use crate::codec::length_prefix::{LengthPrefix, Width};
pub use crate::codec::lines::Lines;
pub use crate::codec::parse::ParseFramingError;
pub use crate::codec::reader::FrameReader;

/// How messages are cut out of a byte stream.
///
/// A plain value, cheap to clone. Build it with one of the functions below, or parse the name that a
/// command line gives:
///
/// | name | |
/// |---|---|
/// | `raw` | [`raw`](Self::raw): what one read returned |
/// | `lines` | [`lines`](Self::lines): up to LF or CRLF |
/// | `delimiter:HEX` | [`delimiter`](Self::delimiter): up to these bytes, as `delimiter:0d0a` |
/// | `fixed:N` | [`fixed`](Self::fixed): N bytes each |
/// | `len-le32`, `len-be32`, `len-be16`, `len-le16`, `len-u8`, `len-u32le`, `len-i32le`, `len-varint` | [`length_prefix`](Self::length_prefix): a length, then so many bytes |
///
/// `Display` writes such a name; the limits are not part of it. A framing of one's own is written as
/// `custom`, which is no name that can be parsed.
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
/// assert_eq!("delimiter:0d0a".parse(), Ok(Framing::delimiter(b"\r\n")));
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
    /// A message ends at certain bytes.
    Delimiter(Delimiter),
    /// Every message has the same length.
    Fixed(Fixed),
    /// A framing of one's own.
    Custom(Custom),
}

impl Framing {
    /// The longest [`delimiter`](Self::delimiter), in bytes.
    ///
    /// ```
    /// use switchboard::Framing;
    ///
    /// let written = format!("delimiter:{}", "2d".repeat(Framing::LONGEST_DELIMITER + 1));
    /// assert!(written.parse::<Framing>().is_err());
    /// ```
    pub const LONGEST_DELIMITER: usize = Delimiter::LONGEST;

    /// The largest [`fixed`](Self::fixed) length, in bytes: 1 GiB.
    ///
    /// ```
    /// use switchboard::Framing;
    ///
    /// assert!(format!("fixed:{}", Framing::LARGEST_FIXED).parse::<Framing>().is_ok());
    /// assert!(format!("fixed:{}", Framing::LARGEST_FIXED + 1).parse::<Framing>().is_err());
    /// ```
    pub const LARGEST_FIXED: usize = Fixed::LARGEST;

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

    /// A message ends at these bytes, one to sixteen, which are not part of it; it is at most 8 KiB.
    ///
    /// The first place where all of them stand ends it. When the peer has sent FIN, what is left is a
    /// message too, exactly as it stands. [`encode`](Self::encode) appends the delimiter and leaves the
    /// message as it is: one that contains it arrives as several.
    ///
    /// # Panics
    ///
    /// If the delimiter is empty, or longer than [`LONGEST_DELIMITER`](Self::LONGEST_DELIMITER). In a
    /// constant that is an error of the compiler. One that comes from outside is better parsed:
    /// `"delimiter:0d0a".parse::<Framing>()` reports what is wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Decoded, Framing};
    ///
    /// let mut decoder = Framing::delimiter(b"aab").decoder();
    /// assert_eq!(decoder.decode(b"aa"), Ok(Decoded::Incomplete));
    /// assert_eq!(decoder.decode(b"aaabc"), Ok(Decoded::Frame { body: 0..1, consumed: 4 }));
    /// ```
    #[must_use]
    pub const fn delimiter(delimiter: &[u8]) -> Self {
        match Delimiter::new(delimiter) {
            Some(delimiter) => Self::Delimiter(delimiter),
            None => panic!("a delimiter has 1 to 16 bytes"),
        }
    }

    /// Every message has exactly so many bytes.
    ///
    /// FIN in the middle of one is [`FrameError::Unfinished`]. A message of another length is not sent:
    /// [`EncodeError::WrongLength`]. A connection keeps up to so many bytes for a message that is not
    /// whole.
    ///
    /// # Panics
    ///
    /// If `bytes` is 0 or above [`LARGEST_FIXED`](Self::LARGEST_FIXED). In a constant that is an error of
    /// the compiler. One that comes from outside is better parsed: `"fixed:16".parse::<Framing>()`
    /// reports what is wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Decoded, EncodeError, Framing};
    ///
    /// let framing = Framing::fixed(4);
    /// let decoded = framing.decoder().decode(b"abcdef");
    /// assert_eq!(decoded, Ok(Decoded::Frame { body: 0..4, consumed: 4 }));
    /// let refused = framing.encode(b"abc", &mut Vec::new());
    /// assert_eq!(refused, Err(EncodeError::WrongLength { len: 3, expected: 4 }));
    /// ```
    #[must_use]
    pub const fn fixed(bytes: usize) -> Self {
        match Fixed::new(bytes) {
            Some(fixed) => Self::Fixed(fixed),
            None => panic!("a fixed length is 1 byte to 1 GiB"),
        }
    }

    /// A framing of one's own; [`Codec`] has an example. A frame is at most 1 MiB.
    ///
    /// Clones of the framing share the codec, and are equal to each other and to no other.
    ///
    /// ```
    /// use switchboard::codec::{Codec, Decode, Decoded, EncodeError, FrameError, Framing};
    ///
    /// struct Bytes;
    ///
    /// impl Codec for Bytes {
    ///     fn decoder(&self) -> Box<dyn Decode> {
    ///         Box::new(Self)
    ///     }
    ///     fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    ///         out.extend_from_slice(message);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Decode for Bytes {
    ///     fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
    ///         let whole = Decoded::Frame { body: 0..1, consumed: 1 };
    ///         Ok(if bytes.is_empty() { Decoded::Incomplete } else { whole })
    ///     }
    /// }
    ///
    /// let mut decoder = Framing::custom(Bytes).decoder();
    /// assert_eq!(decoder.decode(b"ab"), Ok(Decoded::Frame { body: 0..1, consumed: 1 }));
    /// ```
    #[must_use]
    pub fn custom(codec: impl Codec) -> Self {
        Self::Custom(Custom::new(codec))
    }

    /// Sets the largest frame body in bytes, in both directions; line end, delimiter and prefix not
    /// counted. A reply that is longer cannot be sent, and ends its connection
    /// ([`Context::send`](crate::Context::send)): it has to be large enough for the longest. Of a framing of one's own it is the largest frame, with all that belongs to it (1 at least).
    ///
    /// No effect on [`raw`](Self::raw), where a read never returns more than the read buffer, nor on
    /// [`fixed`](Self::fixed), whose length is its maximum.
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
    pub fn max_frame(self, bytes: usize) -> Self {
        match self {
            Self::Raw => Self::Raw,
            Self::Fixed(fixed) => Self::Fixed(fixed),
            Self::Lines(lines) => Self::Lines(lines.max_frame(bytes)),
            Self::LengthPrefix(prefix) => Self::LengthPrefix(prefix.max_frame(bytes)),
            Self::Delimiter(delimiter) => Self::Delimiter(delimiter.max_frame(bytes)),
            Self::Custom(custom) => Self::Custom(custom.max_frame(bytes)),
        }
    }

    /// Lines and delimiters only: an over-long message is reported once and discarded up to and with
    /// its end, instead of being fatal. No effect on other framings, nor on what is sent: a reply longer
    /// than the maximum ends the connection all the same.
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
    pub fn skip_overlong(self) -> Self {
        match self {
            Self::Lines(lines) => Self::Lines(lines.skip_overlong()),
            Self::Delimiter(delimiter) => Self::Delimiter(delimiter.skip_overlong()),
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
    /// say, [`EncodeError::WrongLength`] if all have another length, and whatever a codec of one's own
    /// says. Then nothing was appended.
    ///
    /// # Panics
    ///
    /// Only if a codec of one's own does; then nothing was appended either.
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
        match self {
            Self::Raw => out.extend_from_slice(message),
            Self::Lines(lines) => lines.encode(message, out)?,
            Self::LengthPrefix(prefix) => prefix.encode(message, out)?,
            Self::Delimiter(delimiter) => delimiter.encode(message, out)?,
            Self::Fixed(fixed) => {
                fixed.check(message.len())?;
                out.extend_from_slice(message);
            }
            Self::Custom(custom) => custom.encode(message, out)?,
        }
        Ok(())
    }

    /// What stands before and after a message of `len` bytes on the wire, so that one shared body
    /// can be sent to many peers without being copied.
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode); of a framing of one's own always [`EncodeError::NoEnvelope`],
    /// since it may put anything anywhere: such a message has to be encoded.
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
            Self::Delimiter(delimiter) => delimiter.envelope(len),
            Self::Fixed(fixed) => fixed.check(len).map(|()| Envelope::EMPTY),
            Self::Custom(_) => Err(EncodeError::NoEnvelope),
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
        assert_eq!(Framing::fixed(3).max_frame(1).skip_overlong(), Framing::fixed(3));
    }

    #[test]
    #[should_panic(expected = "1 to 16 bytes")]
    fn a_delimiter_of_no_bytes_is_a_fault_of_the_program() {
        drop(Framing::delimiter(b""));
    }

    #[test]
    #[should_panic(expected = "1 byte to 1 GiB")]
    fn messages_of_no_bytes_are_a_fault_of_the_program() {
        drop(Framing::fixed(0));
    }
}
