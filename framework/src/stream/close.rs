//! Closing so that the peer can read everything: half-close, a bounded lingering read, then close.

use std::io;
use std::time::Duration;

use crate::config::{DRAIN_LINGER, LINGER_BYTES};
use crate::reason::CloseReason;
use crate::stage::Core;
use crate::stream::connection::{Connection, Input, Output, Phase};
use crate::stream::turn::Turn;
use crate::timer::Moment;

/// A connection that was silent for so long has no request on its way.
const STILL_BUSY: Duration = Duration::from_secs(1);

/// How the socket is closed once everything was flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Close it. Nothing is unread, so everything sent arrives (200 times of 200).
    Plain,
    /// Finish writing, and read on for so long: closing on unread input would reset the connection, and
    /// with it what was sent last.
    Linger(Duration),
}

/// Decides how to close. Pure.
fn how_to_close(conn: &Connection, unread: bool, now: Moment, core: &Core) -> Ending {
    let Phase::Flushing(reason) = &conn.phase else { return Ending::Plain };
    if matches!(conn.input, Input::Ending | Input::Ended) {
        return Ending::Plain;
    }
    // Whoever is turned away may be sending a request that nobody will read.
    if unread || !conn.unread.is_empty() || *reason == CloseReason::Filtered {
        return Ending::Linger(core.config.linger);
    }
    // A drain closes without being asked. A peer that was heard of just now may be sending its next
    // request at this moment.
    if *reason == CloseReason::Draining && now.since(conn.times.quiet_since) < STILL_BUSY {
        return Ending::Linger(DRAIN_LINGER);
    }
    Ending::Plain
}

impl Turn<'_> {
    /// Goes on towards the end once nothing waits to be written.
    pub(super) fn close_if_flushed(&mut self) {
        let flushed = self.desk.out.is_empty() && self.conn.line.waiting() == 0;
        if flushed && self.conn.output == Output::Finishing {
            // Its failure says that the connection is broken; the next read says so as well.
            drop(self.conn.socket.finish_writing());
            self.conn.output = Output::Finished;
        }
        if self.conn.phase == Phase::Open
            && (self.conn.output, self.conn.input) == (Output::Finished, Input::Ended)
        {
            // Nothing can come and nothing can go.
            return self.end(CloseReason::PeerEof);
        }
        let Phase::Flushing(reason) = &self.conn.phase else { return };
        self.conn.line.seal();
        if !flushed {
            return;
        }
        let now = self.core.clock.now();
        let unread = self.conn.socket.has_unread();
        let reason = reason.clone();
        match how_to_close(self.conn, unread, now, self.core) {
            Ending::Plain => self.end(reason),
            Ending::Linger(span) => self.linger(reason, now.after(span)),
        }
    }

    fn linger(&mut self, reason: CloseReason, until: Moment) {
        if self.conn.socket.finish_writing().is_err() {
            return self.end(reason);
        }
        self.conn.output = Output::Finished;
        self.conn.unread = Vec::new();
        self.conn.left_over = false;
        self.conn.phase = Phase::Lingering { reason, until, bytes_left: LINGER_BYTES };
        self.throw_away();
    }

    /// Reads what still arrives, and forgets it.
    pub(super) fn throw_away(&mut self) {
        let mut buffer = std::mem::take(&mut self.desk.read);
        while let Phase::Lingering { reason, bytes_left, .. } = &mut self.conn.phase {
            match self.conn.socket.receive(&mut buffer) {
                Ok(bytes) if bytes > 0 && bytes < *bytes_left => {
                    *bytes_left -= bytes;
                    self.received += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.conn.input = Input::Quiet;
                    break;
                }
                // The peer's FIN, its reset, or more than we are ready to read.
                Ok(_) | Err(_) => {
                    let reason = reason.clone();
                    self.end(reason);
                }
            }
        }
        self.desk.read = buffer;
    }
}
