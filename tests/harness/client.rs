//! A peer of the server: it speaks lines over a stream and datagrams otherwise, and waits with a deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use switchboard::{Address, UnixName};

use super::PATIENCE;

/// The other end of a server under test.
#[derive(Debug)]
pub(crate) enum Client {
    Tcp(Wire),
    Unix(Wire),
    Udp(UdpSocket),
    UnixGram(NamedSocket),
}

/// A Unix datagram socket, and the file of its own that it is answered at.
#[derive(Debug)]
pub(crate) struct NamedSocket {
    pub(crate) socket: UnixDatagram,
    pub(crate) path: PathBuf,
}

impl Drop for NamedSocket {
    fn drop(&mut self) {
        // A test may have taken it away already.
        drop(std::fs::remove_file(&self.path));
    }
}

/// A path for a socket that no other test has.
pub(crate) fn socket_path(what: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("switchboard-{}-{what}-{count}", std::process::id()))
}

impl Client {
    pub(crate) fn of(address: &Address) -> Self {
        Self::try_of(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// A client, if somebody listens to it. (Datagrams over the internet are sent to nobody as well.)
    pub(crate) fn try_of(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(addr) => Ok(Self::over(TcpStream::connect_timeout(addr, PATIENCE)?)),
            Address::Udp(addr) => Ok(Self::udp(*addr)),
            Address::Unix(name) => {
                let stream = UnixStream::connect_addr(&system_name(name))?;
                Ok(Self::Unix(Wire::new(Pipe::Unix(stream))))
            }
            Address::UnixGram(name) => Self::unixgram(name),
            other => panic!("no client for {other}"),
        }
    }

    pub(crate) fn tcp(addr: SocketAddr) -> Self {
        Self::of(&Address::Tcp(addr))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("no delay");
        Self::Tcp(Wire::new(Pipe::Tcp(stream)))
    }

    fn unixgram(name: &UnixName) -> io::Result<Self> {
        let path = socket_path("client");
        let own = NamedSocket { socket: UnixDatagram::bind(&path)?, path };
        own.socket.connect_addr(&system_name(name))?;
        own.socket.set_read_timeout(Some(PATIENCE))?;
        own.socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::UnixGram(own))
    }

    pub(crate) fn udp(addr: SocketAddr) -> Self {
        Self::udp_from("127.0.0.1", addr)
    }

    pub(crate) fn udp_from(ip: &str, addr: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        socket.connect(addr).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        Self::Udp(socket)
    }

