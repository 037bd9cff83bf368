//! A stream in memory: what the system does between our socket and its peer, done by a test.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::sys::poll::{Event, Interest, Waited};

/// What goes on while a handler waits for its peer: a test cannot wait, so that it says.
pub(crate) trait Meanwhile: Send + Sync {
    /// Lets the peer with this number do something, or lets time pass, and says what ended the wait.
    fn pass(&self, peer: usize, interest: Interest, timeout: Option<Duration>) -> Waited;
}

/// What has happened to streams in memory and was not fetched yet: one entry for each of them.
#[derive(Debug, Default)]
pub(crate) struct Announced(Mutex<VecDeque<Event>>);

impl Announced {
    pub(super) fn add(&self, event: Event) {
        let mut waiting = self.0.lock();
        match waiting.iter_mut().find(|before| before.token == event.token) {
            Some(before) => {
                before.readable |= event.readable;
                before.writable |= event.writable;
                before.hung_up |= event.hung_up;
            }
            None => waiting.push_back(event),
        }
    }

    /// Hands over what is announced, in the order in which it came up.
    pub(super) fn fetch(&self, into: &mut Vec<Event>) {
        into.extend(self.0.lock().drain(..));
    }
}

/// Both directions of a stream, and who has ended what.
pub(crate) struct Pipe {
    /// The number of the peer, for whoever plays it.
    peer: usize,
    meanwhile: Weak<dyn Meanwhile>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the peer has sent and the server has not received.
    arrived: VecDeque<u8>,
    peer: PeerSide,
    /// What the server has sent.
    left: Vec<u8>,
    /// How many bytes the server can send before the peer reads on.
    room: usize,
    server: ServerSide,
    /// The server's close is to be a reset.
    reset_on_close: bool,
    /// Whom to tell of what happens, under which token.
    announced: Option<(Arc<Announced>, u64)>,
}

/// What the peer still does, less and less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PeerSide {
    Open,
    /// It has sent FIN, and still receives.
    Finished,
    /// It has closed: what is sent to it draws a reset.
    Closed,
    /// It has reset the connection.
    Reset,
}

/// What the server still does, less and less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerSide {
    Open,
    /// It has sent FIN, and still receives.
    Finished,
    /// It has closed, in order.
    Closed,
    /// It has closed with a reset: on purpose, or on bytes that it had not read.
    Reset,
}

/// As much as is sent is taken.
const NO_BOUND: usize = usize::MAX;

impl Pipe {
    /// A stream, and the server's end of it.
    pub(crate) fn open(peer: usize, meanwhile: Weak<dyn Meanwhile>) -> (Arc<Self>, MemorySocket) {
        let state = State {
            arrived: VecDeque::new(),
            peer: PeerSide::Open,
            left: Vec::new(),
            room: NO_BOUND,
            server: ServerSide::Open,
            reset_on_close: false,
            announced: None,
        };
        let pipe = Arc::new(Self { peer, meanwhile, state: Mutex::new(state) });
        (pipe.clone(), MemorySocket(pipe))
    }

    /// Changes something, and announces what the server can do now.
    fn change(&self, act: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        act(&mut state);
        state.announce();
    }

    /// Bytes of the peer arrive, unless it can send none any more. Returns whether they did.
    pub(crate) fn arrive(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock();
        let open = state.peer == PeerSide::Open && state.server <= ServerSide::Finished;
        if open {
            state.arrived.extend(bytes);
            state.announce();
        }
        open
    }

    /// The peer sends FIN.
    pub(crate) fn finish(&self) {
        self.change(|state| state.peer = state.peer.max(PeerSide::Finished));
    }

    /// The peer closes, and receives no more.
    pub(crate) fn close(&self) {
        self.change(|state| state.peer = state.peer.max(PeerSide::Closed));
    }

    /// The peer resets the connection.
    pub(crate) fn reset(&self) {
        self.change(|state| state.peer = PeerSide::Reset);
    }

    /// The peer takes so many bytes, and then none.
    pub(crate) fn read_only(&self, bytes: usize) {
        self.change(|state| state.room = bytes);
    }

    /// The peer takes whatever is sent.
    pub(crate) fn read_on(&self) {
        self.change(|state| state.room = NO_BOUND);
    }

    /// What the server has sent since this was last asked.
    pub(crate) fn received(&self) -> Vec<u8> {
        std::mem::take(&mut self.state.lock().left)
    }

    /// Whether the server would not have to wait.
    pub(crate) fn is_ready(&self, interest: Interest) -> bool {
        let state = self.state.lock();
        match interest {
            Interest::Read => !state.arrived.is_empty() || state.peer > PeerSide::Open,
            Interest::Write => state.room > 0 || state.peer > PeerSide::Finished,
        }
    }

    /// What the server still does.
    pub(crate) fn server(&self) -> ServerSide {
        self.state.lock().server
    }

    /// Whether the peer may still send, and reads what it is sent: it would see the server's end.
    pub(crate) fn sees_the_end(&self) -> bool {
        let state = self.state.lock();
        state.peer < PeerSide::Closed && state.room == NO_BOUND
    }
}

impl State {
    fn is_reset(&self) -> bool {
        self.peer == PeerSide::Reset
    }

    fn announce(&self) {
        let Some((announced, token)) = &self.announced else { return };
        let hung_up = self.peer > PeerSide::Open;
        announced.add(Event {
            token: *token,
            readable: hung_up || !self.arrived.is_empty(),
            writable: self.room > 0 || self.is_reset(),
            hung_up,
        });
    }
}

