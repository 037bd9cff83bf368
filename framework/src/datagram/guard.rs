//! The loop guard: whoever sends back what it was sent, byte for byte, goes without a reply now and then.
//!
//! One forged datagram made two UDP echo servers exchange 84,567 datagrams in a second (the class of
//! CVE-2024-2169). After 64 bounces one reply is withheld: a loop dies of it, a client that happens to
//! repeat our answer loses one datagram of 64.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use crate::peer::Address;

/// Bounces after which one reply is withheld.
const BOUNCES: u8 = 64;

/// Replies remembered for each peer. Bounces need not follow one another: two forged datagrams in turn
/// would never be caught by a rule that wants that.
const REMEMBERED: usize = 8;

/// Peers remembered at most.
const MOST_PEERS: usize = 16_384;

/// Ports of services that answer whoever writes to them, and so may be one end of a loop: echo, daytime,
/// quote of the day, chargen, time, DNS, TFTP, portmapper, NTP, SNMP, CLDAP, SSDP, memcached; and port
/// 0, which nobody can be answered at.
const SERVICE_PORTS: [u16; 14] = [0, 7, 13, 17, 19, 37, 53, 69, 111, 123, 161, 389, 1900, 11211];

/// Whether a datagram from there comes from a service, and is not to be answered.
pub(super) fn is_service(peer: &Address) -> bool {
    peer.socket_addr().is_some_and(|addr| SERVICE_PORTS.binary_search(&addr.port()).is_ok())
}

/// A datagram's bytes in one number. Long ones by their ends: a bounce equals them everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print(u32);

impl Print {
    pub(super) fn of(bytes: &[u8]) -> Self {
        const END: usize = 512;
        let mut hasher = DefaultHasher::new();
        hasher.write_usize(bytes.len());
        if bytes.len() <= 2 * END {
            hasher.write(bytes);
        } else {
            hasher.write(&bytes[..END]);
            hasher.write(&bytes[bytes.len() - END..]);
        }
        Self(hasher.finish() as u32)
    }
}

/// What is remembered of one peer.
#[derive(Debug, Default)]
struct Bounces {
    sent: VecDeque<Print>,
    count: u8,
    touched: bool,
}

/// What is remembered of all peers, bounded.
#[derive(Debug, Default)]
pub(super) struct Guard {
    peers: HashMap<Address, Bounces>,
    round: VecDeque<Address>,
}

impl Guard {
    /// A datagram of a peer is about to be answered.
    pub(super) fn heard(&mut self, peer: &Address, print: Print) {
        if let Some(bounces) = self.peers.get_mut(peer)
            && bounces.sent.contains(&print)
        {
            bounces.count = bounces.count.saturating_add(1);
        }
    }

    /// Whether a reply may be sent. If so it is remembered.
    pub(super) fn may_send(&mut self, peer: &Address, print: Print) -> bool {
        if self.peers.len() >= MOST_PEERS && !self.peers.contains_key(peer) {
            self.make_room();
        }
        let Self { peers, round } = self;
        let bounces = match peers.get_mut(peer) {
            Some(bounces) => bounces,
            None => {
                round.push_back(peer.clone());
                peers.entry(peer.clone()).or_default()
            }
        };
        bounces.touched = true;
        if bounces.count >= BOUNCES {
            bounces.count = 0;
            return false;
        }
        if !bounces.sent.contains(&print) {
            if bounces.sent.len() == REMEMBERED {
                bounces.sent.pop_front();
            }
            bounces.sent.push_back(print);
        }
        true
    }

    /// The peer that was answered longest ago is forgotten (second chance, as in the sessions' table).
    fn make_room(&mut self) {
        while self.peers.len() >= MOST_PEERS {
            let Some(oldest) = self.round.pop_front() else { return };
            let bounces = self.peers.get_mut(&oldest);
            if bounces.is_some_and(|bounces| std::mem::take(&mut bounces.touched)) {
                self.round.push_back(oldest);
            } else {
                self.peers.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u16) -> Address {
        Address::Udp(([127, 0, 0, 1], n).into())
    }

    /// A peer that returns everything; how many datagrams are sent before silence.
    fn loop_length(forged: &[&[u8]]) -> usize {
        let mut guard = Guard::default();
        let mut under_way: VecDeque<Print> = forged.iter().map(|bytes| Print::of(bytes)).collect();
        let mut sent = 0;
        while let Some(datagram) = under_way.pop_front() {
            guard.heard(&peer(9), datagram);
            if guard.may_send(&peer(9), datagram) {
                sent += 1;
                under_way.push_back(datagram);
            }
            assert!(sent < 100_000, "the loop never ends");
        }
        sent
    }

    #[test]
    fn one_forged_datagram_dies_out() {
        assert_eq!(loop_length(&[b"X"]), 64);
    }

    #[test]
    fn several_forged_datagrams_in_turn_die_out() {
        assert!(loop_length(&[b"X", b"Y"]) < 200);
        assert!(loop_length(&[b"1", b"2", b"3", b"4"]) < 400);
    }

    #[test]
    fn a_client_that_repeats_itself_loses_one_in_64() {
        let mut guard = Guard::default();
        let ping = Print::of(b"PING");
        let mut withheld = 0;
        for _ in 0..6_400 {
            guard.heard(&peer(1), ping);
            withheld += usize::from(!guard.may_send(&peer(1), ping));
        }
        assert!((90..=100).contains(&withheld), "{withheld}");
    }

    #[test]
    fn a_client_whose_answers_differ_from_its_questions_loses_nothing() {
        let mut guard = Guard::default();
        for _ in 0..1_000 {
            guard.heard(&peer(1), Print::of(b"ping"));
            assert!(guard.may_send(&peer(1), Print::of(b"PING")));
        }
    }

    #[test]
    fn the_memory_is_bounded_however_many_peers_come() {
        let mut guard = Guard::default();
        for n in 0..3 * MOST_PEERS as u32 {
            let addr = Address::Udp((n.to_be_bytes(), 1000).into());
            guard.may_send(&addr, Print::of(b"x"));
        }
        assert!(guard.peers.len() <= MOST_PEERS && guard.round.len() <= MOST_PEERS);
    }

    #[test]
    fn the_ports_are_sorted_for_the_search() {
        assert!(SERVICE_PORTS.is_sorted());
        assert!(is_service(&peer(7)) && is_service(&peer(11211)) && !is_service(&peer(9999)));
    }
}
