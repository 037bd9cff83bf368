//! Byte streams: writing requests, reading replies, and ending connections.
use std::os::fd::AsFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::books::Fate;
use crate::engine::desk::Desk;
use crate::engine::peer::{End, Line, Peer, Talk};
use crate::framing::Piece;
use crate::plan::{Ending, Writes};
use crate::proof::window::Times;
use crate::target::{Progress, Target};

/// Requests are collected up to this many bytes before they are written.
const WRITE_MAX: usize = 256 << 10;

/// Reads from one connection before the others have their turn.
const READS_MAX: usize = 16;

/// What a stream is watched for. An edge comes with every arrival; a short read has therefore drained the socket.
fn interest(writable: bool) -> EventFlags {
    let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    if writable { flags | EventFlags::OUT } else { flags }
}

/// What a new stream is watched for: TCP tells of writability only after a full buffer, so it is asked once and for all;
/// Unix sockets tell of it with every read of the other side, so they are asked only when it matters.
pub(crate) fn first_interest(target: &Target, progress: Progress) -> EventFlags {
    interest(matches!(target, Target::Tcp(_)) || progress == Progress::Pending)
}

fn rearm(desk: &Desk<'_>, peer: &Peer, writable: bool) {
    if let (Target::Unix(_), Line::Up { fd, .. }) = (&desk.plan.target, &peer.line) {
        desk.watch(fd.as_fd(), peer.token(), interest(writable), true);
    }
}

