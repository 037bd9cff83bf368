//! The poller: one edge-triggered epoll that any number of threads may wait on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::sys::datagrams::DatagramSocket;
use crate::sys::memory::Announced;
use crate::sys::socket::{Socket, Way};
use crate::sys::wake::Wake;

/// Events fetched by one system call. 64 cost 0.95 of a plain loop's CPU per message where one event
/// a call cost 1.04 (two cores, 64 connections).
const EVENTS_PER_WAIT: usize = 64;

/// What a descriptor is ready for, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has sent FIN or RST: read until the end.
    pub(crate) hung_up: bool,
}

/// Where events come from.
#[derive(Debug)]
pub(crate) enum Poller {
    /// The epoll instance and the descriptor that wakes whoever waits on it.
    System { epoll: OwnedFd, wake: Wake },
    /// What a test lets happen. Nobody waits for it.
    Memory(Arc<Announced>),
}

/// The token of the poller's own wake-up.
pub(crate) const WAKE_TOKEN: u64 = u64::MAX;

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = Wake::new()?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE_TOKEN), EventFlags::IN)?;
        Ok(Self::System { epoll, wake })
    }

    /// A poller of streams in memory: no descriptor.
    pub(crate) fn in_memory() -> Self {
        Self::Memory(Arc::default())
    }

    fn epoll(&self) -> io::Result<&OwnedFd> {
        match self {
            Self::System { epoll, .. } => Ok(epoll),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Registers a connected stream once, for everything it will ever announce. Room to write is among
    /// that on TCP, where it costs no extra event (measured: 0 in 50 echoes); a Unix socket would announce
    /// it at every read of its peer, so that it is to be asked for ([`Poller::announce_room`]).
    pub(crate) fn add_stream(&self, socket: &Socket, token: u64) -> io::Result<()> {
        let input = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let interest = if socket.announces_much_room() { input } else { input | EventFlags::OUT };
        self.add_connected(socket, token, interest)
    }

    /// Asks for room to write as well, of a stream that was registered without. If there is some
    /// already, it is announced at once.
    pub(crate) fn announce_room(&self, socket: &Socket, token: u64) -> io::Result<()> {
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        match socket.way() {
            Way::System { fd, .. } => {
                Ok(epoll::modify(self.epoll()?, fd, EventData::new_u64(token), all)?)
            }
            // In memory everything is announced.
            Way::Memory(_) => Ok(()),
        }
    }

    /// Asks to be told once that a stream takes bytes again; for streams that a thread of their own
    /// reads.
    pub(crate) fn add_writer(&self, socket: &Socket, token: u64) -> io::Result<()> {
        self.add_connected(socket, token, EventFlags::OUT | EventFlags::ET)
    }

    fn add_connected(&self, socket: &Socket, token: u64, flags: EventFlags) -> io::Result<()> {
        match (self, socket.way()) {
            (Self::Memory(announced), Way::Memory(socket)) => {
                socket.announce_to(announced, token);
                Ok(())
            }
            (_, Way::System { fd, .. }) => {
                Ok(epoll::add(self.epoll()?, fd, EventData::new_u64(token), flags)?)
            }
            (Self::System { .. }, Way::Memory(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Registers a listening socket, level-triggered: what one round leaves queued is announced again.
    pub(crate) fn add_listener(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(self.epoll()?, socket, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Stops announcing a listener, without losing what the kernel queues for it.
    pub(crate) fn rest_listener(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let none = EventFlags::empty();
        Ok(epoll::modify(self.epoll()?, socket, EventData::new_u64(token), none)?)
    }

    /// Announces a resting listener again, at once if somebody is queued.
    pub(crate) fn arm_listener(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::modify(self.epoll()?, socket, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Registers a datagram socket, edge-triggered: whoever receives goes on until it is empty.
    pub(crate) fn add_datagrams(&self, socket: &DatagramSocket, token: u64) -> io::Result<()> {
        let both = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        match (self, socket) {
            (Self::Memory(announced), DatagramSocket::Memory(socket)) => {
                socket.announce_to(announced, token);
                Ok(())
            }
            _ => {
                let fd = socket.descriptor()?;
                Ok(epoll::add(self.epoll()?, fd, EventData::new_u64(token), both)?)
            }
        }
    }

    /// As [`Poller::remove`].
    pub(crate) fn remove_datagrams(&self, socket: &DatagramSocket) {
        if let Ok(descriptor) = socket.descriptor() {
            self.remove(descriptor);
        }
    }

    /// Announces nothing of this socket any more; one that is not registered is none the worse for it.
    /// (Closing a descriptor does so by itself, unless another one of the same socket is open elsewhere.)
    pub(crate) fn remove(&self, socket: impl AsFd) {
        if let Ok(epoll) = self.epoll() {
            let _ = epoll::delete(epoll, socket);
        }
    }

    /// Wakes one thread out of [`Poller::wait`].
    pub(crate) fn wake(&self) {
        if let Self::System { wake, .. } = self {
            wake.raise();
        }
    }

    /// Waits for events, for ever with `None`, and puts them into `events`. A wake-up is taken here
    /// and is not among them.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.fetched.clear();
        events.announced.clear();
        let (epoll, wake) = match self {
            Self::System { epoll, wake } => (epoll, wake),
            Self::Memory(announced) => {
                announced.fetch(&mut events.announced);
                return Ok(());
            }
        };
        let timeout = timeout.map(timespec);
        match epoll::wait(epoll, spare_capacity(&mut events.fetched), timeout.as_ref()) {
            Ok(_) => {}
            // A signal arrived; the caller looks at its timers and waits again.
            Err(rustix::io::Errno::INTR) => events.fetched.clear(),
            Err(other) => return Err(other.into()),
        }
        if events.fetched.iter().any(|e| e.data.u64() == WAKE_TOKEN) {
            wake.clear();
        }
        Ok(())
    }
}

/// The room for the events of one wait.
pub(crate) struct Events {
    fetched: Vec<epoll::Event>,
    /// Those of streams in memory.
    announced: Vec<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { fetched: Vec::with_capacity(EVENTS_PER_WAIT), announced: Vec::new() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        let fetched = self.fetched.iter().filter_map(|event| {
            let (token, flags) = (event.data.u64(), event.flags);
            let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            (token != WAKE_TOKEN).then_some(Event {
                token,
                readable: hung_up || flags.contains(EventFlags::IN),
                writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                hung_up,
            })
        });
        fetched.chain(self.announced.iter().copied())
    }
}

/// What a thread that waits on one socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// What ended such a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The socket is ready (or broken: the next call on it says so).
    Socket,
    /// Somebody raised the wake-up.
    Woken,
    /// The time has passed.
    Timeout,
}

/// Waits on one socket, beside a wake-up, for at most `timeout`. Where both are ready the wake-up wins.
pub(crate) fn wait_one(
    socket: impl AsFd,
    interest: Interest,
    wake: Option<&Wake>,
    timeout: Option<Duration>,
) -> io::Result<Waited> {
    let flags = match interest {
        Interest::Read => PollFlags::IN | PollFlags::RDHUP,
        Interest::Write => PollFlags::OUT,
    };
    let socket = socket.as_fd();
    // Without a wake-up the socket stands in both places; the second entry then asks for nothing.
    let (beside, beside_flags) =
        wake.map_or((socket, PollFlags::empty()), |wake| (wake.as_fd(), PollFlags::IN));
    let mut fds =
        [PollFd::from_borrowed_fd(socket, flags), PollFd::from_borrowed_fd(beside, beside_flags)];
    let timeout = timeout.map(timespec);
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(0) => Ok(Waited::Timeout),
        Ok(_) if wake.is_some() && !fds[1].revents().is_empty() => Ok(Waited::Woken),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Waited::Socket),
        Err(other) => Err(other.into()),
    }
}

/// Waits for a wake-up alone.
pub(crate) fn wait_wake(wake: &Wake, timeout: Option<Duration>) -> io::Result<Waited> {
    let mut fds = [PollFd::new(wake, PollFlags::IN)];
    let timeout = timeout.map(timespec);
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(0) => Ok(Waited::Timeout),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Waited::Woken),
        Err(other) => Err(other.into()),
    }
}

/// Whether the peer is gone for good: it reset the connection, or both directions are closed.
pub(crate) fn is_gone(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok()
        && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Whether something waits on a socket at this moment: bytes, or a connection to be accepted.
pub(crate) fn is_readable(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Spans longer than this are cut: the caller looks at its timers again then. (2^31 ms, about 24 days.)
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

fn timespec(span: Duration) -> Timespec {
    let span = span.min(LONGEST);
    Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: i64::from(span.subsec_nanos()) }
}
