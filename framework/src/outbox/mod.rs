//! One peer's pending bytes: an ordered, bounded queue of whole messages. Pure; it writes nothing.

mod chunk;
mod fan_out;
mod group;
mod lane;
mod line;
mod notice;
mod remote;
mod roster;
mod rules;
mod share;

pub use fan_out::FanOut;
pub use group::Group;
pub use remote::{Remote, SendError};
pub use rules::GroupRules;

pub(crate) use chunk::Chunk;
pub(crate) use line::{DatagramOutlet, Line, LineSettings, Post, Reach};

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::config::Overflow;
use crate::outbox::lane::{Due, Lanes, Missed, Redeemed, Share};

/// What one queued message costs beside its bytes, so that many empty ones cannot grow for ever.
const MESSAGE_COST: usize = 64;

/// Pieces gathered into one write at most (the system allows 1,024).
pub(crate) const GATHERED: usize = 64;

/// What stands in the queue.
#[derive(Debug)]
enum Entry {
    /// A message, and whether the policy of a [`Remote`] may drop it.
    Message { chunk: Chunk, droppable: bool },
    /// The next message of a group, which waits in this lane.
    Ticket(usize),
}

/// Messages that wait for one peer, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// What waits of groups. Boxed: most peers have nothing of the kind at most times.
    lanes: Option<Box<Lanes>>,
    /// How much of the first message has left already. A ticket that comes to this becomes a message.
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
    /// Dropped itself, which makes so many with older ones.
    Dropped(usize),
    /// There is no room, and the policy says to end the connection.
    Overflow,
}

