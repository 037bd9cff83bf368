//! The few bytes around a message on the wire, held inline.

use crate::codec::Delimiter;

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
    /// First those before the message, then those after it, then zeros.
    bytes: [u8; ROOM],
    before: u8,
    after: u8,
}

/// The longest delimiter; no prefix is as wide.
const ROOM: usize = Delimiter::LONGEST;

impl Envelope {
    /// Nothing on either side.
    pub(super) const EMPTY: Self = Self { bytes: [0; ROOM], before: 0, after: 0 };

    /// These bytes, up to [`ROOM`], before the message; nothing after it.
    pub(super) const fn before(head: &[u8]) -> Self {
        Self { bytes: padded(head), before: head.len() as u8, after: 0 }
    }

    /// These bytes, up to [`ROOM`], after the message; nothing before it.
    pub(super) const fn after(tail: &[u8]) -> Self {
        Self { bytes: padded(tail), before: 0, after: tail.len() as u8 }
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
    #[inline]
    pub fn head(&self) -> &[u8] {
        &self.bytes[..usize::from(self.before)]
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
    #[inline]
    pub fn tail(&self) -> &[u8] {
        &self.bytes[usize::from(self.before)..][..usize::from(self.after)]
    }
}

/// These bytes, and zeros behind them.
const fn padded(bytes: &[u8]) -> [u8; ROOM] {
    let mut padded = [0; ROOM];
    padded.split_at_mut(bytes.len()).0.copy_from_slice(bytes);
    padded
}

/// Appends a message and what is around it. Not by an [`Envelope`]: where the compiler sees how many
/// bytes those are, this is a third of the time.
#[inline]
pub(super) fn append(head: &[u8], message: &[u8], tail: &[u8], out: &mut Vec<u8>) {
    out.reserve(head.len() + message.len() + tail.len());
    out.extend_from_slice(head);
    out.extend_from_slice(message);
    out.extend_from_slice(tail);
}
