//! The few bytes around a message on the wire, held inline.

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
    head: Inline,
    tail: Inline,
}

impl Envelope {
    /// Nothing on either side.
    pub(super) const EMPTY: Self = Self { head: Inline::new(&[]), tail: Inline::new(&[]) };

    /// These bytes before the message, nothing after it.
    pub(super) const fn before<const N: usize>(head: &[u8; N]) -> Self {
        Self { head: Inline::new(head), ..Self::EMPTY }
    }

    /// These bytes after the message, nothing before it.
    pub(super) const fn after<const N: usize>(tail: &[u8; N]) -> Self {
        Self { tail: Inline::new(tail), ..Self::EMPTY }
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

/// Up to [`Inline::ROOM`] bytes. Invariant: `len <= ROOM`, and the bytes from `len` on are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inline {
    bytes: [u8; Self::ROOM],
    len: u8,
}

impl Inline {
    /// The widest prefix.
    const ROOM: usize = 4;

    /// More bytes than there is room for do not compile.
    const fn new<const N: usize>(bytes: &[u8; N]) -> Self {
        const { assert!(N <= Self::ROOM) };
        let mut inline = Self { bytes: [0; Self::ROOM], len: N as u8 };
        inline.bytes.split_at_mut(N).0.copy_from_slice(bytes);
        inline
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}