/// How far one looks along the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// Up to the end of a message of which a part has left.
    Torn,
    /// As [`Extent::Torn`], and on to the first reply of the connection's own handler.
    BeforeReplies,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What waits, in bytes, with a little for each message.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Queues a message under the cap. What waits of groups is not in its way: they have rules of their
    /// own, and those may end no connection here.
    pub(crate) fn push(&mut self, chunk: Chunk, overflow: Overflow, cap: usize) -> Pushed {
        let mut dropped = 0;
        while !fits(self.cost - self.cost_of_groups(), chunk.len(), cap) {
            match overflow {
                Overflow::Disconnect => return Pushed::Overflow,
                Overflow::DropOldest if self.drop_oldest() => dropped += 1,
                Overflow::DropOldest | Overflow::DropNewest => return Pushed::Dropped(dropped + 1),
            }
        }
        self.add(chunk, true);
        if dropped > 0 { Pushed::MadeRoom(dropped) } else { Pushed::Queued }
    }

    /// Queues a message of a group, which drops no messages but its own.
    pub(crate) fn push_share(&mut self, chunk: Chunk, share: &Share<'_>) -> Pushed {
        let place = self.lanes.get_or_insert_default().place_of(share.group);
        let mut dropped = 0;
        let pushed = loop {
            if self.has_room(chunk.len(), share) {
                self.cost += chunk.len() + MESSAGE_COST;
                self.lanes.get_or_insert_default().push(place, chunk, share.urgency);
                self.entries.push_back(Entry::Ticket(place));
                break if dropped > 0 { Pushed::MadeRoom(dropped) } else { Pushed::Queued };
            }
            match share.overflow {
                Overflow::Disconnect => break Pushed::Overflow,
                Overflow::DropOldest
                    if self.fits_alone(chunk.len(), share) && self.drop_oldest_of(place) =>
                {
                    dropped += 1;
                }
                Overflow::DropOldest | Overflow::DropNewest => {
                    dropped += 1;
                    break Pushed::Dropped(dropped);
                }
            }
        };
        self.after_push(place, if share.missed == Missed::Told { dropped } else { 0 });
        pushed
    }

    /// Whether a message of a group would be queued without dropping any: it needs room in what the
    /// group may have waiting, and in what may wait altogether.
    pub(crate) fn has_room(&self, message: usize, share: &Share<'_>) -> bool {
        let in_group = |limit| fits(self.cost_of(share), message, limit);
        fits(self.cost, message, share.cap) && share.limit.is_none_or(in_group)
    }

    /// Whether a message of a group would be queued if all others of the group were dropped.
    fn fits_alone(&self, message: usize, share: &Share<'_>) -> bool {
        fits(self.cost - self.cost_of(share), message, share.cap)
    }

    /// What waits of a message's group.
    fn cost_of(&self, share: &Share<'_>) -> usize {
        self.lanes.as_ref().map_or(0, |lanes| lanes.cost_of(share.group))
    }

    /// What waits of all groups.
    fn cost_of_groups(&self) -> usize {
        self.lanes.as_ref().map_or(0, |lanes| lanes.cost())
    }

    /// Notes what a member missed, and takes void tickets out before they are many.
    fn after_push(&mut self, place: usize, missed: usize) {
        let Some(lanes) = &mut self.lanes else { return };
        lanes.miss(place, missed as u64);
        lanes.tidy(place);
        if lanes.wants_tidying(place, self.entries.len()) {
            let mut is_void =
                |entry: &Entry| matches!(entry, Entry::Ticket(at) if lanes.use_up_void(*at));
            self.entries.retain(|entry| !is_void(entry));
        }
        self.tidy();
    }

    /// Drops the oldest message that may be. A message of which a part has left is not: it would be
    /// torn. Nor is a group's.
    fn drop_oldest(&mut self) -> bool {
        let torn = usize::from(self.is_torn());
        let may_go = |entry: &Entry| matches!(entry, Entry::Message { droppable: true, .. });
        let found = self.entries.iter().skip(torn).position(may_go);
        let oldest = found.and_then(|at| self.entries.remove(at + torn));
        let Some(Entry::Message { chunk, .. }) = oldest else { return false };
        self.cost -= chunk.len() + MESSAGE_COST;
        true
    }

    fn drop_oldest_of(&mut self, place: usize) -> bool {
        let dropped = self.lanes.as_mut().and_then(|lanes| lanes.drop_oldest(place));
        self.cost -= dropped.unwrap_or(0);
        dropped.is_some()
    }

    fn add(&mut self, chunk: Chunk, droppable: bool) {
        self.cost += chunk.len() + MESSAGE_COST;
        self.entries.push_back(Entry::Message { chunk, droppable });
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

    /// Puts bytes before everything that is queued whole: replies of the running turn, which are older,
    /// or what a member missed.
    pub(crate) fn put_first(&mut self, chunk: Chunk) {
        self.cost += chunk.len() + MESSAGE_COST;
        let behind_torn = usize::from(self.is_torn());
        self.entries.insert(behind_torn, Entry::Message { chunk, droppable: false });
    }

    /// Forgets everything that is queued whole, and queues this instead: the connection ends.
    pub(crate) fn end_with(&mut self, last_word: Chunk) {
        self.entries.truncate(usize::from(self.is_torn()));
        self.lanes = None;
        self.cost = self.rest_of_first().map_or(0, |rest| rest + MESSAGE_COST);
        self.add(last_word, false);
    }

    /// Whether a part of the first message has left.
    pub(crate) fn is_torn(&self) -> bool {
        self.sent_of_first > 0
    }

    /// What is left of a torn message, in bytes.
    fn rest_of_first(&self) -> Option<usize> {
        match self.entries.front() {
            Some(Entry::Message { chunk, .. }) if self.is_torn() => {
                Some(chunk.len() - self.sent_of_first)
            }
            _ => None,
        }
    }

    /// Whether the peer is to be told that it missed messages of a group.
    pub(crate) fn owes_notices(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| lanes.owes())
    }

    /// What the peer is to be told now.
    pub(crate) fn take_due(&mut self) -> Vec<Due> {
        let due = self.lanes.as_mut().map(|lanes| lanes.take_due());
        self.tidy();
        due.unwrap_or_default()
    }

    /// The unsent pieces, in order, as many as one write gathers.
    pub(crate) fn slices<'a>(&'a self, extent: Extent, slices: &mut Vec<IoSlice<'a>>) {
        let mut skip = self.sent_of_first;
        let mut look = self.lanes.as_ref().map(|lanes| lanes.look());
        for entry in &self.entries {
            let is_reply = matches!(entry, Entry::Message { droppable: false, .. });
            let beyond = match extent {
                Extent::All => false,
                Extent::Torn => skip == 0,
                Extent::BeforeReplies => skip == 0 && is_reply,
            };
            if beyond || slices.len() + 3 > GATHERED {
                break;
            }
            let chunk = match entry {
                Entry::Message { chunk, .. } => Some(chunk),
                Entry::Ticket(place) => look.as_mut().and_then(|look| look.next_of(*place)),
            };
            if let Some(chunk) = chunk {
                chunk.slices(skip, slices);
                skip = 0;
            }
        }
    }

    /// `bytes` of what [`Outbox::slices`] showed have left.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        self.cost -= bytes;
        while let Some(first) = self.entries.front() {
            let Entry::Message { chunk, .. } = first else {
                if self.redeem_first(bytes) {
                    continue;
                }
                return;
            };
            let rest = chunk.len() - self.sent_of_first;
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
        self.tidy();
    }

    /// Puts what the first ticket stands for in its place, if anything of it has left: from now on it
    /// can be neither dropped nor overtaken. Returns whether there is more to look at.
    fn redeem_first(&mut self, left: usize) -> bool {
        let Some(Entry::Ticket(place)) = self.entries.front() else { return false };
        let Some(lanes) = &mut self.lanes else { return false };
        if left == 0 && lanes.next_of(*place).is_some_and(|chunk| chunk.len() > 0) {
            return false;
        }
        let redeemed = lanes.redeem(*place);
        self.entries.pop_front();
        if let Redeemed::Message(chunk) = redeemed {
            self.entries.push_front(Entry::Message { chunk, droppable: false });
        }
        true
    }

    /// A peer of no group with anything waiting owns no lanes.
    fn tidy(&mut self) {
        if self.lanes.as_ref().is_some_and(|lanes| lanes.is_empty()) {
            self.lanes = None;
        }
    }
}

