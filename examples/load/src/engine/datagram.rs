//! Datagrams: writing requests and reading replies, in batches where several can be open.
use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::engine::desk::Desk;
use crate::engine::peer::{End, Line, Peer};
use crate::proof::window::Times;
use crate::target::Target;

/// Datagrams in one call.
const BATCH: usize = 32;
/// A batch call costs more than a plain one (666 against 281 ns for a single datagram): worth it from here on.
const BATCH_FROM: u32 = 4;
/// Batches read from one socket before the others have their turn.
const TURN: usize = 4;
/// An empty datagram goes before each tenth request.
const EMPTY_EVERY: u32 = 10;

/// What a datagram socket is watched for: the level, since one read per event often suffices.
pub(crate) fn interest(writable: bool) -> EventFlags {
    if writable { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
}

/// Reads what there is, within a turn. `Some` if the socket is to be given up.
pub(crate) fn read(desk: &mut Desk<'_>, peer: &mut Peer) -> Option<End> {
    let batched =
        peer.talk.window.open() >= BATCH_FROM && !matches!(desk.plan.target, Target::UnixGram(_));
    let mut input = std::mem::take(&mut desk.input);
    let mut end = None;
    for _ in 0..TURN {
        let got = if batched {
            read_batch(desk, peer, &mut input)
        } else {
            read_one(desk, peer, &mut input)
        };
        match got {
            // What else there is raises the next event.
            Ok(true) => {}
            Ok(false) => break,
            Err(why) => {
                end = Some(why);
                break;
            }
        }
    }
    desk.input = input;
    end
}

/// Reads one datagram; whether there may be more that are waited for.
fn read_one(desk: &mut Desk<'_>, peer: &mut Peer, input: &mut [u8]) -> Result<bool, End> {
    let Line::Up { fd, .. } = &peer.line else { return Ok(false) };
    match rustix::net::recv(fd, &mut *input, RecvFlags::DONTWAIT) {
        Ok((_, count)) => {
            let now = desk.received_at(count);
            one_arrived(desk, peer, &input[..count], now);
            Ok(peer.talk.window.open() > 0)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(end_of(error)),
    }
}

/// Reads a batch; whether it was a full one.
fn read_batch(desk: &mut Desk<'_>, peer: &mut Peer, input: &mut [u8]) -> Result<bool, End> {
    let Line::Up { fd, .. } = &peer.line else { return Ok(false) };
    // Room for one more byte than any right reply: a longer one is then seen to be wrong. The odd multiple of a cache
    // line keeps the datagrams' first bytes from competing for the same lines.
    let stride = (desk.proof.reply_max() + 1).next_multiple_of(64) | 64;
    let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = {
        let mut pieces = input.chunks_mut(stride);
        std::array::from_fn(|_| [IoSliceMut::new(pieces.next().unwrap_or_default())])
    };
    let mut lengths = [0; BATCH];
    // Fresh headers for every call: used again, they keep what the last call wrote into them.
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let count = match recvmmsg(
        fd.as_raw_fd(),
        &mut headers,
        slices.iter_mut(),
        MsgFlags::MSG_DONTWAIT,
        None,
    ) {
        Ok(found) => found.zip(&mut lengths).map(|(one, len)| *len = one.bytes).count(),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(false),
        Err(error) => return Err(end_of(Errno::from_raw_os_error(error as i32))),
    };
    let now = desk.received_at(lengths[..count].iter().sum());
    for (bytes, &len) in input.chunks(stride).zip(&lengths[..count]) {
        one_arrived(desk, peer, &bytes[..len], now);
    }
    Ok(count == BATCH)
}

fn one_arrived(desk: &mut Desk<'_>, peer: &mut Peer, datagram: &[u8], now: u64) {
    desk.tally.books.bytes_received += datagram.len() as u64;
    if datagram.is_empty() && desk.tally.books.empty_answered < desk.tally.books.empty_sent {
        desk.tally.books.empty_answered += 1;
        desk.arrived_at = now;
        return;
    }
    let talk = &mut *peer.talk;
    if let Some(promise) = talk.window.promised()
        && desk.proof.kept(promise, talk.front, datagram) == Some(datagram.len())
    {
        desk.fulfilled(talk, now);
        return;
    }
    desk.arrival(talk, datagram, now);
}

fn end_of(error: Errno) -> End {
    match error {
        Errno::CONNREFUSED | Errno::NOENT => End::Refused,
        _ => End::Reset,
    }
}

/// Makes as many requests as the socket may have open (closed loop).
pub(crate) fn fill(desk: &mut Desk<'_>, peer: &mut Peer) -> Option<End> {
    let mut room = desk.room(peer);
    while room > 0 && !peer.talk.blocked {
        let now = desk.written_at();
        let count = (room as usize).min(BATCH);
        desk.start_batch();
        for _ in 0..count {
            desk.append_request(&mut peer.talk, Times { planned: now, sent: now });
        }
        if let Some(end) = write(desk, peer) {
            return Some(end);
        }
        room -= count as u32;
    }
    None
}

/// Sends the requests in `output`; those that the socket does not take are taken back.
pub(crate) fn write(desk: &mut Desk<'_>, peer: &mut Peer) -> Option<End> {
    if desk.plan.empty && peer.talk.made % EMPTY_EVERY < desk.ends.len() as u32 {
        send_empty(desk, peer);
    }
    let mut sent = 0;
    let mut end = None;
    while sent < desk.ends.len() {
        match send(desk, peer, sent) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::NOBUFS) => {
                block(desk, peer);
                break;
            }
            Err(error) => {
                end = Some(end_of(error));
                break;
            }
        }
    }
    let bytes = if sent == 0 { 0 } else { desk.ends[sent - 1] };
    desk.tally.books.bytes_sent += bytes as u64;
    desk.take_back(peer, desk.ends.len() - sent);
    end
}

