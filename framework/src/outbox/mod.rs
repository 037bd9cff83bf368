//! One peer's pending bytes: an ordered, bounded queue of whole messages. Pure; it writes nothing.

mod line;
mod remote;

pub use remote::{Remote, SendError};

pub(crate) use line::{DatagramOutlet, Line, LineSettings, Post};

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::codec::{EncodeError, Envelope, Framing};
use crate::config::Overflow;

/// What one queued message costs beside its bytes, so that many empty ones cannot grow for ever.
const MESSAGE_COST: usize = 64;

/// Pieces gathered into one write at most (the system allows 1,024).
pub(crate) const GATHERED: usize = 64;

/// One message as it goes over the wire.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// Its bytes, framed.
    Framed(Vec<u8>),
    /// A body that many peers share, with what framing puts around it.
    Shared { envelope: Envelope, body: Arc<[u8]> },
}

impl Chunk {
    /// A message, framed. A codec of one's own runs here, and may panic: hold no lock.
    pub(crate) fn framed(framing: &Framing, message: &[u8]) -> Result<Self, EncodeError> {
        let mut framed = Vec::with_capacity(message.len() + 8);
        framing.encode(message, &mut framed)?;
        Ok(Self::Framed(framed))
    }

    /// A message that others get as well: shared, unless its framing is a codec of one's own, which may
    /// put anything anywhere. As [`Chunk::framed`], hold no lock.
    pub(crate) fn shared(framing: &Framing, message: &Arc<[u8]>) -> Result<Self, EncodeError> {
        match framing.envelope(message.len()) {
            Err(EncodeError::NoEnvelope) => Self::framed(framing, message),
            Err(why) => Err(why),
            Ok(envelope) => Ok(Self::Shared { envelope, body: message.clone() }),
        }
    }

    pub(crate) fn pieces(&self) -> [&[u8]; 3] {
        match self {
            Self::Framed(bytes) => [bytes, &[], &[]],
            Self::Shared { envelope, body } => [envelope.head(), body, envelope.tail()],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }

    /// The pieces behind the first `skip` bytes, appended to `slices`.
    pub(crate) fn slices<'a>(&'a self, mut skip: usize, slices: &mut Vec<IoSlice<'a>>) {
        for piece in self.pieces() {
            let rest = &piece[skip.min(piece.len())..];
            skip = skip.saturating_sub(piece.len());
            if !rest.is_empty() {
                slices.push(IoSlice::new(rest));
            }
        }
    }
}

/// A queued message, and whether the policy may drop it.
#[derive(Debug)]
struct Entry {
    chunk: Chunk,
    droppable: bool,
}

/// Messages that wait for one peer, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// How much of the first message has left already.
    sent_of_first: usize,
    /// Unsent bytes, and [`MESSAGE_COST`] a message.
    cost: usize,
}

