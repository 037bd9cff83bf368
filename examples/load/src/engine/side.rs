//! Connections beside the measured ones: silent, hardly reading, or dribbling. What matters is what they cost the server.
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::engine::desk::Desk;
use crate::plan::{Plan, Sides};
use crate::proof::id::Id;

/// Tokens of side connections have this bit; those of the others are their numbers.
pub(crate) const TOKEN: u64 = 1 << 32;
/// A slow reader takes this much every tenth of a second.
const SIP: usize = 512;
const SIP_EVERY: u64 = 100_000_000;
/// A dribbler sends one byte this often.
const DRIBBLE_EVERY: u64 = 200_000_000;

/// What kind of nuisance it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Silent,
    SlowReader,
    Dribbler,
}

/// One side connection. Ten thousand of them must cost next to nothing, so there is nothing in it.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) role: Role,
    pub(crate) up: bool,
    /// An attempt was made; there is no second.
    pub(crate) tried: bool,
    next_at: u64,
    /// Requests begun.
    made: u32,
}

/// This thread's share of the side connections.
pub(crate) fn share(sides: Sides, number: usize, threads: usize) -> Vec<Side> {
    let roles = std::iter::repeat_n(Role::Silent, sides.silent)
        .chain(std::iter::repeat_n(Role::SlowReader, sides.slow_readers))
        .chain(std::iter::repeat_n(Role::Dribbler, sides.dribblers));
    roles
        .skip(number)
        .step_by(threads)
        .map(|role| Side { fd: None, role, up: false, tried: false, next_at: 0, made: 0 })
        .collect()
}

/// What a side connection is watched for: its end, and for the silent ones nothing else.
pub(crate) fn interest() -> EventFlags {
    EventFlags::RDHUP | EventFlags::ET | EventFlags::OUT
}

impl Side {
    /// Does what it is there for, if it is time. False if the server has ended it.
    pub(crate) fn act(&mut self, desk: &mut Desk<'_>, index: usize, now: u64) -> bool {
        let Some(fd) = &self.fd else { return true };
        if !self.up || now < self.next_at {
            return true;
        }
        match self.role {
            Role::Silent => {
                self.next_at = u64::MAX;
                true
            }
            Role::Dribbler => {
                self.next_at = now + DRIBBLE_EVERY;
                // A length that is never reached, or a line that never ends.
                let byte = if self.made == 0 { 0 } else { b'x' };
                self.made += 1;
                stands(rustix::net::send(fd, &[byte], SendFlags::NOSIGNAL))
            }
            Role::SlowReader => {
                self.next_at = now + SIP_EVERY;
                let id = side_id(desk.plan, index, self.made);
                self.made += 1;
                let mut input = std::mem::take(&mut desk.input);
                let room = input.len().min(SIP);
                let read = rustix::net::recv(fd, &mut input[..room], RecvFlags::empty());
                desk.input = input;
                stands(read.map(|(_, n)| n)) && gorge(desk, fd, id)
            }
        }
    }
}

/// Side connections have ids of their own, so that a reply of theirs elsewhere is seen to be crossed.
fn side_id(plan: &Plan, index: usize, made: u32) -> Id {
    Id { conn: (plan.connections + index) as u32, seq: made }
}

/// Sends requests until the socket takes no more.
fn gorge(desk: &mut Desk<'_>, fd: &OwnedFd, id: Id) -> bool {
    desk.start_batch();
    while desk.output.len() < 64 << 10 {
        desk.plan.framing.open(desk.proof.request_len(id), &mut desk.output);
        desk.proof.append_request(id, &mut desk.output);
        desk.plan.framing.close(&mut desk.output);
    }
    loop {
        match rustix::net::send(fd.as_fd(), &desk.output, SendFlags::NOSIGNAL) {
            Ok(count) => {
                desk.tally.books.side_bytes_sent += count as u64;
                if desk.tally.books.side_bytes_sent > SIDE_BYTES_MAX {
                    return true;
                }
            }
            other => return stands(other),
        }
    }
}

/// A server that takes everything and buffers without bound is shown up by this much.
const SIDE_BYTES_MAX: u64 = 256 << 20;

/// Whether the connection still stands after this.
fn stands(result: Result<usize, Errno>) -> bool {
    match result {
        Ok(count) => count > 0,
        Err(Errno::AGAIN | Errno::INTR) => true,
        Err(_) => false,
    }
}
