//! Where the replies of a stream's handler go: collected, written, and waited for when too much waits.

use std::io;
use std::sync::Arc;

use crate::codec::EncodeError;
use crate::config::TURN_BYTES;
use crate::handler::{Blocking, Host, Sink, Step};
use crate::outbox::{Chunk, Line};
use crate::reason::CloseReason;
use crate::stage::Core;
use crate::sys::poll::{Interest, Waited};
use crate::sys::socket::Socket;
use crate::timer::Moment;

/// What a socket's error says of the peer.
pub(super) fn broken(error: &io::Error) -> CloseReason {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut};
    let gone = matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | TimedOut);
    match error.raw_os_error() {
        Some(errno) if !gone => CloseReason::Io(errno),
        _ => CloseReason::PeerReset,
    }
}

/// Where the replies of a stream's handler go: into the desk's buffer, and from there to the socket.
pub(super) struct StreamSink<'a> {
    pub(super) line: &'a Arc<Line>,
    pub(super) socket: &'a Socket,
    pub(super) core: &'a Core,
    pub(super) host: &'a dyn Host,
    pub(super) out: &'a mut Vec<u8>,
    /// We have finished writing: nothing can be sent any more.
    pub(super) finished: bool,
    pub(super) sent: usize,
    pub(super) failure: Option<Step>,
}

impl StreamSink<'_> {
    /// Takes a reply's bytes, behind what others have queued before it.
    fn collect(&mut self, bytes: &[u8]) {
        if self.finished && self.failure.is_none() {
            let text = "a message was sent after HalfClose".to_owned();
            self.failure = Some(Step::Close(CloseReason::HandlerErr(text)));
        }
        if self.failure.is_some() {
            return;
        }
        if self.line.waiting() == 0 {
            self.out.extend_from_slice(bytes);
        } else {
            self.line.append(Chunk::Framed(bytes.to_vec()));
        }
        self.relieve();
    }

    /// Writes early when much is collected, and waits for a peer for whom too much is.
    pub(super) fn relieve(&mut self) {
        let marks = &self.line.settings.marks;
        if self.out.len() < TURN_BYTES && self.line.waiting() <= marks.cap {
            return;
        }
        if self.flush_some().is_ok() && self.line.waiting() > marks.cap {
            drop(self.wait_until_at_most(marks.high));
        }
    }

    /// Writes what the peer takes now.
    pub(super) fn flush_some(&mut self) -> io::Result<usize> {
        match self.line.flush(self.out) {
            Ok(flushed) => {
                self.sent += flushed.sent;
                Ok(flushed.sent)
            }
            Err(error) => {
                self.failure = Some(Step::Abort(broken(&error)));
                Err(error)
            }
        }
    }

    /// Waits until at most so many bytes wait for the peer; it has to take some within every write
    /// timeout.
    pub(super) fn wait_until_at_most(&mut self, bytes: usize) -> io::Result<()> {
        let _blocking = Blocking::begin(self.host);
        let timeout = self.core.config.write_timeout;
        let mut deadline = self.core.clock.now().after(Core::span(timeout));
        while self.line.waiting() > bytes {
            let now = self.core.clock.now();
            let left = (deadline != Moment::NEVER).then(|| deadline.since(now));
            let signal = self.core.signal(self.core.is_draining());
            let left = self.core.patience(left);
            let why = match self.socket.wait(Interest::Write, signal, left)? {
                Waited::Socket if self.flush_some()? > 0 => {
                    deadline = self.core.clock.now().after(Core::span(timeout));
                    continue;
                }
                Waited::Socket if deadline > self.core.clock.now() => continue,
                Waited::Woken | Waited::Timeout if self.core.is_overdue() => CloseReason::Forced,
                Waited::Woken => continue,
                Waited::Socket | Waited::Timeout => CloseReason::SlowWrite,
            };
            self.failure = Some(Step::Abort(why));
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Sink for StreamSink<'_> {
    fn send(&mut self, message: &[u8]) {
        if self.line.waiting() == 0 && !self.finished && self.failure.is_none() {
            // The common case: framed straight into the buffer that will be written.
            match self.line.settings.framing.encode(message, self.out) {
                Ok(()) => self.relieve(),
                Err(why) => self.refuse(&why),
            }
            return;
        }
        let mut framed = Vec::with_capacity(message.len() + 8);
        match self.line.settings.framing.encode(message, &mut framed) {
            Ok(()) => self.collect(&framed),
            Err(why) => self.refuse(&why),
        }
    }

    fn send_raw(&mut self, bytes: &[u8]) {
        self.collect(bytes);
    }

    fn send_shared(&mut self, message: &Arc<[u8]>) {
        self.send(message);
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.flush_some().map(|_| ())
    }

    fn peer_gone(&self) -> bool {
        self.socket.is_gone()
    }
}

impl StreamSink<'_> {
    fn refuse(&mut self, why: &EncodeError) {
        let text = why.to_string();
        self.failure.get_or_insert(Step::Close(CloseReason::HandlerErr(text)));
    }
}