/// What became of a pushed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    /// Queued, and so many older ones were dropped for it.
    MadeRoom(usize),
    /// Dropped itself.
    Dropped,
    /// There is no room, and the policy says to end the connection.
    Overflow,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What waits, in bytes, with a little for each message.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Queues a message under the cap. An empty outbox takes any message: else one longer than the cap
    /// could never be sent.
    pub(crate) fn push(&mut self, chunk: Chunk, overflow: Overflow, cap: usize) -> Pushed {
        let fits = |outbox: &Self| outbox.cost + chunk.len() + MESSAGE_COST <= cap;
        let mut dropped = 0;
        while !self.is_empty() && !fits(self) {
            match overflow {
                Overflow::Disconnect => return Pushed::Overflow,
                Overflow::DropNewest => return Pushed::Dropped,
                Overflow::DropOldest if !self.drop_oldest() => return Pushed::Dropped,
                Overflow::DropOldest => dropped += 1,
            }
        }
        self.add(chunk, true);
        if dropped > 0 { Pushed::MadeRoom(dropped) } else { Pushed::Queued }
    }

    /// Drops the oldest message that may be. A message of which a part has left is not: it would be
    /// torn.
    fn drop_oldest(&mut self) -> bool {
        let torn = usize::from(self.sent_of_first > 0);
        let found = self.entries.iter().skip(torn).position(|entry| entry.droppable);
        let Some(oldest) = found.and_then(|at| self.entries.remove(at + torn)) else {
            return false;
        };
        self.cost -= oldest.chunk.len() + MESSAGE_COST;
        true
    }

    fn add(&mut self, chunk: Chunk, droppable: bool) {
        self.cost += chunk.len() + MESSAGE_COST;
        self.entries.push_back(Entry { chunk, droppable });
    }

    /// Queues a reply of the connection's own handler, whatever waits already: the handler blocks at
    /// the cap, and its replies are never dropped.
    pub(crate) fn append(&mut self, chunk: Chunk) {
        self.add(chunk, false);
    }

    /// Queues a message of which `sent` bytes have left already. Only for an empty outbox.
    pub(crate) fn begin_with(&mut self, chunk: Chunk, sent: usize) {
        debug_assert!(self.is_empty(), "a message already stands in front");
        self.add(chunk, false);
        self.sent_of_first = sent;
        self.cost -= sent;
    }

    /// Puts bytes before everything that is queued whole: replies of the running turn, which are older.
    pub(crate) fn put_first(&mut self, bytes: Vec<u8>) {
        self.cost += bytes.len() + MESSAGE_COST;
        let behind_torn = usize::from(self.sent_of_first > 0);
        let own = Entry { chunk: Chunk::Framed(bytes), droppable: false };
        self.entries.insert(behind_torn, own);
    }

    /// The unsent pieces, in order, as many as one write gathers.
    pub(crate) fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>) {
        let mut skip = self.sent_of_first;
        for entry in &self.entries {
            if slices.len() + 3 > GATHERED {
                break;
            }
            entry.chunk.slices(skip, slices);
            skip = 0;
        }
    }

    /// `bytes` of what [`Outbox::slices`] showed have left.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        self.cost -= bytes;
        while let Some(first) = self.entries.front() {
            let rest = first.chunk.len() - self.sent_of_first;
            if bytes < rest {
                self.sent_of_first += bytes;
                return;
            }
            bytes -= rest;
            self.sent_of_first = 0;
            self.cost -= MESSAGE_COST;
            self.entries.pop_front();
        }
        debug_assert_eq!(bytes, 0, "more was written than was queued");
        // An idle peer owns no buffer.
        self.entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(text: &str) -> Chunk {
        Chunk::Framed(text.as_bytes().to_vec())
    }

    fn waiting(outbox: &Outbox) -> String {
        let mut slices = Vec::new();
        outbox.slices(&mut slices);
        slices.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>().join("|")
    }

    fn with(messages: &[&str]) -> Outbox {
        let mut outbox = Outbox::default();
        for message in messages {
            outbox.append(framed(message));
        }
        outbox
    }

    #[test]
    fn bytes_leave_in_order_and_across_messages() {
        let mut outbox = with(&["one", "two", "three"]);
        outbox.advance(4);
        assert_eq!(waiting(&outbox), "wo|three");
        outbox.advance(2);
        assert_eq!(waiting(&outbox), "three");
        outbox.advance(5);
        assert!(outbox.is_empty());
        assert_eq!(outbox.cost(), 0);
    }

    #[test]
    fn the_oldest_whole_message_makes_room_and_a_torn_one_stays() {
        let cap = 3 * (3 + MESSAGE_COST);
        let mut outbox = Outbox::default();
        for message in ["aaa", "bbb", "ccc"] {
            outbox.push(framed(message), Overflow::DropOldest, cap);
        }
        outbox.advance(1);
        let pushed = outbox.push(framed("dddd"), Overflow::DropOldest, cap);
        assert_eq!(pushed, Pushed::MadeRoom(1));
        assert_eq!(waiting(&outbox), "aa|ccc|dddd");
    }

    #[test]
    fn a_handlers_own_replies_are_never_dropped() {
        let mut outbox = with(&["own"]);
        assert_eq!(outbox.push(framed("b"), Overflow::DropOldest, 70), Pushed::Dropped);
        assert_eq!(waiting(&outbox), "own");
    }

    #[test]
    fn a_full_outbox_drops_the_newest_or_gives_up_as_told() {
        let mut outbox = with(&["aaa"]);
        assert_eq!(outbox.push(framed("b"), Overflow::DropNewest, 70), Pushed::Dropped);
        assert_eq!(outbox.push(framed("b"), Overflow::Disconnect, 70), Pushed::Overflow);
        assert_eq!(waiting(&outbox), "aaa");
    }

    #[test]
    fn an_empty_outbox_takes_a_message_longer_than_the_cap() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(framed("long"), Overflow::Disconnect, 1), Pushed::Queued);
    }

    #[test]
    fn a_turns_own_replies_stand_before_whole_messages_and_behind_a_torn_one() {
        let mut outbox = with(&["later"]);
        outbox.put_first(b"own".to_vec());
        assert_eq!(waiting(&outbox), "own|later");
        outbox.advance(1);
        outbox.put_first(b"more".to_vec());
        assert_eq!(waiting(&outbox), "wn|more|later");
    }

    #[test]
    fn a_shared_body_goes_out_in_its_envelope() {
        let body: Arc<[u8]> = Arc::from(&b"hello"[..]);
        let envelope = crate::Framing::lines().envelope(body.len()).expect("a short line");
        let mut outbox = Outbox::default();
        outbox.append(Chunk::Shared { envelope, body });
        outbox.advance(2);
        assert_eq!(waiting(&outbox), "llo|\n");
    }
}
