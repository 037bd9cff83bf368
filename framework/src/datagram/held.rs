//! Replies to Unix peers whose own queues are full: kept in order, bounded, and tried again.
//!
//! Each Unix datagram socket has a queue of its own (10 datagrams on most systems), and nothing announces
//! room in somebody else's. So a peer that does not read waits here, and no other peer waits for it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::datagram::reply::{MOST_BYTES, MOST_WAITING, Unsent};
use crate::peer::Address;
use crate::sys::datagrams::{DatagramSocket, Outgoing};
use crate::timer::Moment;

/// How soon the first try is repeated; the pause doubles up to the longest while the peer takes none.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A reply that waits, and how long it may.
#[derive(Debug)]
struct HeldReply {
    bytes: Box<[u8]>,
    until: Moment,
}

/// What waits for one peer.
#[derive(Debug)]
struct Queue {
    replies: VecDeque<HeldReply>,
    /// How long the last pause between two tries was, and when it is over.
    pause: Duration,
    try_at: Moment,
}

/// Replies that wait for their peers.
#[derive(Debug)]
pub(super) struct Held {
    peers: HashMap<Address, Queue>,
    count: usize,
    bytes: usize,
    /// When somebody is to be tried again.
    try_at: Moment,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { peers: HashMap::new(), count: 0, bytes: 0, try_at: Moment::NEVER }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// When to try again, if anything waits.
    pub(super) fn try_at(&self) -> Option<Moment> {
        (!self.is_empty()).then_some(self.try_at)
    }

    /// Keeps a reply for later. Returns whether there was room.
    pub(super) fn keep(
        &mut self,
        peer: &Address,
        bytes: &[u8],
        now: Moment,
        until: Moment,
    ) -> bool {
        if self.count >= MOST_WAITING || self.bytes + bytes.len() > MOST_BYTES {
            return false;
        }
        self.count += 1;
        self.bytes += bytes.len();
        let try_at = now.after(FIRST_PAUSE);
        let fresh = || Queue { replies: VecDeque::new(), pause: FIRST_PAUSE, try_at };
        let queue = self.peers.entry(peer.clone()).or_insert_with(fresh);
        queue.replies.push_back(HeldReply { bytes: bytes.into(), until });
        self.try_at = self.try_at.min(queue.try_at);
        true
    }

    /// Tries those once more for whom it is time. What is refused, or has waited too long, is given up.
    /// Returns how many have left.
    pub(super) fn send(
        &mut self,
        socket: &DatagramSocket,
        now: Moment,
        unsent: &mut Unsent,
    ) -> usize {
        if self.try_at > now {
            return 0;
        }
        let (mut tried, mut next) = (Tried::default(), Moment::NEVER);
        self.peers.retain(|peer, queue| {
            if queue.try_at <= now {
                tried.add(&queue.send(peer, socket, now, unsent));
            }
            next = next.min(queue.try_at);
            !queue.replies.is_empty()
        });
        self.try_at = next;
        self.settle(&tried)
    }

    /// As [`Held::send`], for one peer, whether it is time or not: it has just been heard. Returns how many
    /// have left, and whether some still wait: then the next one goes behind them.
    pub(super) fn send_to(
        &mut self,
        peer: &Address,
        socket: &DatagramSocket,
        now: Moment,
        unsent: &mut Unsent,
    ) -> (usize, bool) {
        let Some(queue) = self.peers.get_mut(peer) else { return (0, false) };
        let tried = queue.send(peer, socket, now, unsent);
        let waits = !queue.replies.is_empty();
        self.try_at = self.try_at.min(queue.try_at);
        if !waits {
            self.peers.remove(peer);
        }
        (self.settle(&tried), waits)
    }

    /// Gives up whatever waits.
    pub(super) fn give_up(&mut self, unsent: &mut Unsent) {
        for (peer, queue) in std::mem::replace(self, Self::new()).peers {
            queue
                .replies
                .iter()
                .for_each(|_| unsent.refused(&peer, io::ErrorKind::TimedOut.into()));
        }
    }

