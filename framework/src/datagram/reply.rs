//! Replies: collected from all turns of a listener, guarded, and sent in batches.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::datagram::guard::{Guard, Print};
use crate::datagram::listen::DatagramListener;
use crate::event::Event;
use crate::outbox::{DatagramOutlet, SendError};
use crate::peer::Address;
use crate::stage::Core;
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

    /// Takes a reply, unless the guard withholds it or too many wait. Returns how many bytes were taken.
    fn push(&mut self, reply: &Outgoing<'_>, unsent: &mut Unsent) -> usize {
        let Outgoing { bytes, peer, from } = *reply;
        if !self.guard.may_send(peer, Print::of(bytes)) {
            unsent.0.push((peer, None));
        } else if self.waiting.len() >= MOST_WAITING
            || self.waiting.bytes() + bytes.len() > MOST_BYTES
        {
            unsent.0.push((peer, Some(io::ErrorKind::WouldBlock.into())));
        } else {
            self.waiting.push(bytes, peer, from);
            return bytes.len();
        }
        0
    }

    /// Sends what waits, if the socket takes any. A reply that the system refuses is skipped: the others
    /// leave.
    fn flush(&mut self, socket: &DatagramSocket, core: &Core, unsent: &mut Unsent) {
        if self.blocked || self.waiting.is_empty() {
            return;
        }
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
                        unsent.0.push((waiting[done].peer, Some(error)));
                        done += 1;
                    }
                }
            }
        }
        self.waiting.forget(done);
    }
}

/// Replies that were not sent: withheld by the guard, or refused with an error. They are told of once
/// the queue's lock is released: a log is the user's code.
#[derive(Debug, Default)]
struct Unsent(Vec<(SocketAddr, Option<io::Error>)>);

impl Unsent {
    fn tell(&self, core: &Core, listener: &Address) {
        for (peer, refused) in &self.0 {
            let peer = &Address::Udp(*peer);
            match refused {
                None => core.events.emit(&Event::ReplyWithheld { peer, listener }),
                Some(error) => core.events.emit(&Event::ReplyFailed { peer, listener, error }),
            }
        }
    }
}

impl DatagramListener {
    /// Takes over what a turn has collected, in answer to a datagram with this print. It leaves with
    /// the replies of other turns: at the end of the batch, or when a batch is together. Returns how many
    /// bytes were let out.
    pub(super) fn commit(
        &self,
        collected: &mut SendBatch,
        heard: Option<(SocketAddr, Print)>,
    ) -> usize {
        if collected.is_empty() && heard.is_none() {
            return 0;
        }
        let mut taken = 0;
        self.with_replies(|queue, socket, unsent| {
            if let Some((peer, print)) = heard {
                queue.guard.heard(peer, print);
            }
            for reply in collected.iter() {
                taken += queue.push(&reply, unsent);
                if queue.waiting.len() >= BATCH {
                    queue.flush(socket, &self.core, unsent);
                }
            }
        });
        collected.clear();
        taken
    }

    /// Sends what waits.
    pub(crate) fn flush_replies(&self) {
        self.with_replies(|queue, socket, unsent| queue.flush(socket, &self.core, unsent));
    }

    /// The poller says that the socket takes datagrams again.
    pub(crate) fn unblocked(&self) {
        self.with_replies(|queue, socket, unsent| {
            queue.blocked = false;
            queue.flush(socket, &self.core, unsent);
        });
    }

    /// Acts on the queue. What was not sent is told of once its lock is released.
    fn with_replies(
        &self,
        act: impl FnOnce(&mut ReplyQueue, &DatagramSocket, &mut Unsent),
    ) -> Unsent {
        let mut unsent = Unsent::default();
        if let Some(socket) = self.socket() {
            act(&mut self.replies.lock(), &socket, &mut unsent);
        }
        unsent.tell(&self.core, &self.address);
        unsent
    }
}

impl DatagramOutlet for DatagramListener {
    /// Sends one datagram now, behind what waits already.
    fn send(&self, bytes: &[u8], peer: SocketAddr, from: Option<IpAddr>) -> Result<(), SendError> {
        let unsent = self.with_replies(|queue, socket, unsent| {
            queue.push(&Outgoing { bytes, peer, from }, unsent);
            queue.flush(socket, &self.core, unsent);
        });
        // What others had waiting may have failed as well: only the last one is ours.
        match unsent.0.last() {
            Some((to, Some(error))) if *to == peer => match error.raw_os_error() {
                Some(errno) => Err(SendError::Refused(errno)),
                None => Err(SendError::Full),
            },
            _ => Ok(()),
        }
    }
}