/// Reads all there is. `Some` if the connection is over.
pub(crate) fn read(desk: &mut Desk<'_>, peer: &mut Peer, hung_up: bool) -> Option<End> {
    let Line::Up { fd, since } = &peer.line else { return None };
    let mut input = std::mem::take(&mut desk.input);
    let talk = &mut *peer.talk;
    let mut reads = 0;
    let end = loop {
        reads += 1;
        let kept = talk.partial.len();
        input[..kept].copy_from_slice(&talk.partial);
        let room = input.len() - kept;
        match rustix::net::recv(fd, &mut input[kept..], RecvFlags::empty()) {
            Ok((_, 0)) => break Some(End::Closed),
            Ok((_, count)) => {
                let now = desk.received_at(kept + count);
                desk.tally.books.bytes_received += count as u64;
                if talk.fresh {
                    talk.fresh = false;
                    desk.tally.first_byte(now - since);
                }
                talk.partial.clear();
                let bytes = &input[..kept + count];
                match take_replies(desk, talk, bytes, now) {
                    Some(used) => talk.partial.extend_from_slice(&bytes[used..]),
                    None => break Some(End::Senseless),
                }
                if count < room && !hung_up {
                    break None;
                }
                if reads == READS_MAX {
                    // The edge is used up, so the rest has to be remembered.
                    talk.more = true;
                    break None;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break None,
            Err(_) => break Some(End::Reset),
        }
    };
    desk.input = input;
    end
}

/// Settles every whole reply in `bytes`; how many bytes they were, or nothing if the stream makes no sense any more.
fn take_replies(desk: &mut Desk<'_>, talk: &mut Talk, bytes: &[u8], now: u64) -> Option<usize> {
    let mut used = 0;
    let framing = desk.plan.framing;
    while used < bytes.len() {
        if let Some(promise) = talk.window.promised()
            && let Some(skip) = framing.kept(&bytes[used..], desk.proof, (promise, talk.front))
        {
            desk.fulfilled(talk, now);
            used += skip;
            continue;
        }
        match framing.next(&bytes[used..], desk.proof) {
            Piece::Proved { id: of, skip } => {
                desk.proved(talk, of, &bytes[used..used + skip], now);
                used += skip;
            }
            Piece::Message { from, to, skip } => {
                desk.arrival(talk, &bytes[used + from..used + to], now);
                used += skip;
            }
            Piece::Partial => break,
            Piece::Senseless => {
                desk.arrival(talk, &bytes[used..], now);
                return None;
            }
        }
    }
    Some(used)
}

/// Makes as many requests as the connection takes (closed loop).
pub(crate) fn fill(desk: &mut Desk<'_>, peer: &mut Peer) -> Option<End> {
    let room = desk.room(peer);
    if room == 0 {
        return None;
    }
    let now = desk.written_at();
    desk.start_batch();
    for _ in 0..room {
        let times = Times { planned: now, sent: now };
        if desk.output.len() > WRITE_MAX || !desk.append_request(&mut peer.talk, times) {
            break;
        }
    }
    write(desk, peer)
}

/// Writes what is in `output`; what the socket will not take waits with the connection.
pub(crate) fn write(desk: &mut Desk<'_>, peer: &mut Peer) -> Option<End> {
    let output = std::mem::take(&mut desk.output);
    let ends = std::mem::take(&mut desk.ends);
    let mut end = None;
    let mut from = 0;
    while from < output.len() {
        let to = match desk.plan.writes {
            Writes::Whole => output.len(),
            Writes::Chunks(most) => output.len().min(from + most),
            Writes::SplitCharacter => split_at(&output, &ends, from),
        };
        match send(peer, &output[from..to]) {
            Ok(count) => {
                desk.tally.books.bytes_sent += count as u64;
                from += count;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                peer.talk.unsent.extend_from_slice(&output[from..]);
                peer.talk.blocked = true;
                rearm(desk, peer, true);
                break;
            }
            Err(_) => {
                end = Some(End::Reset);
                break;
            }
        }
    }
    desk.output = output;
    desk.ends = ends;
    after_write(desk, peer);
    end
}

/// Where the write that begins at `from` ends if characters are to be split: inside the message's first long character,
/// else in the middle of the message.
fn split_at(output: &[u8], ends: &[usize], from: usize) -> usize {
    let index = ends.partition_point(|&end| end <= from);
    let end = ends.get(index).copied().unwrap_or(output.len());
    let begin = if index == 0 { 0 } else { ends[index - 1] };
    if from > begin {
        return end;
    }
    match output[begin..end].iter().position(|&byte| byte >= 0x80) {
        Some(at) => begin + at + 1,
        None => (begin + end).div_ceil(2),
    }
}

fn send(peer: &Peer, bytes: &[u8]) -> Result<usize, Errno> {
    match &peer.line {
        Line::Up { fd, .. } => rustix::net::send(fd, bytes, SendFlags::NOSIGNAL),
        _ => Err(Errno::NOTCONN),
    }
}

/// The socket can be written again.
pub(crate) fn flush(desk: &mut Desk<'_>, peer: &mut Peer) -> Option<End> {
    if !peer.talk.blocked {
        return None;
    }
    let mut done = 0;
    while done < peer.talk.unsent.len() {
        let rest = &peer.talk.unsent[done..];
        let piece = match desk.plan.writes {
            Writes::Chunks(most) => &rest[..rest.len().min(most)],
            Writes::Whole | Writes::SplitCharacter => rest,
        };
        match send(peer, piece) {
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(_) => return Some(End::Reset),
        }
    }
    desk.tally.books.bytes_sent += done as u64;
    peer.talk.unsent.drain(..done);
    if !peer.talk.unsent.is_empty() {
        return None;
    }
    peer.talk.blocked = false;
    rearm(desk, peer, false);
    after_write(desk, peer);
    None
}

/// Closes our half where the last request has been made.
fn after_write(desk: &Desk<'_>, peer: &mut Peer) {
    let last = peer.life.is_some_and(|life| peer.talk.made >= life);
    if last && desk.plan.ending == Ending::HalfClose {
        half_close(peer);
    }
}

/// Closes our half, once all is written.
pub(crate) fn half_close(peer: &mut Peer) {
    let Line::Up { fd, .. } = &peer.line else { return };
    if peer.talk.unsent.is_empty() && !peer.talk.half_closed {
        peer.talk.half_closed = true;
        // It fails only if the connection is already gone, which the next read says better.
        let _: Result<(), Errno> = rustix::net::shutdown(fd, Shutdown::Write);
    }
}

/// Ends the connection and settles what was still open on it.
pub(crate) fn hang_up(desk: &mut Desk<'_>, peer: &mut Peer, end: End) {
    let now = desk.clock.now();
    desk.leftover(&mut peer.talk, now);
    let expected = peer.talk.half_closed && peer.talk.window.open() == 0;
    let (fate, pause_ms) = match end {
        End::Ours => (Fate::Lost, 0),
        End::Closed => (Fate::EarlyClose, 10),
        End::Reset => (Fate::Reset, 10),
        End::Refused => (Fate::Refused, 100),
        End::Senseless => (Fate::Corrupt, 10),
    };
    match end {
        End::Closed if !expected => desk.tally.books.closed_by_server += 1,
        End::Reset => desk.tally.books.reset_by_server += 1,
        _ => {}
    }
    desk.abandon(&mut peer.talk, fate);
    if desk.plan.ending == Ending::Reset
        && end == End::Ours
        && let Line::Up { fd, .. } = &peer.line
    {
        // Closing without waiting for unsent bytes resets the connection; if that cannot be had, it is closed plainly.
        let _: Result<(), Errno> =
            rustix::net::sockopt::set_socket_linger(fd, Some(std::time::Duration::ZERO));
    }
    let pause_ms = if expected { 0 } else { pause_ms };
    peer.line = Line::Down { retry_at: now + pause_ms * 1_000_000 };
    let talk = &mut *peer.talk;
    talk.unsent.clear();
    (talk.blocked, talk.half_closed, talk.more) = (false, false, false);
    (talk.made, talk.fresh) = (0, true);
}

#[cfg(test)]
mod tests {
    use super::split_at;

    #[test]
    fn a_write_ends_inside_the_first_long_character_of_each_message() {
        let output = "ab\u{e9}c\nplain\n".as_bytes();
        let ends = [6, 12];
        let mut cuts = vec![0];
        while *cuts.last().expect("some") < output.len() {
            cuts.push(split_at(output, &ends, *cuts.last().expect("some")));
        }
        assert_eq!(cuts, [0, 3, 6, 9, 12]);
    }
}
