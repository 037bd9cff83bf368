//! Replies to Unix peers whose own queues are full: kept in order, bounded, and tried again.
//!
//! Each Unix datagram socket has a queue of its own (10 datagrams on most systems), and nothing announces
//! room in somebody else's. So a peer that does not read waits here, and no other peer waits for it.
//! It is tried again when its pause is over, or when there is another reply for it: others cost nothing.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use crate::datagram::reply::Unsent;
use crate::peer::Address;
use crate::sys::datagrams::Outgoing;
use crate::timer::Moment;

/// Replies that may wait for one peer, and their bytes: as much as waits for its handler at most.
const MOST_FOR_ONE: usize = 256;
const MOST_BYTES_FOR_ONE: usize = 1024 * 1024;

/// Replies that may wait for all of them together, and their bytes.
const MOST_FOR_ALL: usize = 4096;
const MOST_BYTES_FOR_ALL: usize = 16 * 1024 * 1024;

/// How soon the first try is repeated; the pause doubles up to the longest while the peer takes none.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A reply that waits, and how long it may.
#[derive(Debug)]
struct HeldReply {
    bytes: Box<[u8]>,
    until: Moment,
}

/// What waits for one peer, in order.
#[derive(Debug)]
struct Backlog {
    replies: VecDeque<HeldReply>,
    bytes: usize,
    next_try: Moment,
    /// How long the last try was waited for.
    pause: Duration,
}

impl Backlog {
    fn new(now: Moment) -> Self {
        let (replies, next_try) = (VecDeque::new(), now.after(FIRST_PAUSE));
        Self { replies, bytes: 0, next_try, pause: FIRST_PAUSE }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.replies.len() < MOST_FOR_ONE && self.bytes + bytes <= MOST_BYTES_FOR_ONE
    }

    /// Begins with short pauses again: the peer shows signs of life.
    fn soon(&mut self, now: Moment) {
        self.pause = FIRST_PAUSE;
        self.next_try = self.next_try.min(now.after(FIRST_PAUSE));
    }

    /// A try that was due is over: when the next one is.
    fn later(&mut self, now: Moment, sent: usize) {
        self.pause = if sent > 0 { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.next_try = now.after(self.pause);
    }

    /// Sends until the peer takes no more. What is refused, or has waited too long, is given up.
    fn send(&mut self, peer: &Address, now: Moment, by: &mut Send<'_>) -> usize {
        let mut sent = 0;
        while let Some(reply) = self.replies.front() {
            let outcome = if reply.until <= now {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                (by.send)(&Outgoing { bytes: &reply.bytes, peer, from: None })
            };
            match outcome {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => by.unsent.refused(peer, error),
            }
            self.bytes -= reply.bytes.len();
            self.replies.pop_front();
        }
        sent
    }
}

/// How a reply is sent, and where is noted what was not.
pub(super) struct Send<'a> {
    pub(super) send: &'a mut dyn FnMut(&Outgoing<'_>) -> io::Result<()>,
    pub(super) unsent: &'a mut Unsent,
}

/// Replies that wait for their peers.
#[derive(Debug)]
pub(super) struct Held {
    peers: HashMap<Address, Backlog>,
    count: usize,
    bytes: usize,
    /// Nobody's try is due before.
    next_try: Moment,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { peers: HashMap::new(), count: 0, bytes: 0, next_try: Moment::NEVER }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether somebody's replies wait: the next one goes behind them.
    pub(super) fn holds(&self, peer: &Address) -> bool {
        self.peers.contains_key(peer)
    }

    /// When to try again, if anything waits.
    pub(super) fn next_try(&self) -> Option<Moment> {
        (!self.is_empty()).then_some(self.next_try)
    }

    /// Keeps a reply for later. Returns whether there was room.
    pub(super) fn keep(&mut self, reply: &Outgoing<'_>, now: Moment, until: Moment) -> bool {
        let Outgoing { bytes, peer, .. } = *reply;
        let all = self.count < MOST_FOR_ALL && self.bytes + bytes.len() <= MOST_BYTES_FOR_ALL;
        let has_room = |backlog: &Backlog| backlog.has_room(bytes.len());
        if !all || !self.peers.get(peer).is_none_or(has_room) {
            return false;
        }
        let backlog = self.peers.entry(peer.clone()).or_insert_with(|| Backlog::new(now));
        backlog.soon(now);
        backlog.replies.push_back(HeldReply { bytes: bytes.into(), until });
        backlog.bytes += bytes.len();
        self.next_try = self.next_try.min(backlog.next_try);
        self.count += 1;
        self.bytes += bytes.len();
        true
    }

    /// Gives up whatever waits.
    pub(super) fn give_up(&mut self, unsent: &mut Unsent) {
        for (peer, backlog) in std::mem::replace(self, Self::new()).peers {
            let mut given_up = || unsent.refused(&peer, io::ErrorKind::TimedOut.into());
            (0..backlog.replies.len()).for_each(|_| given_up());
        }
    }

