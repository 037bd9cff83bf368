//! What happens in a server, as values without payload: counted by `stats`, written down by `log`.
//!
//! The stages only say what happened. Nothing but [`log`] writes it anywhere.

mod log;
mod stats;

pub use stats::{Histogram, Stats};

use std::io;
use std::time::Duration;

use crate::peer::{Address, ConnectionId, Peer};
use crate::reason::CloseReason;

pub(crate) use stats::Counters;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The soft limit on descriptors was raised, and what it leaves for connections.
    DescriptorsRaised {
        before: u64,
        now: u64,
        max_connections: usize,
    },
    /// The descriptor limit is lower than `max_connections` asks for.
    DescriptorsShort {
        descriptors: u64,
        max_connections: usize,
    },
    Listening {
        address: &'a Address,
    },
    /// The kernel granted a smaller receive buffer than was asked for.
    SmallReceiveBuffer {
        address: &'a Address,
        asked: usize,
        granted: usize,
    },
    /// accept(2) failed; the listener rests for so long (not at all: it goes on).
    AcceptFailed {
        address: &'a Address,
        error: &'a io::Error,
        rest: Option<Duration>,
    },
    /// A listening socket is broken: nobody is accepted from it any more.
    ListenerFailed {
        address: &'a Address,
        error: &'a io::Error,
    },
    /// As many connections are open as may be: the next ones wait in the kernel's queue.
    Full {
        max_connections: usize,
    },
    Opened {
        id: ConnectionId,
        peer: &'a Peer,
    },
    Closed {
        id: ConnectionId,
        peer: &'a Peer,
        reason: &'a CloseReason,
        traffic: Traffic,
    },
    DatagramDropped {
        peer: &'a Peer,
        reason: DropReason,
    },
    /// A handler of raw datagrams failed.
    DatagramFailed {
        peer: &'a Peer,
        reason: &'a CloseReason,
    },
    /// A reply was not sent: the loop guard withheld it.
    ReplyWithheld {
        peer: std::net::SocketAddr,
    },
    ReplyFailed {
        peer: std::net::SocketAddr,
        error: &'a io::Error,
    },
    /// Receiving failed in a way that says nothing of a single datagram.
    ReceiveFailed {
        address: &'a Address,
        error: &'a io::Error,
    },
    /// A worker blocks in a handler; another one has taken over.
    WorkerReplaced {
        worker: usize,
        hog: bool,
    },
    /// Blocking is common: the workers are fed by a queue (or: is not any more).
    BlockingCommon {
        common: bool,
    },
    ThreadFailed {
        error: &'a io::Error,
    },
    /// Nothing can be waited for any more: the server ends.
    PollFailed {
        error: &'a io::Error,
    },
    /// Newcomers are turned away.
    Suspended,
    /// Newcomers are let in again.
    Resumed,
    Draining {
        within: Duration,
        open: usize,
    },
    /// A handler did not end by the drain's deadline.
    Stuck {
        id: ConnectionId,
        peer: &'a Peer,
    },
    Drained {
        completed: usize,
        told: usize,
        forced: usize,
        stuck: usize,
        took: Duration,
    },
}

/// What a connection or session has carried when it ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) lasted: Duration,
}

/// Why a datagram that was received was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum DropReason {
    /// It was longer than `max_datagram`.
    Truncated,
    /// It came from a port of services that answer anybody, or from port 0: answering begins a loop.
    ServicePort,
    /// As many datagrams wait for a handler of its peer as may.
    InboxFull,
    /// Its session ended before its turn came.
    SessionEnded,
    /// There was no slot for another session.
    NoRoom,
    /// A handler of raw datagrams failed on it.
    Failed,
    /// The server is suspended, and its sender had no session.
    Suspended,
}

impl DropReason {
    pub(crate) const KINDS: usize = 7;

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::ServicePort => "service-port",
            Self::InboxFull => "inbox-full",
            Self::SessionEnded => "session-ended",
            Self::NoRoom => "no-room",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
        }
    }

    const ALL: [Self; Self::KINDS] = [
        Self::Truncated,
        Self::ServicePort,
        Self::InboxFull,
        Self::SessionEnded,
        Self::NoRoom,
        Self::Failed,
        Self::Suspended,
    ];
}

/// Those who listen: the counters, and the log.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) counters: Counters,
    log: log::Log,
}

impl Events {
    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.counters.count(event);
        self.log.write(event);
    }
}
