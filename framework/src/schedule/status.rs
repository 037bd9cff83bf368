//! What a server does at this moment, in words: its stage, its listeners, who is there, and its workers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::datagram::DatagramListener;
use crate::outbox::LineSettings;
use crate::peer::Address;
use crate::schedule::engine::Engine;
use crate::stage::Stage;
use crate::stream::door::Door;
use crate::stream::listen::{Rest, StreamListener};
use crate::timer::Moment;

/// What a server does at this moment; see [`ServerHandle::status`](crate::ServerHandle::status).
///
/// Under load its parts are read one after the other: they need not be of the same instant. What a part
/// says was so when it was read.
///
/// ```
/// use switchboard::{Next, Server, ServerStage, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let server = server.tcp("127.0.0.1:0").max_connections(100).spawn()?;
/// let status = server.status();
/// assert_eq!(status.stage, ServerStage::Serving);
/// assert_eq!((status.connections_open, status.max_connections), (0, 100));
/// assert!(status.to_string().starts_with("serving connections=0/100 "));
/// # server.stop();
/// # Ok::<(), switchboard::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How far the server is on its way from bind to report.
    pub stage: ServerStage,
    /// Its listeners, in the order in which it was told of them.
    pub listeners: Vec<ListenerStatus>,
    /// Connections that are open.
    pub connections_open: usize,
    /// Connections that may be open.
    pub max_connections: usize,
    /// Sessions of datagrams that are held, on all listeners together.
    pub sessions_open: usize,
    /// Sessions that each datagram listener may hold.
    pub max_sessions: usize,
    /// Those who run handlers.
    pub workers: Workers,
}

/// How far a server is on its way from bind to report.
///
/// ```
/// use switchboard::{Next, Server, ServerStage, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let server = server.tcp("127.0.0.1:0").spawn()?;
/// assert_eq!(server.status().stage, ServerStage::Serving);
/// server.stop();
/// assert_eq!(server.status().stage, ServerStage::Stopped);
/// # Ok::<(), switchboard::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerStage {
    /// Its listeners are open, and nobody serves: whoever connects waits.
    Bound,
    /// It serves, or is about to.
    Serving,
    /// Newcomers are turned away; those who are there are served.
    Suspended,
    /// It is being drained.
    Draining,
    /// It has ended.
    Stopped,
}

/// One listener: its address, and what it does with newcomers. Of several sockets that share its port
/// ([`Listen::reuse_port`](crate::Listen::reuse_port)) it tells the worst.
///
/// ```
/// use switchboard::{ListenerState, Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let bound = server.tcp("127.0.0.1:0").bind()?;
/// let listener = bound.handle().status().listeners.remove(0);
/// assert_eq!(listener.address, bound.addresses()[0]);
/// assert_eq!(listener.state, ListenerState::Waiting);
/// assert_eq!(listener.to_string(), format!("{} waiting", listener.address));
/// # Ok::<(), switchboard::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// Where it listens, with the real port.
    pub address: Address,
    /// What it does.
    pub state: ListenerState,
}

/// What a listener does with newcomers.
///
/// ```
/// use switchboard::{ListenerState, Next, Server, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let server = server.tcp("127.0.0.1:0").spawn()?;
/// server.suspend()?;
/// assert_eq!(server.status().listeners[0].state, ListenerState::Suspended);
/// server.stop();
/// assert_eq!(server.status().listeners[0].state, ListenerState::Closed);
/// # Ok::<(), switchboard::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenerState {
    /// It is open, and nobody serves the server yet: they wait in the kernel's queue.
    Waiting,
    /// It takes them.
    Accepting,
    /// As many connections are open as may be: they wait in the kernel's queue.
    Full,
    /// Accepting has failed for want of something: they wait in the kernel's queue, and it is tried again.
    Resting {
        /// What the system said.
        error: String,
        /// When it is tried again, at the latest.
        until: Instant,
    },
    /// The server is suspended. Who was queued then is let in, who comes now is not.
    Suspending,
    /// The server is suspended: they are refused, and the port is kept. (Datagrams of strangers are dropped.)
    Suspended,
    /// The server is suspended, and this socket, a Unix socket or one that was taken over, cannot refuse:
    /// they connect, and wait in the kernel's queue until the server is resumed or drained.
    Holding,
    /// The server is being drained: only those who were queued before are taken.
    Draining,
    /// Its socket is broken, for this reason: they are refused, and will be.
    Failed(String),
    /// It is closed.
    Closed,
}