/// The server's end of a stream in memory. Dropping it closes the stream, as with a descriptor.
pub(crate) struct MemorySocket(Arc<Pipe>);

impl MemorySocket {
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.arrived.is_empty() {
            return match state.peer {
                PeerSide::Open => Err(io::ErrorKind::WouldBlock.into()),
                PeerSide::Finished | PeerSide::Closed => Ok(0),
                PeerSide::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            };
        }
        let mut read = 0;
        // (The bytes lie in two runs at most.)
        while read < buffer.len() && !state.arrived.is_empty() {
            read += state.arrived.read(&mut buffer[read..])?;
        }
        Ok(read)
    }

    pub(super) fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.is_reset() || state.server > ServerSide::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.peer == PeerSide::Closed {
            // As on a network: these bytes still leave, and their answer is a reset.
            state.peer = PeerSide::Reset;
            state.announce();
            return Ok(pieces.iter().map(|piece| piece.len()).sum());
        }
        let mut sent = 0;
        for piece in pieces {
            let part = piece.len().min(state.room);
            state.left.extend_from_slice(&piece[..part]);
            state.room -= if state.room == NO_BOUND { 0 } else { part };
            sent += part;
        }
        let offered = pieces.iter().any(|piece| !piece.is_empty());
        if sent == 0 && offered { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
    }

    pub(super) fn finish_writing(&self) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if state.is_reset() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if state.server == ServerSide::Open {
            state.server = ServerSide::Finished;
            state.announce();
        }
        Ok(())
    }

    pub(super) fn reset_on_close(&self) {
        self.0.state.lock().reset_on_close = true;
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.0.state.lock().arrived.is_empty()
    }

    pub(super) fn is_gone(&self) -> bool {
        let state = self.0.state.lock();
        state.is_reset() || state.peer > PeerSide::Open && state.server > ServerSide::Open
    }

    /// Tells of everything that happens from now on, and of what can be done already.
    pub(super) fn announce_to(&self, announced: &Arc<Announced>, token: u64) {
        self.0.change(|state| state.announced = Some((announced.clone(), token)));
    }

    pub(super) fn wait(&self, interest: Interest, timeout: Option<Duration>) -> Waited {
        if self.0.is_ready(interest) {
            return Waited::Socket;
        }
        match self.0.meanwhile.upgrade() {
            // Whoever only looks, and does not wait, changes nothing.
            Some(meanwhile) if timeout != Some(Duration::ZERO) => {
                meanwhile.pass(self.0.peer, interest, timeout)
            }
            _ => Waited::Timeout,
        }
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        let reset = state.reset_on_close || !state.arrived.is_empty();
        state.server = if reset { ServerSide::Reset } else { ServerSide::Closed };
        state.announced = None;
    }
}

impl std::fmt::Debug for MemorySocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemorySocket").field(&self.0.peer).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Meanwhile for Nothing {
        fn pass(&self, _peer: usize, _interest: Interest, _timeout: Option<Duration>) -> Waited {
            Waited::Timeout
        }
    }

    fn pipe() -> (Arc<Pipe>, MemorySocket) {
        let nowhere: Weak<Nothing> = Weak::new();
        Pipe::open(0, nowhere)
    }

    fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.expect_err("refused").kind()
    }

    #[test]
    fn bytes_arrive_in_order_and_then_the_end() {
        let (peer, socket) = pipe();
        let mut buffer = [0; 4];
        assert_eq!(kind(socket.receive(&mut buffer)), io::ErrorKind::WouldBlock);
        assert!(peer.arrive(b"hello"));
        peer.finish();
        assert!(!peer.arrive(b"more"), "behind FIN there is nothing");
        assert_eq!(socket.receive(&mut buffer).expect("bytes"), 4);
        assert_eq!(socket.receive(&mut buffer).expect("bytes"), 1);
        assert_eq!(socket.receive(&mut buffer).expect("the end"), 0);
    }

    #[test]
    fn what_arrived_before_a_reset_is_received_before_it() {
        let (peer, socket) = pipe();
        let mut buffer = [0; 4];
        peer.arrive(b"last");
        peer.reset();
        assert_eq!(socket.receive(&mut buffer).expect("bytes"), 4);
        assert_eq!(kind(socket.receive(&mut buffer)), io::ErrorKind::ConnectionReset);
        assert!(socket.is_gone());
    }

    #[test]
    fn a_peer_that_does_not_read_takes_as_much_as_there_is_room() {
        let (peer, socket) = pipe();
        peer.read_only(3);
        let sent = socket.send(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]);
        assert_eq!(sent.expect("a part"), 3);
        assert_eq!(kind(socket.send(&[IoSlice::new(b"d")])), io::ErrorKind::WouldBlock);
        peer.read_on();
        assert_eq!(socket.send(&[IoSlice::new(b"d")]).expect("all"), 1);
        assert_eq!(peer.received(), b"abcd");
    }

    #[test]
    fn closing_on_unread_bytes_is_a_reset() {
        let (peer, socket) = pipe();
        peer.arrive(b"x");
        drop(socket);
        assert_eq!(peer.server(), ServerSide::Reset);
        let (peer, socket) = pipe();
        drop(socket);
        assert_eq!(peer.server(), ServerSide::Closed);
    }
}
