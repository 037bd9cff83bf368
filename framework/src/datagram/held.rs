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

/// How soon the first try is repeated; the pause doubles up to the longest while nobody takes any.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A reply that waits, and how long it may.
#[derive(Debug)]
struct HeldReply {
    bytes: Box<[u8]>,
    until: Moment,
}

/// Replies that wait for their peers.
#[derive(Debug)]
pub(super) struct Held {
    peers: HashMap<Address, VecDeque<HeldReply>>,
    count: usize,
    bytes: usize,
    pause: Duration,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { peers: HashMap::new(), count: 0, bytes: 0, pause: FIRST_PAUSE }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether somebody's replies wait: the next one goes behind them.
    pub(super) fn holds(&self, peer: &Address) -> bool {
        self.peers.contains_key(peer)
    }

    /// Keeps a reply for later. Returns whether there was room.
    pub(super) fn keep(&mut self, peer: &Address, bytes: &[u8], until: Moment) -> bool {
        if self.count >= MOST_WAITING || self.bytes + bytes.len() > MOST_BYTES {
            return false;
        }
        self.count += 1;
        self.bytes += bytes.len();
        let reply = HeldReply { bytes: bytes.into(), until };
        self.peers.entry(peer.clone()).or_default().push_back(reply);
        true
    }

    /// When to try again, if anything waits.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        if self.is_empty() {
            self.pause = FIRST_PAUSE;
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }

    /// Tries everybody once more. What is refused, or has waited too long, is given up. Returns how many
    /// have left.
    pub(super) fn send(
        &mut self,
        socket: &DatagramSocket,
        now: Moment,
        unsent: &mut Unsent,
    ) -> usize {
        let (mut left, mut gone_bytes, mut gone) = (0, 0, 0);
        self.peers.retain(|peer, replies| {
            while let Some(reply) = replies.front() {
                let from: Option<IpAddr> = None;
                let sent = if reply.until <= now {
                    Err(io::ErrorKind::TimedOut.into())
                } else {
                    socket.send(&[Outgoing { bytes: &reply.bytes, peer, from }]).1
                };
                match sent {
                    Ok(()) => left += 1,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(error) => unsent.refused(peer, error),
                }
                gone += 1;
                gone_bytes += reply.bytes.len();
                replies.pop_front();
            }
            false
        });
        self.count -= gone;
        self.bytes -= gone_bytes;
        if left > 0 {
            self.pause = FIRST_PAUSE;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_while_nobody_takes_any_and_what_is_kept_is_bounded() {
        let peer = Address::UnixGram(crate::peer::UnixName::new("@slow"));
        let mut held = Held::new();
        assert_eq!(held.pause(), None);
        assert!((0..MOST_WAITING).all(|_| held.keep(&peer, b"x", Moment::NEVER)));
        assert!(!held.keep(&peer, b"x", Moment::NEVER), "one too many");
        let pauses: Vec<_> = (0..9).filter_map(|_| held.pause()).map(|p| p.as_millis()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
    }
}
