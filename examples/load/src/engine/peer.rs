//! One connection of the generator, or one datagram socket: its line, and the talk that goes over it.
use std::os::fd::OwnedFd;

use crate::plan::Plan;
use crate::proof::Proof;
use crate::proof::window::Window;

/// Where the connection stands.
#[derive(Debug)]
pub(crate) enum Line {
    /// No socket; one may be opened from this instant on.
    Down { retry_at: u64 },
    /// The handshake is under way.
    Connecting { fd: OwnedFd, since: u64 },
    /// It stands.
    Up { fd: OwnedFd, since: u64 },
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We are through with it.
    Ours,
    /// The server closed it.
    Closed,
    /// The server reset it.
    Reset,
    /// Nobody there, says the network.
    Refused,
    /// What came cannot be followed any further.
    Senseless,
}

/// What is said over a connection, and what is not settled yet. Parked connections (`side.rs`) have none of it.
#[derive(Debug)]
pub(crate) struct Talk {
    /// The connection's number, which its requests carry.
    pub(crate) id: u32,
    /// What its ids begin with.
    pub(crate) front: u64,
    pub(crate) window: Window,
    /// Received bytes that make no whole reply yet.
    pub(crate) partial: Vec<u8>,
    /// Bytes that the socket would not take yet.
    pub(crate) unsent: Vec<u8>,
    /// The socket took no more; its next writability is awaited.
    pub(crate) blocked: bool,
    /// It stands in the queue of connections that can take a request.
    pub(crate) listed: bool,
    /// Our half is closed.
    pub(crate) half_closed: bool,
    /// Requests made on the present connection.
    pub(crate) made: u32,
    /// No byte has come on the present connection.
    pub(crate) fresh: bool,
    /// More bytes lie ready than one turn may read.
    pub(crate) more: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u32,
    /// Its place among its thread's connections.
    index: u32,
    pub(crate) line: Line,
    pub(crate) talk: Box<Talk>,
    /// Requests after which this connection is ended and another begun.
    pub(crate) life: Option<u32>,
}

impl Peer {
    /// A connection yet to be made.
    pub(crate) fn new(id: u32, index: u32, plan: &Plan, proof: &Proof) -> Self {
        let talk = Talk {
            id,
            front: proof.front(id),
            window: Window::new(plan.depth),
            partial: Vec::new(),
            unsent: Vec::new(),
            blocked: false,
            listed: false,
            half_closed: false,
            made: 0,
            fresh: true,
            more: false,
        };
        let life = plan.life.filter(|_| !plan.half_live_on || id.is_multiple_of(2));
        Self { id, index, line: Line::Down { retry_at: 0 }, talk: Box::new(talk), life }
    }

    /// What its events carry.
    pub(crate) fn token(&self) -> u64 {
        u64::from(self.index)
    }

    /// Whether the connection stands.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.line, Line::Up { .. })
    }

    /// How many more requests it can take now.
    pub(crate) fn room(&self) -> u32 {
        if !self.is_up() || self.talk.blocked || self.talk.half_closed {
            return 0;
        }
        let left = self.life.map_or(u32::MAX, |life| life.saturating_sub(self.talk.made));
        self.talk.window.room().min(left)
    }

    /// Whether it has made all the requests of its life, and has been answered.
    pub(crate) fn is_spent(&self) -> bool {
        self.life.is_some_and(|life| self.talk.made >= life) && self.talk.window.open() == 0
    }
}
