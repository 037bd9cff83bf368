//! Sessions: a handler for each peer, in a bounded table, each with a bounded inbox.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::datagram::listen::DatagramListener;
use crate::event::{Event, Traffic};
use crate::handler::{Actor, Factory, Handler};
use crate::outbox::Line;
use crate::peer::{Address, ConnectionId};
use crate::reason::CloseReason;
use crate::timer::Moment;

/// Datagrams that may wait while the handler of their peer runs, and their bytes.
const INBOX_DATAGRAMS: usize = 256;
const INBOX_BYTES: usize = 1024 * 1024;

/// A session between two turns. A slot's cell holds it; a turn has it to itself.
pub(crate) struct Session {
    pub(crate) line: Arc<Line>,
    pub(crate) listener: Arc<DatagramListener>,
    pub(super) actor: Actor<dyn Handler>,
    pub(super) phase: Phase,
    pub(super) opened: Moment,
    pub(super) quiet_since: Moment,
    pub(super) paused_until: Option<Moment>,
    /// The handler knows of the drain.
    pub(super) told: bool,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// How far a session is on its way to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Datagrams are handled.
    Open,
    /// It ends after this turn, for this reason.
    Ended(CloseReason),
}

impl Session {
    pub(super) fn new(
        line: Arc<Line>,
        listener: Arc<DatagramListener>,
        factory: Factory<dyn Handler>,
        now: Moment,
    ) -> Self {
        Self {
            line,
            listener,
            actor: Actor::Promised(factory),
            phase: Phase::Open,
            opened: now,
            quiet_since: now,
            paused_until: None,
            told: false,
            received: 0,
            sent: 0,
        }
    }

    /// Why it has ended, once it has.
    pub(crate) fn ended(&self) -> Option<CloseReason> {
        match &self.phase {
            Phase::Open => None,
            Phase::Ended(reason) => Some(reason.clone()),
        }
    }

    /// Says that it is there, before anything else is said of it.
    pub(crate) fn begins(&self) {
        let (id, peer, listener) = (self.line.id, &self.line.peer, &self.listener.address);
        self.listener.core.events.emit(&Event::SessionBegun { id, peer, listener });
    }

    /// Ends it now: the drain's deadline has passed.
    pub(crate) fn force(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ended(CloseReason::Forced);
        }
    }

    pub(crate) fn traffic(&self, now: Moment) -> Traffic {
        let lasted = now.since(self.opened);
        Traffic { received: self.received, sent: self.sent + self.line.sent(), lasted }
    }

    /// Tells the handler the reason.
    pub(crate) fn finish(&mut self, reason: &CloseReason) {
        self.actor.finish(reason);
    }
}

/// A datagram that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) bytes: Box<[u8]>,
    pub(super) truncated: bool,
}

/// Datagrams of one peer that wait, in order.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether there was room for it.
    pub(super) fn push(&mut self, datagram: Waiting) -> bool {
        let bytes = self.bytes + datagram.bytes.len();
        if self.waiting.len() >= INBOX_DATAGRAMS || bytes > INBOX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.waiting.push_back(datagram);
        true
    }

    /// As [`Inbox::push`], before everything that waits already.
    pub(super) fn push_first(&mut self, datagram: Waiting) -> bool {
        let taken = self.push(datagram);
        if taken {
            self.waiting.rotate_right(1);
        }
        taken
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let datagram = self.waiting.pop_front()?;
        self.bytes -= datagram.bytes.len();
        if self.waiting.is_empty() {
            // An idle session owns no buffer.
            self.waiting = VecDeque::new();
        }
        Some(datagram)
    }
}

/// A peer's place in the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ConnectionId,
    pub(super) inbox: Inbox,
    /// Used since the hand passed last.
    touched: bool,
}