    /// Tries those once more whose pause is over. Returns how many replies have left.
    pub(super) fn send_due(&mut self, now: Moment, by: &mut Send<'_>) -> usize {
        if self.is_empty() || now < self.next_try {
            return 0;
        }
        let mut all_sent = 0;
        let mut next = Moment::NEVER;
        let Self { peers, count, bytes, .. } = self;
        peers.retain(|peer, backlog| {
            if backlog.next_try <= now {
                let before = (backlog.replies.len(), backlog.bytes);
                let sent = backlog.send(peer, now, by);
                *count -= before.0 - backlog.replies.len();
                *bytes -= before.1 - backlog.bytes;
                all_sent += sent;
                backlog.later(now, sent);
            }
            let stays = !backlog.replies.is_empty();
            next = if stays { next.min(backlog.next_try) } else { next };
            stays
        });
        // (Looking through all of them is worth it once a pause, not once for each peer.)
        self.next_try = next.max(now.after(FIRST_PAUSE));
        all_sent
    }

    /// Tries one peer once more: there is another reply for it, so it may have read. Returns how many
    /// have left.
    pub(super) fn send_to(&mut self, peer: &Address, now: Moment, by: &mut Send<'_>) -> usize {
        let Some(backlog) = self.peers.get_mut(peer) else { return 0 };
        let before = (backlog.replies.len(), backlog.bytes);
        let sent = backlog.send(peer, now, by);
        self.count -= before.0 - backlog.replies.len();
        self.bytes -= before.1 - backlog.bytes;
        if backlog.replies.is_empty() {
            self.peers.remove(peer);
        }
        if self.is_empty() {
            self.next_try = Moment::NEVER;
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::UnixName;
    use crate::timer::Clock;

    fn peer(number: usize) -> Address {
        Address::UnixGram(UnixName::new(format!("@peer {number}")))
    }

    /// Some milliseconds after a beginning.
    fn at(millis: u64) -> Moment {
        Clock::by_hand().now().after(Duration::from_millis(1 + millis))
    }

    fn keep(held: &mut Held, peer: &Address, bytes: &[u8], now: Moment) -> bool {
        held.keep(&Outgoing { bytes, peer, from: None }, now, Moment::NEVER)
    }

    /// What `act` tries to send while nobody takes any.
    fn tries(act: impl FnOnce(&mut Send<'_>) -> usize) -> usize {
        let (mut tries, mut unsent) = (0, Unsent::default());
        let mut send = |_: &Outgoing<'_>| {
            tries += 1;
            Err(io::ErrorKind::WouldBlock.into())
        };
        assert_eq!(act(&mut Send { send: &mut send, unsent: &mut unsent }), 0);
        tries
    }

    #[test]
    fn the_pause_doubles_with_each_try_that_was_due_and_with_nothing_else() {
        let (mut held, peer) = (Held::new(), peer(0));
        assert_eq!(held.next_try(), None);
        assert!(keep(&mut held, &peer, b"x", at(0)));
        let mut due = Vec::new();
        for now in 0..400 {
            // Asked for each millisecond, and more often.
            for _ in 0..3 {
                if tries(|by| held.send_due(at(now), by)) > 0 {
                    due.push(now);
                }
            }
        }
        // (The clock cuts fractions off: each is a millisecond later than the pause says.)
        assert_eq!(due, [2, 5, 10, 19, 36, 69, 134, 235, 336]);
        assert!(keep(&mut held, &peer, b"x", at(400)));
        assert_eq!(held.next_try(), Some(at(402)), "another reply makes it try again soon");
    }

    #[test]
    fn a_thousand_peers_that_take_nothing_cost_an_ordinary_reply_no_try() {
        let mut held = Held::new();
        (0..1_000).for_each(|number| assert!(keep(&mut held, &peer(number), b"x", at(0))));
        assert_eq!(tries(|by| held.send_due(at(0), by)), 0);
        assert_eq!(tries(|by| held.send_to(&peer(2_000), at(0), by)), 0);
        assert_eq!(tries(|by| held.send_to(&peer(7), at(0), by)), 1, "its own");
        assert_eq!(tries(|by| held.send_due(at(2), by)), 1_000);
        assert_eq!(tries(|by| held.send_due(at(2), by)), 0);
    }

    #[test]
    fn what_is_kept_is_bounded_for_each_peer_and_for_all() {
        let mut held = Held::new();
        for number in 0..MOST_FOR_ALL / MOST_FOR_ONE {
            let peer = peer(number);
            assert!((0..MOST_FOR_ONE).all(|_| keep(&mut held, &peer, b"x", at(0))));
            assert!(!keep(&mut held, &peer, b"x", at(0)), "one too many for one");
        }
        assert!(!keep(&mut held, &peer(9_999), b"x", at(0)), "one too many for all");
        let (mut held, long) = (Held::new(), vec![0; MOST_BYTES_FOR_ONE / 2]);
        assert_eq!((0..3).filter(|_| keep(&mut held, &peer(0), &long, at(0))).count(), 2);
        assert!(keep(&mut held, &peer(1), &long, at(0)), "another one has room");
    }

    #[test]
    fn all_is_free_again_once_it_has_left() {
        let (mut held, mut unsent) = (Held::new(), Unsent::default());
        (0..10).for_each(|number| assert!(keep(&mut held, &peer(number % 2), b"xyz", at(0))));
        let mut send = |_: &Outgoing<'_>| Ok(());
        let mut by = Send { send: &mut send, unsent: &mut unsent };
        assert_eq!((held.send_to(&peer(0), at(0), &mut by), held.holds(&peer(0))), (5, false));
        assert_eq!(held.send_due(at(2), &mut by), 5);
        assert_eq!((held.count, held.bytes, held.next_try()), (0, 0, None));
        // What comes then is tried as soon as ever.
        assert!(keep(&mut held, &peer(0), b"x", at(50)));
        assert_eq!(held.next_try(), Some(at(52)));
    }
}
