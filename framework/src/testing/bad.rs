//! Peers that misbehave, for real servers: slow, silent, deaf, rude and greedy ones.
//!
//! Each is a function that plays one such peer on this thread, over TCP, and says what became of it. Each
//! ends by the deadline that it is given, whatever the server does.
//!
//! ```
//! use std::time::Duration;
//! use switchboard::testing::{End, TestServer, bad};
//! use switchboard::{Framing, Next, Server, handler_fn};
//!
//! let server = TestServer::spawn(
//!     Server::new(|_peer| {
//!         handler_fn(|message, cx| {
//!             cx.send(message.to_ascii_uppercase());
//!             Ok(Next::Continue)
//!         })
//!     })
//!     .framing(Framing::lines())
//!     .message_timeout(Duration::from_millis(200)),
//! );
//! let within = Duration::from_secs(10);
//!
//! let met = bad::one_byte_at_a_time(server.addr(), b"hello\n", within)?;
//! assert_eq!((met.received.as_slice(), met.end), (&b"HELLO\n"[..], End::Closed));
//!
//! // Half a line, and then nothing: the server does not wait for ever.
//! let met = bad::falls_silent(server.addr(), b"hel", within)?;
//! assert_eq!((met.received.as_slice(), met.end), (&b""[..], End::Closed));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::sys::socket::reset_at_close;
use crate::testing::client::End;

/// Of what a server sends so much is kept, in bytes; the rest is only counted.
const KEPT: usize = 1024 * 1024;

/// What became of a bad peer.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::{End, TestServer, bad};
/// use switchboard::{Next, Server, handler_fn};
///
/// let server = TestServer::spawn(Server::new(|_peer| handler_fn(|_message, cx| {
///     cx.send("goodbye");
///     Ok(Next::Close)
/// })));
/// let met: bad::Met = bad::half_closes(server.addr(), b"hello", Duration::from_secs(10))?;
/// assert_eq!((met.sent, met.received_in_all, met.end), (5, 7, End::Closed));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Met {
    /// How many bytes the system took of it.
    pub sent: u64,
    /// What it was sent: the first MiB.
    pub received: Vec<u8>,
    /// How many bytes that was in all.
    pub received_in_all: u64,
    /// How the server ended it; [`End::Open`] if it had not by the deadline.
    pub end: End,
}

/// Sends each byte by itself, finishes sending, and reads to the end.
///
/// # Errors
/// The connection is refused, or the system has no socket left.
pub fn one_byte_at_a_time(addr: SocketAddr, bytes: &[u8], within: Duration) -> io::Result<Met> {
    let mut peer = Bad::connect(addr, within)?;
    for byte in bytes.chunks(1) {
        if !peer.send(byte) {
            break;
        }
    }
    Ok(peer.half_close().read_to_the_end())
}

/// Sends everything, finishes sending at once, and reads to the end.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::{End, TestServer, bad};
/// use switchboard::{Framing, Next, Server, handler_fn};
///
/// # let echo = || {
/// #     handler_fn(|line, cx| {
/// #         cx.send(line);
/// #         Ok(Next::Continue)
/// #     })
/// # };
/// let server = Server::new(move |_peer| echo()).framing(Framing::lines());
/// let server = TestServer::spawn(server.write_timeout(Duration::from_millis(100)));
/// let within = Duration::from_secs(20);
/// let met = bad::half_closes(server.addr(), b"hello\n", within)?;
/// assert_eq!((met.received.as_slice(), met.end), (&b"hello\n"[..], End::Closed));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The connection is refused, or the system has no socket left.
pub fn half_closes(addr: SocketAddr, bytes: &[u8], within: Duration) -> io::Result<Met> {
    let mut peer = Bad::connect(addr, within)?;
    peer.send(bytes);
    Ok(peer.half_close().read_to_the_end())
}

/// Sends everything, and then nothing more, without closing: as one whose cable was cut.
///
/// # Errors
/// The connection is refused, or the system has no socket left.
pub fn falls_silent(addr: SocketAddr, bytes: &[u8], within: Duration) -> io::Result<Met> {
    let mut peer = Bad::connect(addr, within)?;
    peer.send(bytes);
    Ok(peer.read_to_the_end())
}

/// Sends the same over and over and reads nothing, until the server has had enough of it.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::{End, TestServer, bad};
/// use switchboard::{Framing, Next, Server, handler_fn};
///
/// # let echo = || {
/// #     handler_fn(|line, cx| {
/// #         cx.send(line);
/// #         Ok(Next::Continue)
/// #     })
/// # };
/// let server = Server::new(move |_peer| echo()).framing(Framing::lines());
/// let server = TestServer::spawn(server.write_timeout(Duration::from_millis(100)));
/// let within = Duration::from_secs(20);
/// let met = bad::never_reads(server.addr(), &b"x\n".repeat(32 * 1024), within)?;
/// assert_eq!(met.end, End::Reset, "it is given up at the write timeout");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The connection is refused, or the system has no socket left.
pub fn never_reads(addr: SocketAddr, bytes: &[u8], within: Duration) -> io::Result<Met> {
    let mut peer = Bad::connect(addr, within)?;
    peer.send_again_and_again(bytes);
    Ok(peer.met)
}