/// Those who run handlers.
///
/// ```
/// use switchboard::{Concurrency, Next, Server, Workers, handler_fn};
///
/// let server = Server::new(|_peer| handler_fn(|_message, _cx| Ok(Next::Continue)));
/// let server = server.tcp("127.0.0.1:0").concurrency(Concurrency::Inline).spawn()?;
/// let Workers { running, blocked, .. } = server.status().workers;
/// assert_eq!((running, blocked), (0, 0));
/// # server.stop();
/// # Ok::<(), switchboard::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Workers {
    /// Threads that were started for it and have not ended. Under `Inline` it is the one that serves.
    pub started: usize,
    /// In a turn at this moment, blocked ones included.
    pub running: usize,
    /// In a turn and known to block or to compute for long. Only a pool looks.
    pub blocked: usize,
}

/// One line: `serving connections=3/1024 sessions=0/10000 workers=2 running=1 blocked=0 accepting=1/2`,
/// where the last is how many of the listeners accept newcomers.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, connections_open, max_connections, sessions_open, .. } = self;
        let (max_sessions, workers) = (self.max_sessions, self.workers);
        let accepts = |listener: &&ListenerStatus| listener.state == ListenerState::Accepting;
        let (accepting, all) =
            (self.listeners.iter().filter(accepts).count(), self.listeners.len());
        write!(
            f,
            "{stage} connections={connections_open}/{max_connections} \
             sessions={sessions_open}/{max_sessions} {workers} accepting={accepting}/{all}"
        )
    }
}

/// One word, such as `serving`.
impl fmt::Display for ServerStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bound => "bound",
            Self::Serving => "serving",
            Self::Suspended => "suspended",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        })
    }
}

/// One line: `tcp://127.0.0.1:9999 accepting`.
impl fmt::Display for ListenerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.state)
    }
}

/// One line, such as `accepting`, or `resting 120ms: Too many open files (os error 24)`.
impl fmt::Display for ListenerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Accepting => "accepting",
            Self::Full => "full",
            Self::Resting { error, until } => {
                let left = until.saturating_duration_since(Instant::now()).as_millis();
                return write!(f, "resting {left}ms: {error}");
            }
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Holding => "holding",
            Self::Draining => "draining",
            Self::Failed(reason) => return write!(f, "failed: {reason}"),
            Self::Closed => "closed",
        })
    }
}

/// One line: `workers=2 running=1 blocked=0`.
impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { started, running, blocked } = self;
        write!(f, "workers={started} running={running} blocked={blocked}")
    }
}

impl Engine {
    /// What the server does at this moment. `addresses` are those of its listeners, in the user's order.
    pub(crate) fn status(&self, addresses: &[Address]) -> Status {
        let (connections_open, max_connections) = self.gate.occupancy();
        let (started, running, blocked) = self.crew.census();
        Status {
            stage: self.server_stage(),
            listeners: self.listeners(addresses),
            connections_open,
            max_connections,
            sessions_open: self.core.events.counters.sessions_open.load(Ordering::SeqCst),
            max_sessions: self.core.live.max_sessions(),
            workers: Workers { started, running, blocked },
        }
    }

    fn server_stage(&self) -> ServerStage {
        match self.core.stage() {
            Stage::Stopped => ServerStage::Stopped,
            Stage::Draining | Stage::Forcing => ServerStage::Draining,
            Stage::Running if self.core.is_suspended() => ServerStage::Suspended,
            Stage::Running if self.is_served() => ServerStage::Serving,
            Stage::Running => ServerStage::Bound,
        }
    }