    /// Its internet address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.address().socket_addr().expect("an internet address")
    }

    /// How the server sees it; a Unix stream with its credentials.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(wire) => Address::Tcp(wire.tcp().local_addr().expect("an address")),
            Self::Udp(socket) => Address::Udp(socket.local_addr().expect("an address")),
            Self::Unix(_) => Address::Unix(UnixName::new("")),
            Self::UnixGram(own) => Address::UnixGram(UnixName::new(&own.path)),
        }
    }

    /// Sends one message: a line, or a datagram.
    #[track_caller]
    pub(crate) fn say(&mut self, message: &str) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => self.send_bytes(format!("{message}\n").as_bytes()),
            Self::Udp(_) | Self::UnixGram(_) => self.send_bytes(message.as_bytes()),
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes it");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(wire) | Self::Unix(wire) => wire.pipe.write_all(bytes),
            Self::Udp(socket) => socket.send(bytes).map(|_| ()),
            Self::UnixGram(own) => own.socket.send(bytes).map(|_| ()),
        }
    }

    /// Waits for one message.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        let message = self.try_hear().expect("a reply within the deadline");
        String::from_utf8(message).expect("text")
    }

    /// Waits for one message: a line, or a datagram.
    pub(crate) fn try_hear(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Tcp(wire) | Self::Unix(wire) => wire.line(),
            Self::Udp(socket) => datagram(|buffer| socket.recv(buffer)),
            Self::UnixGram(own) => datagram(|buffer| own.socket.recv(buffer)),
        }
    }

    /// Says something and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, message: &str) -> String {
        self.say(message);
        self.hear()
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub(crate) fn hear_bytes(&mut self, count: usize) -> Vec<u8> {
        let wire = self.wire();
        while wire.unread.len() < count {
            assert!(wire.more().expect("bytes within the deadline") > 0, "the stream ended early");
        }
        wire.unread.drain(..count).collect()
    }

    /// Everything up to the end of the stream; an error if it was reset.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let wire = self.wire();
        while wire.more()? > 0 {}
        Ok(std::mem::take(&mut wire.unread))
    }

    /// The server ends the stream in order, and everything up to there is this.
    #[track_caller]
    pub(crate) fn hears_only(&mut self, expected: &str) {
        let rest = self.rest().expect("an orderly end");
        assert_eq!(String::from_utf8_lossy(&rest), expected);
    }

    /// Says something; everything that comes back, up to an orderly end, is this.
    #[track_caller]
    pub(crate) fn hears_only_after(&mut self, message: &str, expected: &str) {
        self.say(message);
        self.hears_only(expected);
    }

    /// Nothing more can be exchanged: the end of the stream, or a reset.
    pub(crate) fn is_cut_off(&mut self) -> bool {
        match self.rest() {
            Ok(_) => true,
            Err(error) => {
                use io::ErrorKind::{BrokenPipe, ConnectionReset};
                matches!(error.kind(), ConnectionReset | BrokenPipe)
            }
        }
    }

    /// Sends FIN, and can still receive.
    pub(crate) fn finish_sending(&mut self) {
        self.wire().pipe.shutdown(Shutdown::Write).expect("a connection");
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        let Self::Tcp(wire) = self else { panic!("only TCP can be reset") };
        let socket = socket2::SockRef::from(wire.tcp());
        socket.set_linger(Some(Duration::ZERO)).expect("a connection");
    }

    /// Leaves as rudely as its transport lets it.
    pub(crate) fn vanish(self) {
        if matches!(self, Self::Tcp(_)) {
            self.reset();
        }
    }

    /// Waits so long for a reply, and no longer.
    pub(crate) fn set_patience(&self, patience: Duration) {
        match self {
            Self::Tcp(wire) | Self::Unix(wire) => wire.pipe.set_read_timeout(Some(patience)),
            Self::Udp(socket) => socket.set_read_timeout(Some(patience)),
            Self::UnixGram(own) => own.socket.set_read_timeout(Some(patience)),
        }
        .expect("a deadline");
    }

    /// Waits until something has arrived, and leaves it unread.
    pub(crate) fn wait_for_more(&mut self) {
        let patience = rustix::event::Timespec::try_from(PATIENCE).expect("a timeout");
        let mut there = [PollFd::new(&self.wire().pipe, PollFlags::IN)];
        assert_eq!(poll(&mut there, Some(&patience)), Ok(1), "something arrives in time");
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Tcp(wire) | Self::Unix(wire) => wire,
            Self::Udp(_) | Self::UnixGram(_) => panic!("datagrams are no stream"),
        }
    }
}

fn datagram(receive: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let length = receive(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// A name as the system wants it.
pub(crate) fn system_name(name: &UnixName) -> UnixAddr {
    use std::os::linux::net::SocketAddrExt;
    let shown = name.to_string();
    match (name.path(), shown.strip_prefix('@')) {
        (Some(path), _) => UnixAddr::from_pathname(path),
        (None, Some(name)) => UnixAddr::from_abstract_name(name),
        (None, None) => panic!("no socket has this name: {shown}"),
    }
    .expect("a name")
}

/// A stream of either kind.
#[derive(Debug)]
pub(crate) enum Pipe {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Pipe {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Self::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
            Self::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream and what was read of it beyond the last message.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) pipe: Pipe,
    unread: Vec<u8>,
}

impl Wire {
    fn new(pipe: Pipe) -> Self {
        pipe.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        pipe.set_write_timeout(Some(PATIENCE)).expect("a deadline");
        Self { pipe, unread: Vec::new() }
    }

    /// The stream, where it must be TCP.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.pipe {
            Pipe::Tcp(stream) => stream,
            Pipe::Unix(_) => panic!("this is no TCP stream"),
        }
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        let bytes = self.pipe.read(&mut buffer)?;
        self.unread.extend_from_slice(&buffer[..bytes]);
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut searched = 0;
        loop {
            let found = self.unread[searched..].iter().position(|&byte| byte == b'\n');
            if let Some(at) = found {
                let mut line: Vec<u8> = self.unread.drain(..=searched + at).collect();
                line.pop();
                return Ok(line);
            }
            searched = self.unread.len();
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
