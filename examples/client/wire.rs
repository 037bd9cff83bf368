//! The way to a server, over TCP, UDP or a Unix socket: messages out, messages in.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use switchboard::Framing;
use switchboard::codec::FrameReader;

use crate::common::Url;

/// How long each address of a server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest datagram that is received whole; over Unix sockets that is most that is sent by default.
const LONGEST_DATAGRAM: usize = 256 * 1024;

pub(crate) enum Wire {
    Stream { socket: Socket, framing: Framing },
    Datagrams(Socket),
}

impl Wire {
    /// Connects to the first address of the server that answers.
    pub(crate) fn open(url: &Url, framing: &Framing) -> io::Result<Self> {
        let stream = |socket: Socket| Self::Stream { socket, framing: framing.clone() };
        match url {
            Url::Tcp(addr) => first_of(addr, tcp_socket).map(stream),
            Url::Udp(addr) => first_of(addr, udp_socket).map(Self::Datagrams),
            Url::Unix(name) => unix_socket(name, Type::STREAM).map(stream),
            Url::UnixGram(name) => unix_socket(name, Type::DGRAM).map(Self::Datagrams),
        }
    }

    pub(crate) fn is_datagrams(&self) -> bool {
        matches!(self, Self::Datagrams(_))
    }

    /// Sends one message.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagrams(socket) => socket.send(message).map(drop),
            Self::Stream { socket, framing } => {
                let mut framed = Vec::new();
                framing
                    .encode(message, &mut framed)
                    .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
                (&*socket).write_all(&framed)
            }
        }
    }

    /// Half-closes: the server hears that nothing follows, and may still answer.
    pub(crate) fn finish_sending(&self) -> io::Result<()> {
        match self {
            Self::Datagrams(_) => Ok(()),
            Self::Stream { socket, .. } => socket.shutdown(Shutdown::Write),
        }
    }

    /// Calls `heard` with each message, until the server closes.
    pub(crate) fn receive(&self, heard: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Datagrams(socket) => receive_datagrams(socket, heard),
            Self::Stream { socket, framing } => receive_frames(socket, framing, heard),
        }
    }
}

/// The first of a name's addresses where that can be had.
fn first_of(addr: &str, open: fn(SocketAddr) -> io::Result<Socket>) -> io::Result<Socket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in addr.to_socket_addrs()? {
        match open(addr) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tcp_socket(server: SocketAddr) -> io::Result<Socket> {
    TcpStream::connect_timeout(&server, CONNECT_TIMEOUT).map(Socket::from)
}

/// Any port of ours. Being connected, it hears of nobody but the server, and of its absence.
fn udp_socket(server: SocketAddr) -> io::Result<Socket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.into())
}

fn unix_socket(name: &str, kind: Type) -> io::Result<Socket> {
    let server = match name.strip_prefix('@') {
        Some(name) => SockAddr::unix(format!("\0{name}"))?,
        None => SockAddr::unix(name)?,
    };
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    if kind == Type::DGRAM {
        // Whoever has no name cannot be answered. Bound to none, it gets an abstract one that is free:
        // no file has to be taken away, however this program ends.
        socket.bind(&SockAddr::unix("")?)?;
    }
    // (A server whose queue is full lets a caller wait, for as long as one may wait to write.)
    socket.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    socket.connect(&server)?;
    socket.set_write_timeout(None)?;
    Ok(socket)
}

fn receive_datagrams(
    mut socket: &Socket,
    mut heard: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let length = socket.read(&mut buffer)?;
        heard(&buffer[..length])?;
    }
}

fn receive_frames(
    mut socket: &Socket,
    framing: &Framing,
    mut heard: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let (mut buffer, mut frames) = (vec![0; 64 * 1024], FrameReader::new(framing));
    while !frames.has_ended() {
        match socket.read(&mut buffer)? {
            0 => frames.end(),
            bytes => frames.feed(&buffer[..bytes]),
        }
        while let Some(frame) = frames.next_frame() {
            heard(frame.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?)?;
        }
    }
    Ok(())
}