    fn settle(&mut self, tried: &Tried) -> usize {
        self.count -= tried.gone;
        self.bytes -= tried.gone_bytes;
        if self.is_empty() {
            self.try_at = Moment::NEVER;
        }
        tried.left
    }
}

/// What came of trying.
#[derive(Debug, Default)]
struct Tried {
    /// Replies that were sent.
    left: usize,
    /// Replies that wait no more, sent or given up.
    gone: usize,
    gone_bytes: usize,
}

impl Tried {
    fn add(&mut self, other: &Self) {
        self.left += other.left;
        self.gone += other.gone;
        self.gone_bytes += other.gone_bytes;
    }
}

impl Queue {
    fn send(
        &mut self,
        peer: &Address,
        socket: &DatagramSocket,
        now: Moment,
        unsent: &mut Unsent,
    ) -> Tried {
        let mut tried = Tried::default();
        while let Some(reply) = self.replies.front() {
            let from: Option<IpAddr> = None;
            let sent = if reply.until <= now {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                socket.send(&[Outgoing { bytes: &reply.bytes, peer, from }]).1
            };
            match sent {
                Ok(()) => tried.left += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => unsent.refused(peer, error),
            }
            tried.gone += 1;
            tried.gone_bytes += reply.bytes.len();
            self.replies.pop_front();
        }
        self.rest(tried.left > 0, now);
        tried
    }

    /// Waits for the next try: shortly if this one has `helped`.
    fn rest(&mut self, helped: bool, now: Moment) {
        self.pause = if helped { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.try_at = now.after(self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::datagrams::{Batch, DatagramOptions};
    use crate::timer::Clock;

    fn peer(n: usize) -> Address {
        Address::UnixGram(crate::peer::UnixName::new(format!("@slow-{n}")))
    }

    #[test]
    fn the_pause_doubles_while_the_peer_takes_none() {
        let now = Clock::start().now();
        let mut queue = Queue { replies: VecDeque::new(), pause: FIRST_PAUSE, try_at: now };
        let mut pauses = Vec::new();
        for helped in [true, false, false, false, false, false, false, false, false, true] {
            queue.rest(helped, now);
            assert_eq!(queue.try_at, now.after(queue.pause));
            pauses.push(queue.pause.as_millis());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100, 1]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let now = Clock::start().now();
        let mut held = Held::new();
        assert_eq!(held.try_at(), None);
        assert!((0..MOST_WAITING).all(|n| held.keep(&peer(n % 2), b"x", now, Moment::NEVER)));
        assert!(!held.keep(&peer(3), b"x", now, Moment::NEVER), "one too many");
        assert_eq!(held.try_at(), Some(now.after(FIRST_PAUSE)));
    }

    #[test]
    fn those_who_do_not_read_cost_nothing_until_it_is_time() {
        let open = |who: &str| {
            let name = format!("@switchboard-held-{}-{who}", std::process::id());
            let name = crate::peer::UnixName::new(name);
            let (dual_stack, reuse_port, mode, receive_buffer) = (false, false, None, 4096);
            let options = DatagramOptions { dual_stack, reuse_port, mode, receive_buffer };
            DatagramSocket::unix(&name, &options, &|_| Ok(())).expect("a socket")
        };
        let (socket, client) = (open("server"), open("client"));
        let (peer, mut batch) = (client.local(), Batch::new(8));
        let (now, mut held, mut unsent) = (Clock::start().now(), Held::new(), Unsent::default());
        assert!(held.keep(&peer, b"one", now, Moment::NEVER));
        assert_eq!(held.send(&socket, now, &mut unsent), 0, "nobody tries");
        assert!(client.receive(&mut batch, 1).is_err());
        assert_eq!(held.send(&socket, now.after(FIRST_PAUSE), &mut unsent), 1);
        assert!(held.keep(&peer, b"two", now, Moment::NEVER));
        assert_eq!(held.send_to(&peer, &socket, now, &mut unsent), (1, false), "it was heard");
        assert_eq!(client.receive(&mut batch, 8).expect("both").count, 2);
        assert!(held.is_empty() && held.try_at().is_none());
    }
}
