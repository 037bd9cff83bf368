//! The turn of a `StreamHandler`: its reads and writes wait on its own socket, under our deadlines.

use std::io;

use crate::config::TURN_BYTES;
use crate::handler::{
    Blocking, Duplex, Next, Sink, Step, Stream, StreamHandler, isolated, outcome,
};
use crate::reason::CloseReason;
use crate::stage::Core;
use crate::stream::connection::{Connection, Input, Output, Service};
use crate::stream::sink::{StreamSink, broken};
use crate::stream::turn::Turn;
use crate::sys::poll::{Interest, Waited};

/// Bytes read ahead for a conversation.
const READ_AHEAD: usize = 16 * 1024;

impl Turn<'_> {
    pub(super) fn set_up_conversation(&mut self) {
        self.talk(CloseReason::Done, |handler, stream| handler.setup(stream));
        if let Service::Bytes(actor) = &mut self.conn.service
            && !matches!(self.conn.phase, crate::stream::connection::Phase::Ended(_))
        {
            actor.is_set_up();
        }
    }

    /// Calls the handler for as long as bytes are there; waits for none here.
    pub(super) fn converse(&mut self) {
        for _ in 0..crate::config::TURN_MESSAGES {
            if !self.has_bytes() {
                return;
            }
            self.conn.left_over = false;
            self.talk(CloseReason::Done, |handler, stream| handler.handle(stream));
            self.conn.left_over = !self.conn.unread.is_empty();
        }
        let open = self.conn.phase == crate::stream::connection::Phase::Open;
        if open && !self.conn.left_over {
            self.has_ended();
        }
    }

    /// Closes a conversation whose peer has finished sending, be it that its handler has read up to
    /// there or that nobody has.
    fn has_ended(&mut self) -> bool {
        let ended = matches!(self.conn.input, Input::Ending | Input::Ended);
        if ended {
            self.conn.input = Input::Ended;
            self.step(Step::Close(CloseReason::PeerEof));
        }
        ended
    }

    /// Whether the conversation is open, not paused, and something can be read without waiting. The
    /// end of the input closes it: a handler that reads beyond it sees it, one that is parked need not.
    fn has_bytes(&mut self) -> bool {
        let open = self.conn.phase == crate::stream::connection::Phase::Open;
        if !open || self.conn.times.paused_until.is_some() {
            return false;
        }
        if !self.conn.unread.is_empty() {
            return true;
        }
        if self.has_ended() {
            return false;
        }
        if !matches!(self.conn.input, Input::Ready | Input::ReadyToEnd) {
            return false;
        }
        match read_ahead(self.conn) {
            Ok(bytes) => self.received += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.conn.input = Input::Quiet;
                return false;
            }
            Err(error) => {
                self.end(broken(&error));
                return false;
            }
        }
        // Nothing was read: it has just ended.
        !self.conn.unread.is_empty() || self.has_bytes()
    }

    fn talk(
        &mut self,
        close: CloseReason,
        callback: impl FnOnce(&mut dyn StreamHandler, &mut Stream<'_>) -> io::Result<Next>,
    ) {
        let Self { conn, desk, core, host, .. } = self;
        // Taken out for the call: the conversation needs the rest of the connection meanwhile.
        let over = Service::Bytes(crate::handler::Actor::Over);
        let Service::Bytes(mut actor) = std::mem::replace(&mut conn.service, over) else { return };
        let line = conn.line.clone();
        let mut talk = Conversation {
            core,
            host: *host,
            out: &mut desk.out,
            conn,
            consumed: 0,
            standing: Standing::Asked,
            received: 0,
            sent: 0,
            failure: None,
        };
        let returned = match actor.handler() {
            Some(handler) => {
                let mut stream = Stream::new(&mut talk, &line);
                isolated(|| callback(handler, &mut stream))
            }
            None => Ok(Next::Continue),
        };
        let Conversation { consumed, received, sent, failure, standing, .. } = talk;
        conn.unread.drain(..consumed);
        if conn.unread.is_empty() {
            conn.unread = Vec::new();
        }
        conn.service = Service::Bytes(actor);
        self.received += received;
        self.sent += sent;
        let close = if standing == Standing::Told { CloseReason::Draining } else { close };
        self.step(outcome(failure, returned, close));
    }
}

/// Where a conversation stands, as far as a drain is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing was read in this call yet, or something was written since: between two exchanges.
    Asked,
    /// Something was read and not answered.
    Reading,
    /// It was told of the drain by a read that ended.
    Told,
}