/// The table of a listener's sessions: bounded, and the one used longest ago makes room.
///
/// "Longest ago" is found by a hand that goes round: it spares whom it finds used since it passed last
/// (second chance). A use costs one store, an eviction O(1) on average.
#[derive(Debug)]
pub(super) struct Sessions {
    entries: HashMap<Address, Entry>,
    /// The order in which the hand goes round. Those who have left since are passed over.
    round: VecDeque<(Address, ConnectionId)>,
    max: usize,
}

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), round: VecDeque::new(), max }
    }

    pub(super) fn find(&mut self, addr: &Address) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(addr)?;
        entry.touched = true;
        Some(entry)
    }

    pub(super) fn insert(&mut self, addr: &Address, id: ConnectionId) {
        if self.round.len() >= 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            self.round.retain(|(addr, id)| entries.get(addr).is_some_and(|entry| entry.id == *id));
        }
        self.round.push_back((addr.clone(), id));
        let entry = Entry { id, inbox: Inbox::default(), touched: false };
        self.entries.insert(addr.clone(), entry);
    }

    /// Takes somebody out if the table is full, and says who it was.
    pub(super) fn make_room(&mut self) -> Option<ConnectionId> {
        while self.entries.len() >= self.max {
            let (addr, id) = self.round.pop_front()?;
            let Some(entry) = self.entries.get_mut(&addr).filter(|entry| entry.id == id) else {
                continue;
            };
            // Whoever has datagrams waiting is in use.
            if std::mem::take(&mut entry.touched) || !entry.inbox.is_empty() {
                self.round.push_back((addr, id));
                continue;
            }
            self.entries.remove(&addr);
            return Some(id);
        }
        None
    }

    /// Takes a session out, and hands back what still waited for it. An evicted one is not here any
    /// more: its address may have a new session.
    pub(super) fn remove(&mut self, addr: &Address, id: ConnectionId) -> Inbox {
        match self.entries.get(addr) {
            Some(entry) if entry.id == id => {}
            _ => return Inbox::default(),
        }
        self.entries.remove(addr).map(|entry| entry.inbox).unwrap_or_default()
    }

    /// The next datagram that waits for a session.
    pub(super) fn next_for(&mut self, addr: &Address, id: ConnectionId) -> Option<Waiting> {
        self.entries.get_mut(addr).filter(|entry| entry.id == id)?.inbox.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> Address {
        Address::Udp(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn the_one_used_longest_ago_makes_room() {
        let mut sessions = Sessions::new(2);
        sessions.insert(&addr(1), ConnectionId(1));
        sessions.insert(&addr(2), ConnectionId(2));
        assert!(sessions.find(&addr(1)).is_some());
        assert_eq!(sessions.make_room(), Some(ConnectionId(2)));
        assert_eq!(sessions.make_room(), None);
        assert!(sessions.find(&addr(2)).is_none());
    }

    #[test]
    fn an_evicted_session_does_not_take_its_successor_along() {
        let mut sessions = Sessions::new(1);
        sessions.insert(&addr(1), ConnectionId(1));
        sessions.make_room();
        sessions.insert(&addr(1), ConnectionId(2));
        sessions.remove(&addr(1), ConnectionId(1));
        assert!(sessions.find(&addr(1)).is_some());
    }

    #[test]
    fn the_round_does_not_grow_while_sessions_come_and_go() {
        let mut sessions = Sessions::new(100);
        for id in 1..10_000 {
            sessions.insert(&addr(7), ConnectionId(id));
            sessions.remove(&addr(7), ConnectionId(id));
        }
        assert!(sessions.round.len() < 64, "{}", sessions.round.len());
    }

    #[test]
    fn an_inbox_has_room_for_so_many_datagrams_and_bytes() {
        let waiting = |len: usize| Waiting { bytes: vec![0; len].into(), truncated: false };
        let mut inbox = Inbox::default();
        assert!((0..INBOX_DATAGRAMS).all(|_| inbox.push(waiting(0))));
        assert!(!inbox.push(waiting(0)));
        let mut inbox = Inbox::default();
        assert!(inbox.push(waiting(INBOX_BYTES)));
        assert!(!inbox.push(waiting(1)));
        inbox.pop();
        assert!(inbox.push(waiting(1)));
    }
}
