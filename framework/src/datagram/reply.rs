//! Replies: collected from all turns of a listener, guarded, and sent in batches.

use std::io;
use std::net::IpAddr;

use crate::datagram::guard::{Guard, Print};
use crate::datagram::held::{Held, Send};
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

    /// Takes a reply, unless the guard withholds it or too many wait.
    fn push(&mut self, reply: &Outgoing<'_>, unsent: &mut Unsent) -> Result<(), SendError> {
        let Outgoing { bytes, peer, from } = *reply;
        if !self.guard.may_send(peer, Print::of(bytes)) {
            unsent.withheld(peer);
            return Err(SendError::Withheld);
        }
        let bytes_then = self.waiting.bytes() + bytes.len();
        if self.waiting.len() >= MOST_WAITING || bytes_then > MOST_BYTES {
            unsent.refused(peer, io::ErrorKind::WouldBlock.into());
            return Err(SendError::Full);
        }
        self.waiting.push(bytes, peer, from);
        Ok(())
    }

    /// Sends what waits, as far as it is taken now. A reply that the system refuses is skipped: the
    /// others leave. Returns what became of the last one.
    fn flush(
        &mut self,
        socket: &DatagramSocket,
        core: &Core,
        unsent: &mut Unsent,
    ) -> Result<(), SendError> {
        if socket.fills_up_by_peer() {
            self.flush_by_peer(socket, core, unsent)
        } else {
            self.flush_in_order(socket, core, unsent)
        }
    }

    fn flush_in_order(
        &mut self,
        socket: &DatagramSocket,
        core: &Core,
        unsent: &mut Unsent,
    ) -> Result<(), SendError> {
        if self.blocked || self.waiting.is_empty() {
            return Ok(());
        }
        let (mut done, mut last) = (0, Ok(()));
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
                        if done + 1 == waiting.len() {
                            last = Err(why(&error));
                        }
                        unsent.refused(waiting[done].peer, error);
                        done += 1;
                    }
                }
            }
        }
        self.waiting.forget(done);
        last
    }

    /// A peer that takes nothing now is passed over: it alone waits.
    fn flush_by_peer(
        &mut self,
        socket: &DatagramSocket,
        core: &Core,
        unsent: &mut Unsent,
    ) -> Result<(), SendError> {
        if self.is_empty() {
            return Ok(());
        }
        let now = core.clock.now();
        let until = now.after(Core::span(core.live.write_timeout()));
        let mut send = |reply: &Outgoing<'_>| socket.send(&[*reply]).1;
        let mut by = Send { send: &mut send, unsent };
        let mut sent = self.held.send_due(now, &mut by);
        let mut last = Ok(());
        for reply in self.waiting.iter() {
            let peer = reply.peer;
            sent += self.held.send_to(peer, now, &mut by);
            let result = match self.held.holds(peer) {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => (by.send)(&reply),
            };
            last = Ok(());
            match result {
                Ok(()) => sent += 1,
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && self.held.keep(&reply, now, until) => {}
                Err(error) => {
                    last = Err(why(&error));
                    by.unsent.refused(peer, error);
                }
            }
        }
        self.waiting.clear();
        core.events.counters.datagrams_sent(sent);
        last
    }
}

/// Why a datagram was not taken.
fn why(error: &io::Error) -> SendError {
    match error.raw_os_error() {
        Some(errno) if error.kind() != io::ErrorKind::WouldBlock => SendError::Refused(errno),
        _ => SendError::Full,
    }
}

/// Replies that were not sent: withheld by the guard, or refused with an error. They are told of once
/// the queue's lock is released: a log is the user's code.
#[derive(Debug, Default)]
pub(super) struct Unsent(Vec<(Address, Option<io::Error>)>);

impl Unsent {
    fn withheld(&mut self, peer: &Address) {
        self.0.push((peer.clone(), None));
    }

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
                if queue.push(&reply, unsent).is_ok() {
                    taken += reply.bytes.len();
                }
                if queue.waiting.len() >= BATCH {
                    // (Whoever's reply was the last: its failure is told of with the others.)
                    drop(queue.flush(socket, &self.core, unsent));
                }
            }
        });
        collected.clear();
        taken
    }

    /// Sends what waits.
    pub(crate) fn flush_replies(&self) {
        self.with_replies(|queue, socket, unsent| drop(queue.flush(socket, &self.core, unsent)));
    }

    /// The drain's deadline has passed: what is not taken now is given up. Nobody waits for it any more.
    pub(crate) fn give_up_replies(&self) {
        self.with_replies(|queue, socket, unsent| {
            drop(queue.flush(socket, &self.core, unsent));
            queue.held.give_up(unsent);
        });
    }

    /// The poller says that the socket takes datagrams again.
    pub(crate) fn unblocked(&self) {
        self.with_replies(|queue, socket, unsent| {
            queue.blocked = false;
            drop(queue.flush(socket, &self.core, unsent));
        });
    }

    /// Acts on the queue, unless its socket is closed. What was not sent is told of once its lock is
    /// released.
    fn with_replies<T>(
        &self,
        act: impl FnOnce(&mut ReplyQueue, &DatagramSocket, &mut Unsent) -> T,
    ) -> Option<T> {
        let mut unsent = Unsent::default();
        let socket = self.socket()?;
        let mut queue = self.replies.lock();
        let outcome = act(&mut queue, &socket, &mut unsent);
        let next_try = queue.held.next_try();
        drop(queue);
        if let (Some(at), Some(post)) = (next_try, self.settings.post.upgrade()) {
            post.try_again(self.index, at);
        }
        unsent.tell(&self.core, &self.address);
        Some(outcome)
    }
}

impl DatagramOutlet for DatagramListener {
    /// Sends one datagram now, behind what waits already.
    fn send(&self, bytes: &[u8], peer: &Address, from: Option<IpAddr>) -> Result<(), SendError> {
        let sent = self.with_replies(|queue, socket, unsent| {
            let taken = queue.push(&Outgoing { bytes, peer, from }, unsent);
            let last = queue.flush(socket, &self.core, unsent);
            taken.and(last)
        });
        sent.unwrap_or(Err(SendError::Closed))
    }

    /// Queues one datagram. It leaves when a batch is together, or at the next flush.
    fn queue(&self, bytes: &[u8], peer: &Address, from: Option<IpAddr>) -> Result<(), SendError> {
        let sent = self.with_replies(|queue, socket, unsent| {
            let taken = queue.push(&Outgoing { bytes, peer, from }, unsent);
            if queue.waiting.len() < BATCH {
                return taken;
            }
            let last = queue.flush(socket, &self.core, unsent);
            taken.and(last)
        });
        sent.unwrap_or(Err(SendError::Closed))
    }

    fn flush(&self) {
        self.flush_replies();
    }
}