/// Sends requests from number `first` on in one call; how many went.
fn send(desk: &Desk<'_>, peer: &Peer, first: usize) -> Result<usize, Errno> {
    let Line::Up { fd, .. } = &peer.line else { return Err(Errno::NOTCONN) };
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let begin = |n: usize| if n == 0 { 0 } else { desk.ends[n - 1] };
    let message = |n: usize| &desk.output[begin(n)..desk.ends[n]];
    if desk.ends.len() - first == 1 {
        return rustix::net::send(fd, message(first), flags).map(|_| 1);
    }
    let count = (desk.ends.len() - first).min(BATCH);
    let slices: [[IoSlice<'_>; 1]; BATCH] =
        std::array::from_fn(|n| [IoSlice::new(if n < count { message(first + n) } else { &[] })]);
    let mut control: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = Default::default();
    let mut parts = slices.iter().zip(control.iter_mut());
    let mut headers: [MMsgHdr<'_>; BATCH] = std::array::from_fn(|_| {
        let (slice, control) = parts.next().expect("invariant: one for each of the batch");
        MMsgHdr::new(slice, control)
    });
    rustix::net::sendmmsg(fd, &mut headers[..count], flags)
}

/// An empty datagram carries no id: only that it comes back can be proved.
fn send_empty(desk: &mut Desk<'_>, peer: &Peer) {
    let Line::Up { fd, .. } = &peer.line else { return };
    if rustix::net::send(fd, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok() {
        desk.tally.books.empty_sent += 1;
    }
}

fn block(desk: &Desk<'_>, peer: &mut Peer) {
    peer.talk.blocked = true;
    if let Line::Up { fd, .. } = &peer.line {
        desk.watch(fd.as_fd(), peer.token(), interest(true), true);
    }
}

/// The socket can be written again.
pub(crate) fn unblock(desk: &Desk<'_>, peer: &mut Peer) {
    if peer.talk.blocked {
        peer.talk.blocked = false;
        if let Line::Up { fd, .. } = &peer.line {
            desk.watch(fd.as_fd(), peer.token(), interest(false), true);
        }
    }
}
