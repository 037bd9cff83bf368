//! Every knob of a server: its default, its bounds, and why that default.

mod live;

pub(crate) use live::Live;

use std::time::Duration;

use crate::error::Error;

/// The settings of a server, as its builder's setters fill them in.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Those that may change while it runs, as they are when it is bound. From then on [`Live`] has them.
    pub(crate) initial: Limits,
    /// Finished handshakes that may wait to be accepted. The kernel clips it to `somaxconn`, 4096 on
    /// most systems; 128, the standard library's, loses clients in a burst.
    pub(crate) backlog: u32,
    /// How long, and how many bytes, unread input is read and thrown away after FIN was sent, so that
    /// closing does not reset the connection and destroy what was sent last.
    pub(crate) linger: Duration,
    /// The longest datagram to receive whole: the largest that IPv4 carries.
    pub(crate) max_datagram: usize,
    /// The kernel's receive buffer to ask for on datagram sockets: with 416 KiB half of a window of
    /// 1,024 datagrams was lost, with 4 MiB none.
    pub(crate) receive_buffer: usize,
    /// Whether datagrams from ports of services that answer anybody are answered.
    pub(crate) answer_service_ports: bool,
    /// How loud an error is that a handler returned.
    pub(crate) handler_errors: HandlerErrors,
    /// How often each of the user's ticks runs.
    pub(crate) ticks: Vec<Duration>,
    /// Silence after which the kernel probes a connection, the probes' interval and number: a dead peer
    /// is found in 90 s.
    pub(crate) keep_alive: (Duration, Duration, u32),
    /// How long sent data may stay unacknowledged; keep-alive does nothing while some does.
    pub(crate) user_timeout: Duration,
}

/// The settings that may change while the server runs. `None` for a timeout is "never".
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Open connections at most. `None`: what the descriptor limit leaves after a reserve.
    pub(crate) max_connections: Option<usize>,
    /// Datagram sessions at most; the least recently used makes room.
    pub(crate) max_sessions: usize,
    /// No byte of the peer for so long: `Handler::idle` is asked. Five minutes spare a person typing.
    pub(crate) idle_timeout: Option<Duration>,
    /// From a message's first byte to its last. 30 s, as servers of documents allow a request's head.
    pub(crate) message_timeout: Option<Duration>,
    /// The peer takes none of the bytes that wait for it. 30 s outlast a lossy network's worst pause.
    pub(crate) write_timeout: Option<Duration>,
    /// A drain's patience. 20 s lie below the 30 s that supervisors give a process.
    pub(crate) drain_timeout: Duration,
    /// Bytes that may wait for one peer, and what happens beyond.
    pub(crate) outbox_limit: usize,
    pub(crate) overflow: Overflow,
}

/// Bytes that wait for one peer. Above `high` its connection is not read; below `low` it is again;
/// at `cap` the policy acts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) cap: usize,
}

impl Marks {
    /// From a sixteenth of the limit on a peer is not read, until half of that is left.
    pub(crate) const fn of(limit: usize) -> Self {
        Self { low: limit / 32, high: limit / 16, cap: limit }
    }
}

/// What happens when a [`Remote`](crate::Remote) or a [`Group`](crate::Group) sends to a peer for whom as
/// many bytes wait as may.
///
/// A handler's own replies are not subject to it: they wait for the peer, up to the write timeout.
///
/// ```
/// use std::sync::mpsc;
/// use switchboard::testing::MemoryServer;
/// use switchboard::{Next, Overflow, Server, handler_fn};
///
/// let (give, take) = mpsc::sync_channel(1);
/// let server = Server::new(move |_peer| {
///     let give = give.clone();
///     handler_fn(move |_message, cx| {
///         let _ = give.try_send(cx.remote());
///         Ok(Next::Continue)
///     })
/// });
/// let server = MemoryServer::new(server.outbox_limit(4096).overflow(Overflow::DropOldest));
/// let mut client = server.connect();
/// client.send("hello");
/// client.stop_reading();
/// let remote = take.try_recv()?;
/// for number in 0..5000 {
///     remote.send(format!("{number};")).expect("older ones make room");
/// }
/// client.read_on();
/// assert!(client.received().ends_with(b"4998;4999;"));
/// assert!(server.stats().messages_skipped > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection ends, with [`CloseReason::Overflow`](crate::CloseReason::Overflow).
    #[default]
    Disconnect,
    /// The messages that have waited longest are dropped, and counted.
    DropOldest,
    /// The new message is dropped, and counted.
    DropNewest,
}

/// How loud an error is that a handler returned. (A panic is always an error in the log.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HandlerErrors {
    /// A warning.
    #[default]
    Logged,
    /// For those who debug, like a peer's reset.
    Quiet,
}

/// How often a tick may run: the clock goes in milliseconds, and nobody waits for a year.
const SHORTEST_TICK: Duration = Duration::from_millis(1);
const LONGEST_TICK: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Ticks at most: under `Threads` each has a thread.
const MOST_TICKS: usize = 1024;

/// Messages that one turn handles at most, before the next connection has its turn.
pub(crate) const TURN_MESSAGES: usize = 16;

/// Handlers that may take over from one another (`Next::Switch`) without handling a message. Protocols
/// change once or twice; two handlers that each give way to the other would go on for ever.
pub(crate) const MOST_SWITCHES: usize = 16;

/// Bytes that one turn reads at most; also the size of a worker's read buffer, and how many bytes of
/// replies are collected before they are written.
pub(crate) const TURN_BYTES: usize = 64 * 1024;

