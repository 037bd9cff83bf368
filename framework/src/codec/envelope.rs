//! The few bytes around a message on the wire, held inline.

use crate::codec::{Delimiter, varint};

/// What stands before and after a message; see [`Framing::envelope`](crate::codec::Framing::envelope).
///
/// # Examples
///
/// ```
/// use switchboard::codec::Framing;
///
/// let envelope = Framing::lines().envelope(5)?;
/// assert_eq!([envelope.head(), b"hello", envelope.tail()].concat(), b"hello\n");
/// # Ok::<(), switchboard::codec::EncodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    head: Inline<HEAD>,
    tail: Inline<TAIL>,
}

/// The widest prefix, and the longest delimiter.
const HEAD: usize = varint::LONGEST;
const TAIL: usize = Delimiter::LONGEST;

impl Envelope {
    /// Nothing on either side.
    pub(super) const EMPTY: Self = Self { head: Inline::EMPTY, tail: Inline::EMPTY };

    /// These bytes before the message, nothing after it.
    pub(super) const fn before<const N: usize>(head: &[u8; N]) -> Self {
        Self::before_first(head, N)
    }

    /// The first `len` of these bytes before the message, nothing after it.
    pub(super) const fn before_first<const N: usize>(head: &[u8; N], len: usize) -> Self {
        Self { head: Inline::first(head, len), ..Self::EMPTY }
    }

    /// The first `len` of these bytes after the message, nothing before it.
    pub(super) const fn after_first<const N: usize>(tail: &[u8; N], len: usize) -> Self {
        Self { tail: Inline::first(tail, len), ..Self::EMPTY }
    }

    /// The bytes before the message.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{Framing, Width};
    ///
    /// let framing = Framing::length_prefix(Width::U16Le);
    /// assert_eq!(framing.envelope(258)?.head(), [2, 1]);
    /// # Ok::<(), switchboard::codec::EncodeError>(())
    /// ```
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.head.as_slice()
    }

    /// The bytes after the message.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::Framing;
    ///
    /// assert_eq!(Framing::lines().envelope(0)?.tail(), b"\n");
    /// # Ok::<(), switchboard::codec::EncodeError>(())
    /// ```
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        self.tail.as_slice()
    }
}

/// Up to `ROOM` bytes. Invariant: `len <= ROOM`, and the bytes from `len` on are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inline<const ROOM: usize> {
    bytes: [u8; ROOM],
    len: u8,
}

impl<const ROOM: usize> Inline<ROOM> {
    const EMPTY: Self = Self { bytes: [0; ROOM], len: 0 };

    /// The first `len` of these bytes, of which more than there is room for do not compile.
    const fn first<const N: usize>(bytes: &[u8; N], len: usize) -> Self {
        const { assert!(N <= ROOM && ROOM <= u8::MAX as usize) };
        let (wanted, _) = bytes.split_at(len);
        let mut inline = Self { len: len as u8, ..Self::EMPTY };
        inline.bytes.split_at_mut(len).0.copy_from_slice(wanted);
        inline
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}