/// Whether a message may wait with what waits already. Where nothing waits any message may: else one that
/// is longer than the most could never be sent.
fn fits(waiting: usize, message: usize, most: usize) -> bool {
    waiting == 0 || waiting + message + MESSAGE_COST <= most
}

#[cfg(test)]
impl Outbox {
    const LANES: usize = size_of::<Option<Box<Lanes>>>();

    fn entries(&self) -> usize {
        self.entries.len()
    }

    fn has_lanes(&self) -> bool {
        self.lanes.is_some()
    }

    fn counts_well(&self) -> bool {
        self.lanes.as_ref().is_none_or(|lanes| lanes.counts_well())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn framed(text: &str) -> Chunk {
        Chunk::Framed(text.as_bytes().to_vec())
    }

    fn waiting(outbox: &Outbox) -> String {
        let mut slices = Vec::new();
        outbox.slices(Extent::All, &mut slices);
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
        assert_eq!(outbox.push(framed("b"), Overflow::DropOldest, 70), Pushed::Dropped(1));
        assert_eq!(waiting(&outbox), "own");
    }

    #[test]
    fn a_full_outbox_drops_the_newest_or_gives_up_as_told() {
        let mut outbox = with(&["aaa"]);
        assert_eq!(outbox.push(framed("b"), Overflow::DropNewest, 70), Pushed::Dropped(1));
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
        outbox.put_first(framed("own"));
        assert_eq!(waiting(&outbox), "own|later");
        outbox.advance(1);
        outbox.put_first(framed("more"));
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
