//! The way to a server, over TCP or UDP: messages out, messages in.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use switchboard::Framing;
use switchboard::codec::FrameReader;

use crate::common::{Transport, Url};

/// How long each address of a server is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) enum Wire {
    Stream { socket: TcpStream, framing: Framing },
    Datagrams(UdpSocket),
}

impl Wire {
    /// Connects to the first address of the server that answers.
    pub(crate) fn open(url: &Url, framing: &Framing) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for addr in url.addr().to_socket_addrs()? {
            let wire = match url.transport {
                Transport::Tcp => TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)
                    .map(|socket| Self::Stream { socket, framing: framing.clone() }),
                Transport::Udp => datagram_socket(addr).map(Self::Datagrams),
            };
            match wire {
                Ok(wire) => return Ok(wire),
                Err(error) => last = error,
            }
        }
        Err(last)
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

/// Any port of ours. Being connected, it hears of nobody but the server, and of its absence.
fn datagram_socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket)
}

fn receive_datagrams(
    socket: &UdpSocket,
    mut heard: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer)?;
        heard(&buffer[..length])?;
    }
}

fn receive_frames(
    mut socket: &TcpStream,
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
