//! What happens in a server, as values without payload: told to observers, counted, and written down.
//!
//! The stages only say what happened. `observe` hands it on, `stats` counts it, `text` says it in one
//! line, and nothing but `log` writes that line anywhere.

mod log;
mod observe;
mod stats;
mod text;

pub use observe::Observer;
pub use stats::{Histogram, Stats};

use std::io;
use std::time::Duration;

use crate::peer::{Address, ConnectionId, Peer};
use crate::reason::CloseReason;

pub(crate) use observe::Events;
pub(crate) use stats::Counters;

/// Something that happened in a server, as an [`Observer`] hears of it.
///
/// It never holds a byte that a peer has sent. What belongs together is linked by [`ConnectionId`], by
/// [`Peer`] and by the listener's [`Address`]. What begins ends exactly once: a listener, a connection, a
/// session, a drain. (A connection whose handler never returns does not end; [`Event::Stuck`] names it.)
///
/// `Display` writes one line, as it stands in the log; [`Event::name`] is one word for the kind. The line's
/// level, under the target `switchboard`, is:
///
/// | level | events |
/// |---|---|
/// | error | `ListenerFailed`, `ThreadFailed`, `PollFailed`, `TickPanicked`, `ObserverPanicked`; an end by a panic |
/// | warn | `DescriptorsShort`, `SmallReceiveBuffer`, `Full`, `Stuck`, `TickStuck`, `ReplyWithheld`, `AcceptFailed` of a listener that rests, `DatagramDropped`; an end by an error of the handler, or one that a drain forced |
/// | info | `DescriptorsRaised`, `ListenerStarted`, `Suspended`, `Resumed`, `Draining`, `Drained`; any other end |
/// | debug | `ConnectionOpened`, `SessionBegun`, `ListenerStopped`, `ReceiveFailed`, `ReplyFailed`, `WorkerReplaced`, `SharingChanged`, `AcceptFailed` of one connection, `DatagramDropped` behind its session; an end by a peer's reset, or by an error under [`quiet_errors`](crate::Server::quiet_errors) |
///
/// An end is `ConnectionClosed`, `SessionEnded` or `DatagramFailed`.
///
/// ```
/// use switchboard::{Address, Event};
///
/// let address = Address::Udp("127.0.0.1:53".parse().unwrap());
/// let event = Event::ListenerStarted { address: &address };
/// assert_eq!(event.to_string(), "listening on udp://127.0.0.1:53");
/// assert_eq!(event.name(), "listener-started");
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The soft limit on descriptors was raised.
    DescriptorsRaised {
        /// What it was.
        before: u64,
        /// What it is.
        now: u64,
        /// The connections that it leaves room for.
        max_connections: usize,
    },
    /// The descriptor limit is lower than `max_connections` asks for.
    DescriptorsShort {
        /// Descriptors that this process may open.
        descriptors: u64,
        /// What was asked for.
        max_connections: usize,
    },
    /// A listener is served from now on. (It is open since `bind`: clients that came before are served
    /// first.) Its end is [`Event::ListenerStopped`].
    ListenerStarted {
        /// Where it listens, with its real port.
        address: &'a Address,
    },
    /// A listener was closed: its address is free.
    ListenerStopped {
        /// Where it listened.
        address: &'a Address,
    },
    /// The kernel granted a smaller receive buffer than was asked for: bursts may be lost.
    SmallReceiveBuffer {
        /// The listener.
        address: &'a Address,
        /// Bytes that were asked for.
        asked: usize,
        /// Bytes that were granted.
        granted: usize,
    },
    /// A connection could not be accepted.
    AcceptFailed {
        /// The listener.
        address: &'a Address,
        /// Why.
        error: &'a io::Error,
        /// How long the listener rests before it tries again; `None`: not at all, it was the one
        /// connection's affair.
        rest: Option<Duration>,
    },
    /// A listening socket is broken: nobody is accepted from it any more. [`Event::ListenerStopped`]
    /// follows.
    ListenerFailed {
        /// The listener.
        address: &'a Address,
        /// Why.
        error: &'a io::Error,
    },
    /// As many connections are open as may be: the next ones wait in the kernel's queue.
    Full {
        /// The limit.
        max_connections: usize,
    },
    /// A connection was accepted; nothing of it was read, and its handler is not made yet. Its end is
    /// [`Event::ConnectionClosed`].
    ConnectionOpened {
        /// Its number.
        id: ConnectionId,
        /// Who is at the other end.
        peer: &'a Peer,
        /// Where it came in.
        listener: &'a Address,
    },
    /// A connection has ended: its socket is closed, and its handler's `finish` has returned.
    ConnectionClosed {
        /// Its number.
        id: ConnectionId,
        /// Who was at the other end.
        peer: &'a Peer,
        /// Where it came in.
        listener: &'a Address,
        /// Why it ended.
        reason: &'a CloseReason,
        /// What it carried.
        traffic: Traffic,
    },
    /// The session of a peer that sends datagrams begins; its handler is not made yet. Its end is
    /// [`Event::SessionEnded`].
    SessionBegun {
        /// Its number.
        id: ConnectionId,
        /// Who sends.
        peer: &'a Peer,
        /// Where its datagrams come in.
        listener: &'a Address,
    },
    /// A session has ended, and its handler's `finish` has returned.
    SessionEnded {
        /// Its number.
        id: ConnectionId,
        /// Who sent.
        peer: &'a Peer,
        /// Where its datagrams came in.
        listener: &'a Address,
        /// Why it ended.
        reason: &'a CloseReason,
        /// What it carried.
        traffic: Traffic,
    },
    /// A datagram that was received was not handled.
    DatagramDropped {
        /// Who sent it.
        peer: &'a Peer,
        /// Where it came in.
        listener: &'a Address,
        /// Why.
        reason: DropReason,
    },
    /// A [`DatagramHandler`](crate::DatagramHandler) failed on a datagram, which counts as dropped
    /// ([`DropReason::Failed`]).
    DatagramFailed {
        /// Who sent it.
        peer: &'a Peer,
        /// Where it came in.
        listener: &'a Address,
        /// How it failed: [`CloseReason::HandlerErr`] or [`CloseReason::HandlerPanic`].
        reason: &'a CloseReason,
    },
    /// A reply was not sent: the peer sends back what it is sent, which looks like a loop.
    ReplyWithheld {
        /// Whom it was for.
        peer: &'a Address,
        /// The listener.
        listener: &'a Address,
    },
    /// A datagram could not be sent.
    ReplyFailed {
        /// Whom it was for.
        peer: &'a Address,
        /// The listener.
        listener: &'a Address,
        /// Why.
        error: &'a io::Error,
    },
    /// Receiving failed in a way that says nothing of a single datagram; it goes on.
    ReceiveFailed {
        /// The listener.
        address: &'a Address,
        /// Why.
        error: &'a io::Error,
    },
    /// A worker of a pool is held up in a handler, and another one has taken over what it held.
    WorkerReplaced {
        /// Its number.
        worker: usize,
        /// What holds it up.
        by: HeldBy,
    },
    /// Handlers of a pool block more often than before, or more rarely: how its workers share the work
    /// has changed.
    SharingChanged {
        /// How they share it from now on.
        to: Sharing,
    },
    /// There is no thread for a worker. Those that there are go on; it is tried again while work waits.
    ThreadFailed {
        /// Why.
        error: &'a io::Error,
    },
    /// Nothing can be waited for any more: the server ends.
    PollFailed {
        /// Why.
        error: &'a io::Error,
    },
    /// What was given to [`Server::on_tick`](crate::Server::on_tick) panicked. It is called again at its
    /// next instant.
    TickPanicked {
        /// Which one: 0 is the first that was given.
        tick: usize,
    },
    /// An observer panicked, for the first time. It is told of everything else all the same; how often it
    /// panics is in [`Stats::observer_panics`]. Told to the log and to the other observers.
    ObserverPanicked {
        /// Which one: 0 is the first that was given.
        observer: usize,
    },
    /// The server is suspended: newcomers are turned away.
    Suspended,
    /// Newcomers are let in again.
    Resumed,
    /// A drain begins. Its end is [`Event::Drained`].
    Draining {
        /// Its deadline, from now.
        within: Duration,
        /// Connections and sessions that are open, and handlers of raw datagrams and ticks that run.
        open: usize,
    },
    /// A handler had not returned when the server ended.
    Stuck {
        /// The number of its connection or session.
        id: ConnectionId,
        /// Its peer.
        peer: &'a Peer,
    },
    /// A tick had not returned when the server ended.
    TickStuck {
        /// Which one: 0 is the first that was given.
        tick: usize,
    },
    /// The server was drained. The numbers are those of the [`DrainReport`](crate::DrainReport).
    Drained {
        /// Ended by themselves.
        completed: usize,
        /// Closed because they were told.
        told: usize,
        /// Ended at the deadline.
        forced: usize,
        /// Not ended.
        stuck: usize,
        /// From the drain's beginning on.
        took: Duration,
    },
}