/// Bytes read and thrown away after FIN was sent, at most.
pub(crate) const LINGER_BYTES: usize = 64 * 1024;

/// How long a connection that a drain closes stays open for reading, so that a request that crosses
/// our FIN does not draw a reset. Shorter than [`Config::linger`], so that a drain of idle connections
/// ends at once.
pub(crate) const DRAIN_LINGER: Duration = Duration::from_millis(100);

/// What a drain waits beyond its deadline for what it has forced to end.
pub(crate) const FORCE_GRACE: Duration = Duration::from_millis(300);

impl Default for Config {
    fn default() -> Self {
        Self {
            initial: Limits::default(),
            backlog: 4096,
            linger: Duration::from_secs(2),
            max_datagram: 65_535,
            receive_buffer: 4 * 1024 * 1024,
            answer_service_ports: false,
            handler_errors: HandlerErrors::Logged,
            ticks: Vec::new(),
            keep_alive: (Duration::from_secs(60), Duration::from_secs(10), 3),
            user_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_sessions: 10_000,
            idle_timeout: Some(Duration::from_secs(300)),
            message_timeout: Some(Duration::from_secs(30)),
            write_timeout: Some(Duration::from_secs(30)),
            drain_timeout: Duration::from_secs(20),
            outbox_limit: 1024 * 1024,
            overflow: Overflow::Disconnect,
        }
    }
}

impl Config {
    /// Refuses settings that cannot be meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let limits = &self.initial;
        check_timeout("idle_timeout", limits.idle_timeout)?;
        check_timeout("message_timeout", limits.message_timeout)?;
        check_timeout("write_timeout", limits.write_timeout)?;
        if let Some(connections) = limits.max_connections {
            check_connections(connections)?;
        }
        check_sessions(limits.max_sessions)?;
        check_outbox(limits.outbox_limit)?;
        if self.max_datagram == 0 || self.max_datagram > 65_535 {
            return Err(Error::config("max_datagram must be between 1 and 65535 bytes"));
        }
        if !self.ticks.iter().all(|tick| (SHORTEST_TICK..=LONGEST_TICK).contains(tick)) {
            return Err(Error::config("a tick's interval must be between 1 ms and 365 days"));
        }
        if self.ticks.len() > MOST_TICKS {
            return Err(Error::config(format!("there are more than {MOST_TICKS} ticks")));
        }
        Ok(())
    }

    /// The connections to allow under a descriptor limit, when each takes so many: a quarter of a small
    /// limit, 64 of a large one, stay free for files, listeners and whatever else the program opens.
    pub(crate) fn connections_under(&self, descriptors: u64, each: u64) -> usize {
        let reserve = 64.min(descriptors / 4);
        let room = usize::try_from((descriptors - reserve) / each).unwrap_or(usize::MAX).max(1);
        self.initial.max_connections.unwrap_or(room).min(MOST_CONNECTIONS)
    }
}

/// The connections that a descriptor limit allows if the program opens nothing else: places are made for
/// so many, for a limit that may be raised while the server runs.
pub(crate) fn connections_beside_nothing(descriptors: u64, each: u64) -> usize {
    usize::try_from(descriptors / each).unwrap_or(usize::MAX).clamp(1, MOST_CONNECTIONS)
}

fn check_timeout(name: &str, timeout: Option<Duration>) -> Result<(), Error> {
    match timeout {
        Some(Duration::ZERO) => {
            Err(Error::config(format!("{name} is zero; use None for \"never\"")))
        }
        _ => Ok(()),
    }
}

pub(crate) fn check_connections(connections: usize) -> Result<(), Error> {
    match connections {
        0 => Err(Error::config("max_connections is zero: nobody could be served")),
        _ => Ok(()),
    }
}

fn check_sessions(sessions: usize) -> Result<(), Error> {
    if (1..=MOST_SESSIONS).contains(&sessions) {
        return Ok(());
    }
    Err(Error::config(format!("max_sessions must be between 1 and {MOST_SESSIONS}")))
}

fn check_outbox(bytes: usize) -> Result<(), Error> {
    match Marks::of(bytes).low {
        0 => Err(Error::config("outbox_limit is below 32 bytes: nothing could wait")),
        _ => Ok(()),
    }
}

/// More slots than a process can have descriptors for.
const MOST_CONNECTIONS: usize = 16 * 1024 * 1024;
/// Sessions that one listener may hold at a time.
pub(crate) const MOST_SESSIONS: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_quarter_of_a_small_limit_and_64_of_a_large_one() {
        let config = Config::default();
        assert_eq!(config.connections_under(64, 1), 48);
        assert_eq!(config.connections_under(1024, 1), 960);
        assert_eq!(config.connections_under(1024, 2), 480);
        assert_eq!(config.connections_under(20_000, 1), 19_936);
        let initial = Limits { max_connections: Some(7), ..Limits::default() };
        let config = Config { initial, ..config };
        assert_eq!(config.connections_under(1024, 1), 7);
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused_by_name() {
        let check = |initial| Config { initial, ..Config::default() }.check();
        let zero = Limits { idle_timeout: Some(Duration::ZERO), ..Limits::default() };
        assert!(check(zero).unwrap_err().to_string().contains("idle_timeout"));
        let nobody = Limits { max_connections: Some(0), ..Limits::default() };
        assert!(check(nobody).unwrap_err().to_string().contains("max_connections"));
        Config::default().check().expect("the defaults are fine");
    }
}
