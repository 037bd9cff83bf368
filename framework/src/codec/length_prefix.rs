//! Length prefix: a message follows its length, an integer.

use crate::codec::{Decoded, EncodeError, Envelope, FrameError, varint};

/// The integer that says how long a message is.
///
/// # Examples
///
/// ```
/// use switchboard::codec::{Framing, Width};
///
/// let framing = Framing::length_prefix(Width::I32Le);
/// assert_eq!(framing.envelope(3)?.head(), 3_i32.to_le_bytes());
/// # Ok::<(), switchboard::codec::EncodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Width {
    /// One byte.
    U8,
    /// Two bytes, big endian.
    U16Be,
    /// Two bytes, little endian.
    U16Le,
    /// Four bytes, big endian: network order.
    U32Be,
    /// Four bytes, little endian.
    U32Le,
    /// Four bytes, little endian, signed, as Python's `struct.pack('i')` writes them on most
    /// machines. A negative length is a bad frame.
    I32Le,
    /// One to ten bytes, seven bits in each, the lowest first (LEB128), as protobuf's delimited
    /// streams have them. It is written in as few bytes as can be. One that is padded with zeros is
    /// read all the same; more than ten bytes, or than 64 bits, are a bad frame.
    Varint,
}

impl Width {
    /// The largest length that it can say.
    const fn capacity(self) -> usize {
        match self {
            Self::U8 => u8::MAX as usize,
            Self::U16Be | Self::U16Le => u16::MAX as usize,
            Self::U32Be | Self::U32Le => u32::MAX as usize,
            Self::I32Le => i32::MAX as usize,
            Self::Varint => usize::MAX,
        }
    }

    /// The prefix at the beginning of `bytes`: its size and the length that it announces.
    fn read(self, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let prefix = match self {
            Self::U8 => first(bytes).map(|at| (1, usize::from(u8::from_be_bytes(at)))),
            Self::U16Be => first(bytes).map(|at| (2, usize::from(u16::from_be_bytes(at)))),
            Self::U16Le => first(bytes).map(|at| (2, usize::from(u16::from_le_bytes(at)))),
            Self::U32Be => first(bytes).map(|at| (4, widen(u32::from_be_bytes(at)))),
            Self::U32Le => first(bytes).map(|at| (4, widen(u32::from_le_bytes(at)))),
            Self::I32Le => match first(bytes).map(i32::from_le_bytes) {
                Some(length @ ..0) => return Err(FrameError::NegativeLength { length }),
                at_least_0 => at_least_0.map(|length| (4, widen(length.unsigned_abs()))),
            },
            Self::Varint => return varint::read(bytes),
        };
        Ok(prefix)
    }

    /// The prefix of a message of `len` bytes, if it can say so.
    fn write(self, len: usize) -> Option<Envelope> {
        Some(match self {
            Self::U8 => Envelope::before(&u8::try_from(len).ok()?.to_be_bytes()),
            Self::U16Be => Envelope::before(&u16::try_from(len).ok()?.to_be_bytes()),
            Self::U16Le => Envelope::before(&u16::try_from(len).ok()?.to_le_bytes()),
            Self::U32Be => Envelope::before(&u32::try_from(len).ok()?.to_be_bytes()),
            Self::U32Le => Envelope::before(&u32::try_from(len).ok()?.to_le_bytes()),
            Self::I32Le => Envelope::before(&i32::try_from(len).ok()?.to_le_bytes()),
            Self::Varint => varint::write(len),
        })
    }
}

/// The first `N` bytes, if they are there.
fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// A length as a size; where sizes are narrower, one that no maximum allows.
fn widen(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// The settings of [`Framing::length_prefix`](crate::codec::Framing::length_prefix).
///
/// # Examples
///
/// ```
/// use switchboard::codec::{Framing, Width};
///
/// let framing = Framing::length_prefix(Width::U32Be).max_frame(64 * 1024);
/// assert!(matches!(framing, Framing::LengthPrefix(_)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthPrefix {
    width: Width,
    max: usize,
}

impl LengthPrefix {
    /// 1 MiB: far above usual messages, far below what would exhaust a machine.
    const DEFAULT_MAX: usize = 1024 * 1024;

    pub(super) const fn new(width: Width) -> Self {
        Self { width, max: Self::DEFAULT_MAX }
    }

    pub(super) const fn max_frame(self, bytes: usize) -> Self {
        Self { max: bytes, ..self }
    }

    pub(super) const fn width(self) -> Width {
        self.width
    }

    pub(super) const fn decoder(self) -> PrefixDecoder {
        PrefixDecoder { prefix: self }
    }

    pub(super) fn envelope(self, len: usize) -> Result<Envelope, EncodeError> {
        let max = self.max.min(self.width.capacity());
        let fits = if len <= max { self.width.write(len) } else { None };
        fits.ok_or(EncodeError::TooLong { len, max })
    }
}

/// Remembers nothing: the prefix stays in the bytes until its body is whole.
#[derive(Debug)]
pub(super) struct PrefixDecoder {
    prefix: LengthPrefix,
}