/// The two directions of a connection while its handler runs.
struct Conversation<'a> {
    conn: &'a mut Connection,
    core: &'a Core,
    host: &'a dyn crate::handler::Host,
    out: &'a mut Vec<u8>,
    /// How much of `unread` the handler has taken.
    consumed: usize,
    standing: Standing,
    received: usize,
    sent: usize,
    failure: Option<Step>,
}

impl Conversation<'_> {
    /// Lends the connection's way out, and takes note of what it did.
    fn with_sink<T>(&mut self, act: impl FnOnce(&mut StreamSink<'_>) -> T) -> T {
        let mut sink = StreamSink {
            line: &self.conn.line,
            socket: &self.conn.socket,
            core: self.core,
            host: self.host,
            out: self.out,
            finished: self.conn.output != Output::Open,
            sent: 0,
            failure: self.failure.take(),
        };
        let result = act(&mut sink);
        self.sent += sink.sent;
        self.failure = sink.failure;
        result
    }

    /// Waits until something can be read, or the conversation is to end: `false`.
    fn wait_to_read(&mut self) -> io::Result<bool> {
        let between = self.standing != Standing::Reading;
        let draining = self.core.is_draining();
        if between && draining {
            self.standing = Standing::Told;
            return Ok(false);
        }
        let timeout = self.core.patience(self.core.config.idle_timeout);
        let _blocking = Blocking::begin(self.host);
        let signal = self.core.signal(draining);
        match self.conn.socket.wait(Interest::Read, signal, timeout)? {
            Waited::Woken | Waited::Timeout if self.core.is_overdue() => {
                self.failure = Some(Step::Abort(CloseReason::Forced));
                Err(io::ErrorKind::TimedOut.into())
            }
            Waited::Timeout => {
                self.failure = Some(Step::Close(CloseReason::IdleTimeout));
                Err(io::ErrorKind::TimedOut.into())
            }
            Waited::Socket | Waited::Woken => Ok(true),
        }
    }
}

impl Duplex for Conversation<'_> {
    fn fill(&mut self) -> io::Result<&[u8]> {
        while self.consumed == self.conn.unread.len() {
            if matches!(self.conn.input, Input::Ending | Input::Ended) {
                self.conn.input = Input::Ended;
                return Ok(&[]);
            }
            self.conn.unread.clear();
            self.consumed = 0;
            match read_ahead(self.conn) {
                Ok(bytes) => self.received += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A question leaves before its answer is awaited.
                    self.flush()?;
                    if !self.wait_to_read()? {
                        return Ok(&[]);
                    }
                }
                Err(error) => {
                    self.failure = Some(Step::Abort(broken(&error)));
                    return Err(error);
                }
            }
        }
        Ok(&self.conn.unread[self.consumed..])
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed = (self.consumed + bytes).min(self.conn.unread.len());
        if bytes > 0 {
            self.standing = Standing::Reading;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.standing == Standing::Reading {
            self.standing = Standing::Asked;
        }
        // In pieces, so that a long write does not stand in memory twice.
        for piece in bytes.chunks(TURN_BYTES) {
            self.with_sink(|sink| {
                sink.send_raw(piece);
                let high = sink.line.settings.marks.high;
                match &sink.failure {
                    None if sink.line.waiting() > high => sink.wait_until_at_most(high),
                    None => Ok(()),
                    Some(_) => Err(io::ErrorKind::BrokenPipe.into()),
                }
            })?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with_sink(|sink| {
            Sink::flush(sink)?;
            if sink.line.waiting() > 0 { sink.wait_until_at_most(0) } else { Ok(()) }
        })
    }

    fn is_draining(&self) -> bool {
        self.core.is_draining()
    }

    fn peer_gone(&self) -> bool {
        self.conn.socket.is_gone()
    }
}

/// Reads once into the empty `unread`, and notes what that says of the input.
fn read_ahead(conn: &mut Connection) -> io::Result<usize> {
    conn.unread.resize(READ_AHEAD, 0);
    let received = conn.socket.receive(&mut conn.unread);
    conn.unread.truncate(*received.as_ref().unwrap_or(&0));
    match received {
        Ok(0) => conn.input = Input::Ending,
        Ok(bytes) if bytes < READ_AHEAD && conn.input == Input::Ready => conn.input = Input::Quiet,
        _ => {}
    }
    received
}
