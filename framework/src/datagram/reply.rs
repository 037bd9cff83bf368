//! Replies: collected from all turns of a listener, guarded, and sent in batches.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::core::Core;
use crate::datagram::guard::{Guard, Print};
use crate::datagram::listen::DatagramListener;
use crate::event::Event;
use crate::outbox::{DatagramOutlet, SendError};
use crate::sys::datagrams::{BATCH, DatagramSocket, Outgoing, SendBatch};

/// Replies that may wait while the socket takes none, and their bytes; beyond, new ones are dropped.
const MOST_WAITING: usize = 1024;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A listener's replies that have not left yet.
pub(crate) struct ReplyQueue {
    waiting: SendBatch,
    guard: Guard,
    /// The socket took nothing at the last try: the poller says when it does again.
    blocked: bool,
}

impl ReplyQueue {
    pub(super) fn new() -> Self {
        Self { waiting: SendBatch::default(), guard: Guard::default(), blocked: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a reply, unless the guard withholds it or too many wait.
    fn push(&mut self, reply: &Outgoing<'_>, core: &Core) -> Result<(), SendError> {
        let Outgoing { bytes, peer, from } = *reply;
        if !self.guard.may_send(peer, Print::of(bytes)) {
            core.events.emit(&Event::ReplyWithheld { peer });
            return Ok(());
        }
        if self.waiting.len() >= MOST_WAITING || self.waiting.bytes() + bytes.len() > MOST_BYTES {
            let error = io::Error::from(io::ErrorKind::WouldBlock);
            core.events.emit(&Event::ReplyFailed { peer, error: &error });
            return Err(SendError::Full);
        }
        self.waiting.push(bytes, peer, from);
        Ok(())
    }

    /// Sends what waits. A reply that the system refuses is counted and skipped: the others leave.
    fn flush(&mut self, socket: &DatagramSocket, core: &Core) -> Option<io::Error> {
        let mut refused = None;
        let mut done = 0;
        {
            let waiting: Vec<Outgoing<'_>> = self.waiting.iter().collect();
            while done < waiting.len() {
                let (sent, result) = socket.send(&waiting[done..]);
                core.events.counters.datagrams_sent(sent);
                done += sent;
                match result {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.blocked = true;
                        break;
                    }
                    Err(error) => {
                        let peer = waiting[done].peer;
                        core.events.emit(&Event::ReplyFailed { peer, error: &error });
                        refused = Some(error);
                        done += 1;
                    }
                }
            }
        }
        self.waiting.forget(done);
        refused
    }
}

impl DatagramListener {
    /// Takes over what a turn has collected, in answer to a datagram with this print. It leaves with
    /// the replies of other turns: at the end of the batch, or when a batch is together.
    pub(super) fn commit(&self, collected: &mut SendBatch, heard: Option<(SocketAddr, Print)>) {
        if collected.is_empty() && heard.is_none() {
            return;
        }
        let mut queue = self.replies.lock();
        if let Some((peer, print)) = heard {
            queue.guard.heard(peer, print);
        }
        for reply in collected.iter() {
            // What was not taken has been counted.
            let _ = queue.push(&reply, &self.core);
        }
        collected.clear();
        if queue.waiting.len() >= BATCH && !queue.blocked {
            self.flush(&mut queue);
        }
    }

    fn flush(&self, queue: &mut ReplyQueue) -> Option<io::Error> {
        queue.flush(&*self.socket()?, &self.core)
    }

    /// Sends what waits.
    pub(crate) fn flush_replies(&self) {
        let mut queue = self.replies.lock();
        if !queue.waiting.is_empty() && !queue.blocked {
            self.flush(&mut queue);
        }
    }

    /// The poller says that the socket takes datagrams again.
    pub(crate) fn unblocked(&self) {
        let mut queue = self.replies.lock();
        if std::mem::take(&mut queue.blocked) {
            self.flush(&mut queue);
        }
    }
}

impl DatagramOutlet for DatagramListener {
    /// Sends one datagram now, behind what waits already.
    fn send(&self, bytes: &[u8], peer: SocketAddr, from: Option<IpAddr>) -> Result<(), SendError> {
        let mut queue = self.replies.lock();
        let behind = queue.waiting.len();
        queue.push(&Outgoing { bytes, peer, from }, &self.core)?;
        if queue.blocked {
            return Ok(());
        }
        let refused = self.flush(&mut queue);
        match refused.filter(|_| behind == 0).and_then(|error| error.raw_os_error()) {
            Some(errno) => Err(SendError::Refused(errno)),
            None => Ok(()),
        }
    }
}