impl PrefixDecoder {
    #[inline]
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        let LengthPrefix { width, max } = self.prefix;
        let Some((begin, length)) = width.read(bytes)? else {
            return Ok(Decoded::Incomplete);
        };
        // Only the sum of an absurd maximum on a narrow machine overflows.
        let end = if length <= max { begin.checked_add(length) } else { None };
        match end {
            None => Err(FrameError::TooLong { max, skipping: false }),
            Some(end) if end > bytes.len() => Ok(Decoded::Incomplete),
            Some(end) => Ok(Decoded::Frame { body: begin..end, consumed: end }),
        }
    }

    pub(super) fn decode_end(&self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        match self.decode(bytes)? {
            Decoded::Incomplete if !bytes.is_empty() => {
                Err(FrameError::Unfinished { have: bytes.len() })
            }
            decoded => Ok(decoded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: [Width; 6] =
        [Width::U8, Width::U16Be, Width::U16Le, Width::U32Be, Width::U32Le, Width::I32Le];

    /// Those, and the one that can say every length.
    fn widths() -> impl Iterator<Item = Width> {
        WIDTHS.into_iter().chain([Width::Varint])
    }

    /// What a decoder with the default maximum makes of `bytes`.
    #[track_caller]
    fn check(width: Width, bytes: &[u8], expected: &Result<Decoded, FrameError>) {
        let decoded = LengthPrefix::new(width).decoder().decode(bytes);
        assert_eq!(&decoded, expected, "{width:?} {bytes:?}");
    }

    fn frame(begin: usize, end: usize) -> Result<Decoded, FrameError> {
        Ok(Decoded::Frame { body: begin..end, consumed: end })
    }

    const TOO_LONG: Result<Decoded, FrameError> =
        Err(FrameError::TooLong { max: 1 << 20, skipping: false });

    #[test]
    fn each_width_reads_its_own_byte_order() {
        check(Width::U8, b"\x02hi!", &frame(1, 3));
        check(Width::U16Be, b"\x00\x02hi!", &frame(2, 4));
        check(Width::U16Le, b"\x02\x00hi!", &frame(2, 4));
        check(Width::U32Be, b"\x00\x00\x00\x02hi!", &frame(4, 6));
        check(Width::U32Le, b"\x02\x00\x00\x00hi!", &frame(4, 6));
        check(Width::I32Le, b"\x02\x00\x00\x00hi!", &frame(4, 6));
        check(Width::Varint, b"\x02hi!", &frame(1, 3));
        check(Width::Varint, b"\x82\x80\x00hi!", &frame(3, 5));
    }

    #[test]
    fn each_width_says_its_largest_length_and_no_more() {
        for width in WIDTHS {
            let (prefix, max) = (LengthPrefix::new(width).max_frame(usize::MAX), width.capacity());
            let head = prefix.envelope(max).unwrap();
            assert_eq!(width.read(head.head()), Ok(Some((head.head().len(), max))), "{width:?}");
            let refused = prefix.envelope(max + 1);
            assert_eq!(refused, Err(EncodeError::TooLong { len: max + 1, max }), "{width:?}");
        }
    }

    #[test]
    fn a_frame_of_no_bytes_is_a_frame() {
        for width in widths() {
            let envelope = LengthPrefix::new(width).envelope(0).unwrap();
            let size = envelope.head().len();
            check(width, envelope.head(), &frame(size, size));
        }
    }

    #[test]
    fn length_bombs_are_refused_on_sight() {
        for bomb in [0xFFFF_FFFF_u32, 0x8000_0000, 0x7FFF_FFFF, 1 << 30, (1 << 20) + 1] {
            check(Width::U32Be, &bomb.to_be_bytes(), &TOO_LONG);
            check(Width::U32Le, &bomb.to_le_bytes(), &TOO_LONG);
        }
        check(Width::I32Le, &i32::MAX.to_le_bytes(), &TOO_LONG);
        check(Width::Varint, b"\x81\x80\x40", &TOO_LONG);
        check(Width::Varint, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &TOO_LONG);
    }

    #[test]
    fn a_negative_length_is_a_bad_frame() {
        for length in [-1, -2, i32::MIN] {
            let expected = Err(FrameError::NegativeLength { length });
            check(Width::I32Le, &length.to_le_bytes(), &expected);
        }
    }

    #[test]
    fn exactly_the_maximum_waits_for_its_body() {
        check(Width::U32Be, &(1_u32 << 20).to_be_bytes(), &Ok(Decoded::Incomplete));
        let mut bytes = (1_u32 << 20).to_le_bytes().to_vec();
        bytes.resize(4 + (1 << 20), 0);
        check(Width::I32Le, &bytes, &frame(4, 4 + (1 << 20)));
    }

    #[test]
    fn a_prefix_that_is_not_whole_is_incomplete() {
        check(Width::U8, b"", &Ok(Decoded::Incomplete));
        check(Width::U16Be, b"\xff", &Ok(Decoded::Incomplete));
        check(Width::I32Le, b"\xff\xff\xff", &Ok(Decoded::Incomplete));
    }
}