/// What a connection or session has carried.
///
/// ```
/// use std::sync::mpsc;
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Event, Next, Server, Traffic, handler_fn};
///
/// let (carried, ends) = mpsc::sync_channel::<Traffic>(1);
/// let server = Server::new(|_peer| {
///     handler_fn(|message, cx| {
///         cx.send([message, message].concat());
///         Ok(Next::Close)
///     })
/// })
/// .observer(move |event: &Event<'_>| {
///     if let Event::ConnectionClosed { traffic, .. } = event {
///         let _ = carried.try_send(*traffic);
///     }
/// });
/// MemoryServer::new(server).connect().send("hello");
/// let traffic = ends.try_recv()?;
/// assert_eq!((traffic.received, traffic.sent), (5, 10));
/// # Ok::<(), mpsc::TryRecvError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes that were read of it. What arrived and was never read is not among them.
    pub received: u64,
    /// Bytes that the kernel took for it, whoever sent them: replies, framing, remotes. Of a session: the
    /// bytes of the datagrams that were let out.
    pub sent: u64,
    /// From its first event to its end, in steps of a millisecond.
    pub lasted: Duration,
}

/// What holds a worker up.
///
/// ```
/// use switchboard::{Event, HeldBy};
///
/// let replaced = Event::WorkerReplaced { worker: 3, by: HeldBy::Blocking };
/// assert_eq!(replaced.name(), "worker-replaced");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeldBy {
    /// It blocks: it is off the processor, or has said that it will be.
    Blocking,
    /// It computes for long.
    Computing,
}

