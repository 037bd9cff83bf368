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

/// Decides how to close, knowing whether input is unread, and whether anything was sent.
fn how_to_close(conn: &Connection, unread: bool, has_sent: bool, core: &Core) -> Ending {
    let Phase::Flushing(reason) = &conn.phase else { return Ending::Plain };
    if matches!(conn.input, Input::Ending | Input::Ended) {
        return Ending::Plain;
    }
    if *reason == CloseReason::Filtered {
        // Whoever is turned away may be sending a request that nobody will read. It is to read the text
        // that it was sent; without a text there is nothing to be lost.
        return if has_sent { Ending::Linger(core.config.linger) } else { Ending::Plain };
    }
    if unread || !conn.unread.is_empty() {
        return Ending::Linger(core.config.linger);
    }
    // A drain closes without being asked. A peer that was heard of just now may be sending its next
    // request at this moment.
    let now = core.clock.now();
    if *reason == CloseReason::Draining && now.since(conn.times.quiet_since) < STILL_BUSY {
        return Ending::Linger(DRAIN_LINGER);
    }
    Ending::Plain
}

impl Turn<'_> {
    /// More was to wait for the peer than may. What still waits, a last word perhaps, leaves if the peer
    /// takes all of it now; it is not waited for.
    pub(super) fn overflow(&mut self) {
        let in_time = matches!(self.conn.phase, Phase::Open | Phase::Flushing(_));
        if in_time {
            self.flush();
        }
        if in_time && self.conn.line.waiting() == 0 && !matches!(self.conn.phase, Phase::Ended(_)) {
            self.conn.phase = Phase::Flushing(CloseReason::Overflow);
            return self.close_if_flushed();
        }
        self.end(CloseReason::Overflow);
    }

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
        let unread = self.conn.socket.has_unread();
        let has_sent = self.conn.line.sent() > 0;
        let reason = reason.clone();
        match how_to_close(self.conn, unread, has_sent, self.core) {
            Ending::Plain => self.end(reason),
            Ending::Linger(span) => self.linger(reason, self.core.clock.now().after(span)),
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
                last => {
                    let reason = reason.clone();
                    self.received += last.unwrap_or(0);
                    self.end(reason);
                }
            }
        }
        self.desk.read = buffer;
    }
}
