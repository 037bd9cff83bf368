//! What every turn has in common: why it is made, the desk it works at, and what follows it.
//!
//! A turn is one run of a peer's callbacks by one worker. Streams and datagrams have each their own;
//! the schedule sees only these words.

use std::time::Instant;

use crate::config::TURN_BYTES;
use crate::sys::datagrams::SendBatch;
use crate::timer::Moment;

/// Why a turn is made: a set, as it stands in a slot's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Why(pub(crate) u64);

impl Why {
    pub(crate) const NOTHING: Self = Self(0);
    /// Bytes or datagrams are there.
    pub(crate) const READ: Self = Self(1 << 8);
    /// The socket takes bytes again.
    pub(crate) const WRITE: Self = Self(1 << 9);
    /// The peer has sent FIN or RST.
    pub(crate) const HANGUP: Self = Self(1 << 10);
    /// A deadline has passed.
    pub(crate) const TIMER: Self = Self(1 << 11);
    /// Somebody else put something into the outbox.
    pub(crate) const SEND: Self = Self(1 << 12);
    /// The server is drained.
    pub(crate) const DRAIN: Self = Self(1 << 13);
    /// The drain's deadline has passed.
    pub(crate) const FORCE: Self = Self(1 << 14);
    /// More waits in the outbox than may.
    pub(crate) const OVERFLOW: Self = Self(1 << 15);
    /// Another session needs the place.
    pub(crate) const EVICT: Self = Self(1 << 16);
    /// It is new: its handler is to be made.
    pub(crate) const START: Self = Self(1 << 17);
    /// Work was left over by the last turn's budget.
    pub(crate) const MORE: Self = Self(1 << 18);

    /// All of them.
    pub(crate) const ALL: u64 = 0x7ff << 8;

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What follows a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Wait, for bytes, for room to write, or for the deadline.
    Park { read: bool, write: bool, deadline: Moment },
    /// There is more to do at once: to the back of the queue.
    Again,
    /// It has ended; its slot is free.
    Closed,
}

/// A worker's buffers. They are shared by all turns that it runs: an idle connection owns none.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Where bytes are read to. Taken out while a turn reads from it.
    pub(crate) read: Vec<u8>,
    /// Replies collected by the running turn, as they go over the wire.
    pub(crate) out: Vec<u8>,
    /// A message that a handler writes piece by piece.
    pub(crate) draft: Vec<u8>,
    /// Datagrams collected by the running turn.
    pub(crate) replies: SendBatch,
    /// The last look at the clock: the end of the last turn is the beginning of the next.
    pub(crate) now: Instant,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            read: vec![0; TURN_BYTES],
            out: Vec::new(),
            draft: Vec::new(),
            replies: SendBatch::default(),
            now: Instant::now(),
        }
    }

    /// Gives back what a large message made these grow to.
    pub(crate) fn tidy(&mut self) {
        self.replies.tidy();
        for buffer in [&mut self.out, &mut self.draft] {
            if buffer.capacity() > 4 * TURN_BYTES {
                buffer.shrink_to(TURN_BYTES);
            }
        }
    }
}