/// How the workers of a pool share the work.
///
/// ```
/// use switchboard::{Event, Sharing};
///
/// let changed = Event::SharingChanged { to: Sharing::Queue };
/// assert_eq!(changed.name(), "sharing-changed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// One worker waits for events and handles what it finds: handlers block rarely.
    Leader,
    /// A thread that runs no handlers feeds all workers: handlers block often.
    Queue,
}

/// Why a datagram that was received was not handled.
///
/// ```
/// use switchboard::DropReason;
///
/// assert_eq!(DropReason::InboxFull.name(), "inbox-full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(usize)]
pub enum DropReason {
    /// It was longer than `max_datagram`.
    Truncated,
    /// It came from a port of services that answer anybody, or from port 0: answering begins a loop.
    ServicePort,
    /// As many datagrams wait for a handler of its peer as may.
    InboxFull,
    /// Its session ended before its turn came.
    SessionEnded,
    /// There was no place for another session.
    NoRoom,
    /// A handler of raw datagrams failed on it.
    Failed,
    /// A filter did not let its peer in.
    Filtered,
    /// The server is suspended, and its sender had no session.
    Suspended,
}

impl DropReason {
    pub(crate) const KINDS: usize = 8;

    /// One word, as counters and logs name it: `inbox-full`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::ServicePort => "service-port",
            Self::InboxFull => "inbox-full",
            Self::SessionEnded => "session-ended",
            Self::NoRoom => "no-room",
            Self::Failed => "failed",
            Self::Filtered => "filtered",
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
        Self::Filtered,
        Self::Suspended,
    ];
}