    fn listeners(&self, addresses: &[Address]) -> Vec<ListenerStatus> {
        // Sockets that share a listener's port stand side by side, and are one.
        let same = |one: &Arc<LineSettings>, next: &Arc<LineSettings>| Arc::ptr_eq(one, next);
        let streams =
            self.sources.streams.chunk_by(|one, next| same(&one.settings, &next.settings));
        let streams = streams.filter_map(|sockets| {
            let states = sockets.iter().map(|socket| self.state_of_stream(socket));
            Some((&sockets.first()?.address, worst(states)?))
        });
        let datagrams = &self.sources.datagrams;
        let datagrams = datagrams.chunk_by(|one, next| same(&one.settings, &next.settings));
        let datagrams = datagrams.filter_map(|sockets| {
            let states = sockets.iter().map(|socket| self.state_of_datagrams(socket));
            Some((&sockets.first()?.address, worst(states)?))
        });
        let mut states: Vec<_> = streams.chain(datagrams).collect();
        // Several listeners may have one address: each is taken once.
        let of = |address: &Address| {
            let at = states.iter().position(|(of, _)| *of == address)?;
            let (_, state) = states.remove(at);
            Some(ListenerStatus { address: address.clone(), state })
        };
        addresses.iter().filter_map(of).collect()
    }

    fn state_of_stream(&self, listener: &StreamListener) -> ListenerState {
        let (open, max) = self.gate.occupancy();
        match (listener.door.state(), listener.rest()) {
            (Door::Failed(errno), _) => ListenerState::Failed(text_of(errno)),
            (Door::Closed, _) => ListenerState::Closed,
            _ if self.core.is_draining() => ListenerState::Draining,
            (Door::Closing { .. }, _) => ListenerState::Suspending,
            (Door::Shut, _) if listener.socket().is_some_and(|socket| !socket.can_refuse()) => {
                ListenerState::Holding
            }
            (Door::Shut, _) => ListenerState::Suspended,
            (Door::Open, _) if !self.is_served() => ListenerState::Waiting,
            (Door::Open, Rest::Failed { errno, until, .. }) => self.resting(errno, until),
            (Door::Open, _) if open >= max => ListenerState::Full,
            (Door::Open, Rest::Full | Rest::Armed { .. } | Rest::Shut) => ListenerState::Accepting,
        }
    }

    fn resting(&self, errno: i32, until: Moment) -> ListenerState {
        let until = self.core.clock.instant_of(until);
        ListenerState::Resting { error: text_of(errno), until }
    }

    fn state_of_datagrams(&self, listener: &DatagramListener) -> ListenerState {
        if listener.is_closed() || listener.socket().is_none() {
            return ListenerState::Closed;
        }
        match self.server_stage() {
            ServerStage::Stopped => ListenerState::Closed,
            ServerStage::Draining => ListenerState::Draining,
            ServerStage::Suspended => ListenerState::Suspended,
            ServerStage::Bound => ListenerState::Waiting,
            ServerStage::Serving => ListenerState::Accepting,
        }
    }
}

/// Of the states of sockets that share a port, the one that newcomers have most reason to fear.
fn worst(states: impl Iterator<Item = ListenerState>) -> Option<ListenerState> {
    states.max_by_key(|state| match state {
        ListenerState::Closed => 0,
        ListenerState::Accepting => 1,
        ListenerState::Waiting => 2,
        ListenerState::Draining => 3,
        ListenerState::Suspended | ListenerState::Holding => 4,
        // Not all of them refuse yet.
        ListenerState::Suspending => 5,
        ListenerState::Full => 6,
        ListenerState::Resting { .. } => 7,
        ListenerState::Failed(_) => 8,
    })
}

fn text_of(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}
