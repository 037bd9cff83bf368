//! What is wrong with a frame that came in, or with a message that was to go out.

use std::error::Error;
use std::fmt;

use crate::fault::Fault;

/// Why the peer's bytes are no frame. Always the peer's doing, never the handler's.
///
/// # Examples
///
/// ```
/// use switchboard::codec::{FrameError, Framing, Width};
///
/// let one_gib = (1_u32 << 30).to_be_bytes();
/// let error = Framing::length_prefix(Width::U32Be).decoder().decode(&one_gib).unwrap_err();
/// assert_eq!(error, FrameError::TooLong { max: 1 << 20, skipping: false });
/// assert_eq!(error.to_string(), "frame longer than the maximum of 1048576 bytes");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The length, announced or scanned, passed the maximum. Known before the frame is buffered.
    TooLong {
        /// The largest frame body allowed.
        max: usize,
        /// The message is being discarded and decoding goes on after it
        /// ([`Framing::skip_overlong`](crate::codec::Framing::skip_overlong)).
        skipping: bool,
    },
    /// A signed length was below zero.
    NegativeLength {
        /// The length that was announced.
        length: i32,
    },
    /// A length was no integer: a [`Varint`](crate::codec::Width::Varint) of more than ten bytes, or of
    /// more than 64 bits.
    MalformedLength,
    /// The peer sent FIN in the middle of a frame.
    Unfinished {
        /// How many bytes of the frame are there, prefix included.
        have: usize,
    },
    /// A datagram was larger than the receive buffer, and its end is lost.
    Truncated {
        /// The size of the receive buffer.
        limit: usize,
    },
    /// What a codec of one's own ([`Codec`](crate::codec::Codec)) says, or how it broke its rules.
    Custom {
        /// Its reason: one line in lower case, without a dot.
        why: Box<str>,
        /// The bytes in question are being discarded and decoding goes on after them.
        skipping: bool,
    },
    /// A fatal error was reported before; nothing more is decoded.
    Poisoned,
}

impl FrameError {
    /// A codec's own reason why the bytes are no frame; a fatal one.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::FrameError;
    ///
    /// let error = FrameError::custom("no comma behind a netstring");
    /// assert_eq!(error.to_string(), "no comma behind a netstring");
    /// assert!(error.is_fatal());
    /// ```
    #[must_use]
    pub fn custom(why: impl Into<Box<str>>) -> Self {
        Self::Custom { why: why.into(), skipping: false }
    }

    /// Whether nothing can be decoded any more, since where the next frame begins is unknown.
    ///
    /// What is skipped and a truncated datagram are not fatal: the next message is whole.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::FrameError;
    ///
    /// assert!(FrameError::TooLong { max: 80, skipping: false }.is_fatal());
    /// assert!(!FrameError::TooLong { max: 80, skipping: true }.is_fatal());
    /// ```
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::TooLong { skipping, .. } | Self::Custom { skipping, .. } => !*skipping,
            Self::Truncated { .. } => false,
            Self::NegativeLength { .. }
            | Self::MalformedLength
            | Self::Unfinished { .. }
            | Self::Poisoned => true,
        }
    }
}

impl FrameError {
    /// Whose fault it is: always the peer's.
    ///
    /// ```
    /// use switchboard::{Fault, FrameError};
    ///
    /// assert_eq!(FrameError::NegativeLength { length: -1 }.fault(), Fault::Peer);
    /// ```
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max, skipping: false } => {
                write!(f, "frame longer than the maximum of {max} bytes")
            }
            Self::TooLong { max, skipping: true } => {
                write!(f, "line longer than the maximum of {max} bytes, skipped")
            }
            Self::MalformedLength => f.write_str("frame length of more than 10 bytes or 64 bits"),
            Self::NegativeLength { length } => write!(f, "negative frame length {length}"),
            Self::Unfinished { have } => {
                write!(f, "stream ended in the middle of a frame, after {have} bytes of it")
            }
            Self::Truncated { limit } => {
                write!(f, "datagram larger than the receive buffer of {limit} bytes")
            }
            Self::Custom { why, .. } => f.write_str(why),
            Self::Poisoned => f.write_str("decoding stopped at an earlier bad frame"),
        }
    }
}

impl Error for FrameError {}

/// Why a message cannot be framed. The handler's doing.
///
/// # Examples
///
/// ```
/// use switchboard::codec::{EncodeError, Framing};
///
/// let error = Framing::lines().max_frame(3).envelope(4).unwrap_err();
/// assert_eq!(error, EncodeError::TooLong { len: 4, max: 3 });
/// assert_eq!(error.to_string(), "message of 4 bytes is longer than the maximum of 3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message is larger than the maximum, or than its length prefix can say.
    TooLong {
        /// The length of the message.
        len: usize,
        /// The largest that can be sent.
        max: usize,
    },
    /// The message has another length than every message has.
    WrongLength {
        /// The length of the message.
        len: usize,
        /// The length that every message has.
        expected: usize,
    },
    /// What a codec of one's own ([`Codec`](crate::codec::Codec)) says.
    Custom {
        /// Its reason: one line in lower case, without a dot.
        why: Box<str>,
    },
    /// Not of a message: a codec of one's own frames whole messages, and so has no
    /// [`Envelope`](crate::codec::Envelope).
    NoEnvelope,
}

impl EncodeError {
    /// A codec's own reason why a message cannot be framed.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::EncodeError;
    ///
    /// let error = EncodeError::custom("a name has no spaces");
    /// assert_eq!(error.to_string(), "a name has no spaces");
    /// ```
    #[must_use]
    pub fn custom(why: impl Into<Box<str>>) -> Self {
        Self::Custom { why: why.into() }
    }
}

impl EncodeError {
    /// Whose fault it is: always of whoever wanted it sent.
    ///
    /// ```
    /// use switchboard::{Fault, Framing};
    ///
    /// let error = Framing::lines().max_frame(3).envelope(4).unwrap_err();
    /// assert_eq!(error.fault(), Fault::Caller);
    /// ```
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Caller
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => {
                write!(f, "message of {len} bytes is longer than the maximum of {max}")
            }
            Self::WrongLength { len, expected } => {
                write!(f, "message of {len} bytes where every message has {expected}")
            }
            Self::Custom { why } => f.write_str(why),
            Self::NoEnvelope => f.write_str("a custom codec frames whole messages"),
        }
    }
}

impl Error for EncodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_in_lower_case_without_a_dot() {
        let encode = [
            EncodeError::TooLong { len: 3, max: 2 },
            EncodeError::WrongLength { len: 3, expected: 2 },
            EncodeError::NoEnvelope,
        ];
        let decode = [
            FrameError::TooLong { max: 80, skipping: false },
            FrameError::TooLong { max: 80, skipping: true },
            FrameError::NegativeLength { length: -7 },
            FrameError::MalformedLength,
            FrameError::Unfinished { have: 3 },
            FrameError::Truncated { limit: 65_507 },
            FrameError::Poisoned,
        ];
        let texts = encode.map(|error| error.to_string()).into_iter();
        for text in texts.chain(decode.map(|error| error.to_string())) {
            assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
            assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn only_what_loses_the_frame_boundary_is_fatal() {
        assert!(FrameError::NegativeLength { length: -1 }.is_fatal());
        assert!(FrameError::Unfinished { have: 1 }.is_fatal());
        assert!(FrameError::Poisoned.is_fatal());
        assert!(FrameError::MalformedLength.is_fatal());
        assert!(!FrameError::Custom { why: "bad checksum".into(), skipping: true }.is_fatal());
        assert!(!FrameError::Truncated { limit: 1 }.is_fatal());
    }
}
