//! Replies: collected from all turns of a listener, guarded, and sent in batches.

use std::io;
use std::net::IpAddr;

use crate::datagram::guard::{Guard, Print};
use crate::datagram::held::Held;
use crate::datagram::listen::DatagramListener;
use crate::event::Event;
use crate::outbox::{DatagramOutlet, SendError};
use crate::peer::Address;
use crate::stage::Core;
use crate::sys::datagrams::{BATCH, DatagramSocket, Outgoing, SendBatch};

/// Replies that may wait while the socket takes none, and their bytes; beyond, new ones are dropped.
pub(super) const MOST_WAITING: usize = 1024;
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A listener's replies that have not left yet.
pub(crate) struct ReplyQueue {
    waiting: SendBatch,
    guard: Guard,
    /// Unix only: replies whose peers' own queues are full.
    held: Held,
    /// The socket took nothing at the last try: the poller says when it does again.
    blocked: bool,
}

impl ReplyQueue {
    pub(super) fn new() -> Self {
        let (waiting, guard, held) = (SendBatch::default(), Guard::default(), Held::new());
        Self { waiting, guard, held, blocked: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }

    /// Takes a reply, unless the guard withholds it or too many wait. Returns how many bytes were taken.
    fn push(&mut self, reply: &Outgoing<'_>, unsent: &mut Unsent) -> usize {
        let Outgoing { bytes, peer, from } = *reply;
        if !self.guard.may_send(peer, Print::of(bytes)) {
            unsent.0.push((peer.clone(), None));
        } else if self.waiting.len() >= MOST_WAITING
            || self.waiting.bytes() + bytes.len() > MOST_BYTES
        {
            unsent.refused(peer, io::ErrorKind::WouldBlock.into());
        } else {
            self.waiting.push(bytes, peer, from);
            return bytes.len();
        }
        0
    }

    /// Sends what waits, as far as it is taken now. A reply that the system refuses is skipped: the
    /// others leave.
    fn flush(&mut self, socket: &DatagramSocket, core: &Core, unsent: &mut Unsent) {
        if socket.fills_up_by_peer() {
            self.flush_by_peer(socket, core, unsent);
        } else {
            self.flush_in_order(socket, core, unsent);
        }
    }

    fn flush_in_order(&mut self, socket: &DatagramSocket, core: &Core, unsent: &mut Unsent) {
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
                        unsent.refused(waiting[done].peer, error);
                        done += 1;
                    }
                }
            }
        }
        self.waiting.forget(done);
    }

    /// A peer that takes nothing now is passed over: it alone waits.
    fn flush_by_peer(&mut self, socket: &DatagramSocket, core: &Core, unsent: &mut Unsent) {
        let now = core.clock.now();
        let mut sent = if self.held.is_empty() { 0 } else { self.held.send(socket, now, unsent) };
        let until = now.after(Core::span(core.live.write_timeout()));
        for reply in self.waiting.iter() {
            let Outgoing { bytes, peer, .. } = reply;
            let result = match self.held.holds(peer) {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => socket.send(&[reply]).1,
            };
            match result {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.held.keep(peer, bytes, until) {
                        unsent.refused(peer, error);
                    }
                }
                Err(error) => unsent.refused(peer, error),
            }
        }
        self.waiting.clear();
        core.events.counters.datagrams_sent(sent);
    }
}

/// Replies that were not sent: withheld by the guard, or refused with an error. They are told of once
/// the queue's lock is released: a log is the user's code.
#[derive(Debug, Default)]
pub(super) struct Unsent(Vec<(Address, Option<io::Error>)>);

impl Unsent {
    pub(super) fn refused(&mut self, peer: &Address, error: io::Error) {
        self.0.push((peer.clone(), Some(error)));
    }

    fn tell(&self, core: &Core, listener: &Address) {
        for (peer, refused) in &self.0 {
            match refused {
                None => core.events.emit(&Event::ReplyWithheld { peer, listener }),
                Some(error) => core.events.emit(&Event::ReplyFailed { peer, listener, error }),
            }
        }
    }

    /// What became of the datagram that was queued last, for this peer. What others had waiting may have
    /// failed as well.
    fn of_the_last(&self, peer: &Address) -> Result<(), SendError> {
        match self.0.last() {
            Some((to, Some(error))) if to == peer => match error.raw_os_error() {
                Some(errno) if error.kind() != io::ErrorKind::WouldBlock => {
                    Err(SendError::Refused(errno))
                }
                _ => Err(SendError::Full),
            },
            _ => Ok(()),
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
        heard: Option<(&Address, Print)>,
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
        let mut pause = None;
        if let Some(socket) = self.socket() {
            let mut queue = self.replies.lock();
            act(&mut queue, &socket, &mut unsent);
            pause = queue.held.pause();
        }
        if let (Some(pause), Some(post)) = (pause, self.settings.post.upgrade()) {
            post.try_again(self.index, pause);
        }
        unsent.tell(&self.core, &self.address);
        unsent
    }
}

impl DatagramOutlet for DatagramListener {
    /// Sends one datagram now, behind what waits already.
    fn send(&self, bytes: &[u8], peer: &Address, from: Option<IpAddr>) -> Result<(), SendError> {
        let unsent = self.with_replies(|queue, socket, unsent| {
            queue.push(&Outgoing { bytes, peer, from }, unsent);
            queue.flush(socket, &self.core, unsent);
        });
        unsent.of_the_last(peer)
    }

    /// Queues one datagram. It leaves when a batch is together, or at the next flush.
    fn queue(&self, bytes: &[u8], peer: &Address, from: Option<IpAddr>) -> Result<(), SendError> {
        let unsent = self.with_replies(|queue, socket, unsent| {
            queue.push(&Outgoing { bytes, peer, from }, unsent);
            if queue.waiting.len() >= BATCH {
                queue.flush(socket, &self.core, unsent);
            }
        });
        unsent.of_the_last(peer)
    }

    fn flush(&self) {
        self.flush_replies();
    }
}