/// Sends everything and resets the connection at once.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::{TestServer, bad};
/// use switchboard::{Framing, Next, Server, handler_fn};
///
/// # let echo = || {
/// #     handler_fn(|line, cx| {
/// #         cx.send(line);
/// #         Ok(Next::Continue)
/// #     })
/// # };
/// let server = Server::new(move |_peer| echo()).framing(Framing::lines());
/// let server = TestServer::spawn(server.write_timeout(Duration::from_millis(100)));
/// let within = Duration::from_secs(20);
/// let met = bad::resets(server.addr(), b"hello\n", within)?;
/// assert_eq!(met.sent, 6);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The connection is refused, or the system has no socket left.
pub fn resets(addr: SocketAddr, bytes: &[u8], within: Duration) -> io::Result<Met> {
    let mut peer = Bad::connect(addr, within)?;
    peer.send(bytes);
    reset_at_close(&peer.stream)?;
    Ok(peer.met)
}

/// Sends the same over and over, as fast as the server takes it, for half of the time; then finishes
/// sending, and reads to the end. All the while it reads what comes.
///
/// ```
/// use std::time::Duration;
/// use switchboard::testing::{TestServer, bad};
/// use switchboard::{Framing, Next, Server, handler_fn};
///
/// # let echo = || {
/// #     handler_fn(|line, cx| {
/// #         cx.send(line);
/// #         Ok(Next::Continue)
/// #     })
/// # };
/// let server = Server::new(move |_peer| echo()).framing(Framing::lines());
/// let server = TestServer::spawn(server.write_timeout(Duration::from_millis(100)));
/// let within = Duration::from_secs(20);
/// let met = bad::floods(server.addr(), &b"hello\n".repeat(100), within / 50)?;
/// assert!(met.sent > 600 && met.received_in_all > 600);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The connection is refused, or the system has no socket or thread left.
pub fn floods(addr: SocketAddr, bytes: &[u8], within: Duration) -> io::Result<Met> {
    let mut peer = Bad::connect(addr, within)?;
    let reader = Bad { stream: peer.stream.try_clone()?, met: Met::nothing(), until: peer.until };
    peer.until -= within / 2;
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().name("reads the flood".to_owned());
        let reading = reading.spawn_scoped(scope, || reader.read_to_the_end())?;
        peer.send_again_and_again(bytes);
        let sent = peer.half_close().met.sent;
        let met = reading.join().map_err(|_| io::Error::other("the reader panicked"))?;
        Ok(Met { sent, ..met })
    })
}

/// A bad peer at work.
struct Bad {
    stream: TcpStream,
    met: Met,
    until: Instant,
}

impl Met {
    const fn nothing() -> Self {
        Self { sent: 0, received: Vec::new(), received_in_all: 0, end: End::Open }
    }
}

impl Bad {
    fn connect(addr: SocketAddr, within: Duration) -> io::Result<Self> {
        let until = Instant::now() + within;
        let stream = TcpStream::connect_timeout(&addr, within)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, met: Met::nothing(), until })
    }

    /// What is left of its time; `None` if nothing is.
    fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (left > Duration::ZERO).then_some(left)
    }

    /// Sends all of this. Returns whether it could.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let mut sent = 0;
        while sent < bytes.len() {
            let Some(left) = self.left() else { return false };
            let written = self
                .stream
                .set_write_timeout(Some(left))
                .and_then(|()| self.stream.write(&bytes[sent..]));
            match written {
                Ok(written) => {
                    sent += written;
                    self.met.sent += written as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_late(&error) => return false,
                Err(_) => {
                    self.met.end = End::Reset;
                    return false;
                }
            }
        }
        true
    }

    fn send_again_and_again(&mut self, bytes: &[u8]) {
        while !bytes.is_empty() && self.send(bytes) {}
    }

    fn half_close(self) -> Self {
        // Its failure says that the connection is over; reading on says how.
        drop(self.stream.shutdown(Shutdown::Write));
        self
    }

    fn read_to_the_end(mut self) -> Met {
        let mut buffer = vec![0; 64 * 1024];
        while let Some(left) = self.left() {
            let read = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(&mut buffer));
            match read {
                Ok(0) => {
                    self.met.end = End::Closed;
                    break;
                }
                Ok(read) => {
                    self.met.received_in_all += read as u64;
                    let room = KEPT - self.met.received.len();
                    self.met.received.extend_from_slice(&buffer[..read.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_late(&error) => break,
                Err(_) => {
                    self.met.end = End::Reset;
                    break;
                }
            }
        }
        self.met
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
