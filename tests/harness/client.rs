//! A peer of the server: it speaks lines over a stream and datagrams otherwise, and waits with a deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use switchboard::Address;

use super::PATIENCE;

/// The other end of a server under test.
#[derive(Debug)]
pub(crate) enum Client {
    Tcp(Wire),
    Udp(UdpSocket),
}

impl Client {
    pub(crate) fn of(address: &Address) -> Self {
        match address {
            Address::Tcp(addr) => Self::tcp(*addr),
            Address::Udp(addr) => Self::udp(*addr),
            other => panic!("no client for {other}"),
        }
    }

    pub(crate) fn tcp(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("a connection");
        Self::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        stream.set_write_timeout(Some(PATIENCE)).expect("a deadline");
        stream.set_nodelay(true).expect("no delay");
        Self::Tcp(Wire { stream, unread: Vec::new() })
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

    pub(crate) fn local(&self) -> SocketAddr {
        match self {
            Self::Tcp(wire) => wire.stream.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
        .expect("an address")
    }

    /// Sends one message: a line, or a datagram.
    #[track_caller]
    pub(crate) fn say(&mut self, message: &str) {
        match self {
            Self::Tcp(_) => self.send_bytes(format!("{message}\n").as_bytes()),
            Self::Udp(_) => self.send_bytes(message.as_bytes()),
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes it");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(wire) => wire.stream.write_all(bytes),
            Self::Udp(socket) => socket.send(bytes).map(|_| ()),
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
            Self::Tcp(wire) => wire.line(),
            Self::Udp(socket) => {
                let mut buffer = vec![0; 65_536];
                let length = socket.recv(&mut buffer)?;
                buffer.truncate(length);
                Ok(buffer)
            }
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

    /// Nothing more can be exchanged: the end of the stream, or a reset.
    pub(crate) fn is_cut_off(&mut self) -> bool {
        match self.rest() {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Sends FIN, and can still receive.
    pub(crate) fn finish_sending(&mut self) {
        self.wire().stream.shutdown(Shutdown::Write).expect("a connection");
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        let Self::Tcp(wire) = self else { panic!("only a stream can be reset") };
        let socket = socket2::SockRef::from(&wire.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a connection");
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Tcp(wire) => wire,
            Self::Udp(_) => panic!("datagrams are no stream"),
        }
    }
}

/// A stream and what was read of it beyond the last message.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        let bytes = self.stream.read(&mut buffer)?;
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
