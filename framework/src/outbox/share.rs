//! A peer as a member: the groups it is in, and how a message of one reaches it.

use std::io::IoSlice;
use std::sync::{Arc, Weak};

use crate::outbox::group::Shared;
use crate::outbox::lane::Share;
use crate::outbox::line::{Outlet, Post, Reach};
use crate::outbox::{Chunk, DatagramOutlet, Extent, GATHERED, Line, Outbox, Pushed, SendError};
use crate::sys::socket::Socket;

/// The groups that a peer is a member of. Eight bytes as long as there is none.
#[derive(Debug, Default)]
pub(crate) struct Memberships(Option<Box<Groups>>);

#[derive(Debug, Default)]
struct Groups(Vec<Weak<Shared>>);

impl Memberships {
    fn add(&mut self, group: &Arc<Shared>) {
        self.0.get_or_insert_default().0.push(Arc::downgrade(group));
    }

    fn remove(&mut self, group: *const Shared) {
        let Some(groups) = &mut self.0 else { return };
        groups.0.retain(|membership| !std::ptr::eq(membership.as_ptr(), group));
        if groups.0.is_empty() {
            self.0 = None;
        }
    }

    /// Takes the peer out of all groups. To be called without a lock of ours: this may drop a group.
    pub(super) fn end(self, line: &Line) {
        for group in self.0.into_iter().flat_map(|groups| groups.0) {
            if let Some(group) = group.upgrade() {
                group.forget(line);
            }
        }
    }
}

/// How one message reaches the members of one listener.
pub(super) struct Delivery<'a> {
    pub(super) post: &'a dyn Post,
    pub(super) reach: Reach,
    /// The message, framed.
    pub(super) chunk: &'a Chunk,
    pub(super) share: Share<'a>,
}

/// What became of a message for one member.
pub(super) enum Delivered {
    /// It has left.
    Left,
    /// It waits, and is to be written by a turn; so many messages were dropped for it.
    Waits { dropped: usize },
    /// It waits in a socket for many peers, which is to be flushed.
    Queued(Arc<dyn DatagramOutlet>),
    /// It was dropped, which makes so many with older ones.
    Dropped(usize),
    /// No more may wait for it: it takes no messages any more, and is to be cut off.
    Overflow,
    /// The member is gone.
    Gone,
    /// It was not taken, for a reason of the network.
    Refused,
}

impl Line {
    /// Makes the peer a member of a group, unless its end has begun.
    pub(super) fn enter(&self, group: &Arc<Shared>) -> bool {
        let mut inner = self.lock();
        let open = self.is_open();
        if open {
            inner.groups.add(group);
        }
        open
    }

    pub(super) fn leave(&self, group: *const Shared) {
        self.lock().groups.remove(group);
    }

    /// A message of a group. A turn that is to write it is the caller's to order.
    pub(super) fn send_to_member(&self, delivery: &Delivery<'_>) -> Delivered {
        let mut guard = self.lock();
        if !self.is_open() {
            return Delivered::Gone;
        }
        let (socket, outbox) = match &mut guard.outlet {
            Outlet::Closed => return Delivered::Gone,
            Outlet::Datagram { outlet } => {
                let to = outlet.clone();
                // A refusal is logged, and a log is the user's code: not under our lock.
                drop(guard);
                let bytes = delivery.chunk.body();
                return match to.queue(bytes, self.peer.address(), self.peer.reached()) {
                    Ok(()) => {
                        self.took(bytes.len());
                        Delivered::Queued(to)
                    }
                    Err(SendError::Full) => Delivered::Dropped(1),
                    Err(_) => Delivered::Refused,
                };
            }
            Outlet::Stream { socket, outbox } => (socket, outbox),
        };
        let (chunk, share) = (delivery.chunk, &delivery.share);
        if !self.is_full() && !outbox.owes_notices() {
            let running = delivery.post.is_running(self.id);
            if !running && outbox.is_empty() && delivery.reach == Reach::AtOnce {
                let sent = write_one(socket, chunk);
                self.sent_aside(sent, delivery.post);
                if sent == chunk.len() {
                    return Delivered::Left;
                }
                self.set_full(true);
                if sent > 0 {
                    outbox.begin_with(chunk.clone(), sent);
                    self.note_waiting(outbox);
                    return Delivered::Waits { dropped: 0 };
                }
            } else if !outbox.has_room(chunk.len(), share) {
                // Nobody misses anything who would take it: the sender writes what waits. Not a turn's
                // own replies: some that are older may lie with the turn.
                let extent = if running { Extent::BeforeReplies } else { Extent::All };
                let (sent, all) = write_queued(socket, outbox, extent);
                self.sent_aside(sent, delivery.post);
                self.set_full(!all);
            }
        }
        let pushed = outbox.push_share(chunk.clone(), share);
        self.note_waiting(outbox);
        drop(guard);
        match pushed {
            Pushed::Queued => Delivered::Waits { dropped: 0 },
            Pushed::MadeRoom(dropped) => Delivered::Waits { dropped },
            Pushed::Dropped(dropped) => Delivered::Dropped(dropped),
            Pushed::Overflow => {
                self.seal();
                Delivered::Overflow
            }
        }
    }

    /// Ends the connection of a member for whom too much waits: with a last word in place of what waits.
    pub(super) fn cut_off(&self, last_word: Option<&Chunk>, post: &dyn Post) {
        if let (Some(word), Outlet::Stream { outbox, .. }) = (last_word, &mut self.lock().outlet) {
            outbox.end_with(word.clone());
            self.note_waiting(outbox);
        }
        post.overflowed(self.id);
    }
}

/// Writes what waits. Returns how many bytes the socket took, and whether that was all. An error of the socket is the
/// connection's to notice: its turn meets it as well.
fn write_queued(socket: &Socket, outbox: &mut Outbox, extent: Extent) -> (usize, bool) {
    let mut left = 0;
    loop {
        let mut slices = Vec::with_capacity(GATHERED);
        outbox.slices(extent, &mut slices);
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return (left, true);
        }
        let sent = socket.send_gathered(&slices).unwrap_or(0);
        drop(slices);
        outbox.advance(sent);
        left += sent;
        if sent < offered {
            return (left, false);
        }
    }
}

/// Writes a message, as much as the socket takes.
fn write_one(socket: &Socket, chunk: &Chunk) -> usize {
    let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(3);
    chunk.slices(0, &mut slices);
    socket.send_gathered(&slices).unwrap_or(0)
}

#[cfg(test)]
impl Memberships {
    pub(super) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |groups| groups.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::line::Inner;

    #[test]
    fn a_peer_in_no_group_pays_sixteen_bytes_for_groups() {
        let memberships = size_of::<Inner>() - size_of::<Outlet>();
        assert_eq!((memberships, Outbox::LANES), (8, 8));
    }
}
