//! Opening connections, and what becomes of those that do not come about.
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use crate::engine::desk::Desk;
use crate::engine::peer::{Line, Peer};
use crate::engine::side::{self, Side};
use crate::engine::{datagram, stream};
use crate::target::{ConnectFault, Progress, connect_fault};

/// Handshakes under way at once; many more overflow a short backlog, and a lost handshake takes a second to repeat.
const UNDER_WAY_MAX: usize = 128;
/// Source addresses tried for one connection.
const SOURCES_MAX: usize = 256;
const MILLISECOND: u64 = 1_000_000;

/// Whether this connection may still come about without a long wait.
pub(crate) fn is_waiting(peer: &Peer, now: u64) -> bool {
    match peer.line {
        Line::Connecting { .. } => true,
        Line::Down { retry_at } => retry_at <= now + 50 * MILLISECOND,
        Line::Up { .. } => false,
    }
}

fn told_to_stop(desk: &Desk<'_>) -> bool {
    desk.orders.signalled_at.load(Ordering::Relaxed) != 0
}

/// Opens a connection; whether it stands already.
///
/// # Errors
/// Says why there is none.
pub(crate) fn open(desk: &mut Desk<'_>, peer: &mut Peer) -> Result<bool, String> {
    if desk.connecting >= UNDER_WAY_MAX {
        return Ok(false);
    }
    let since = desk.clock.now();
    match attempt(desk, u64::from(peer.id)) {
        Ok((fd, progress)) => {
            let flags = if desk.plan.target.is_stream() {
                stream::first_interest(&desk.plan.target, progress)
            } else {
                datagram::interest(false)
            };
            desk.watch(fd.as_fd(), peer.token(), flags, false);
            if progress == Progress::Connected {
                desk.tally.connected(desk.clock.now() - since);
                peer.line = Line::Up { fd, since };
                return Ok(true);
            }
            desk.connecting += 1;
            peer.line = Line::Connecting { fd, since };
            Ok(false)
        }
        Err(error) => failed(desk, peer, &error),
    }
}

/// Tries source addresses until one has a port.
fn attempt(desk: &mut Desk<'_>, name: u64) -> std::io::Result<(std::os::fd::OwnedFd, Progress)> {
    for _ in 0..SOURCES_MAX {
        let result = desk.plan.target.connect(desk.sources.pick(), name);
        match &result {
            Err(error) if connect_fault(error) == ConnectFault::NoPorts => {
                if !desk.sources.advance() {
                    desk.sources.rewind();
                    return result;
                }
            }
            _ => return result,
        }
    }
    Err(std::io::Error::from(rustix::io::Errno::ADDRNOTAVAIL))
}

/// A connect has failed: when to try again, and what to say.
fn failed(desk: &mut Desk<'_>, peer: &mut Peer, error: &std::io::Error) -> Result<bool, String> {
    let now = desk.clock.now();
    let fault = connect_fault(error);
    if told_to_stop(desk) && fault != ConnectFault::Busy {
        // A server that was told to stop takes no new connections: as it should be.
        peer.line = Line::Down { retry_at: u64::MAX };
        return Ok(false);
    }
    let pause = match fault {
        ConnectFault::Busy => 5,
        ConnectFault::NoDescriptors => 1000,
        ConnectFault::Refused | ConnectFault::NoPorts | ConnectFault::Other => 100,
    };
    peer.line = Line::Down { retry_at: now + pause * MILLISECOND };
    let books = &mut desk.tally.books;
    match fault {
        ConnectFault::Busy => return Ok(false),
        ConnectFault::Refused => books.connect_refused += 1,
        _ => books.connect_failed += 1,
    }
    Err(explain(fault, error))
}

fn explain(fault: ConnectFault, error: &std::io::Error) -> String {
    match fault {
        ConnectFault::NoPorts => {
            format!("no source port left ({error}); give more --source addresses")
        }
        ConnectFault::NoDescriptors => {
            format!("no descriptor left ({error}); fewer --connections, or a higher ulimit -n")
        }
        _ => error.to_string(),
    }
}

/// The handshake has ended one way or the other; whether the connection stands.
///
/// # Errors
/// Says why it does not.
pub(crate) fn finish(desk: &mut Desk<'_>, peer: &mut Peer) -> Result<bool, String> {
    let down = Line::Down { retry_at: 0 };
    let Line::Connecting { fd, since } = std::mem::replace(&mut peer.line, down) else {
        return Ok(false);
    };
    desk.connecting -= 1;
    let outcome = match rustix::net::sockopt::socket_error(&fd) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) | Err(error) => Err(std::io::Error::from(error)),
    };
    match outcome {
        Ok(()) => {
            desk.tally.connected(desk.clock.now() - since);
            peer.line = Line::Up { fd, since };
            Ok(true)
        }
        Err(error) => failed(desk, peer, &error),
    }
}

/// A handshake takes too long.
pub(crate) fn give_up(desk: &mut Desk<'_>, peer: &mut Peer, now: u64) {
    desk.connecting -= 1;
    peer.line = Line::Down { retry_at: now };
    if told_to_stop(desk) {
        peer.line = Line::Down { retry_at: u64::MAX };
    } else {
        desk.tally.books.connect_failed += 1;
    }
}

/// Opens a side connection, once.
///
/// # Errors
/// Says why there is none.
pub(crate) fn open_side(
    desk: &mut Desk<'_>,
    side: &mut Side,
    token: u64,
    place: usize,
) -> Result<(), String> {
    if desk.connecting >= UNDER_WAY_MAX {
        return Ok(());
    }
    let name = (desk.plan.connections + place) as u64;
    match attempt(desk, name) {
        Ok((fd, progress)) => {
            desk.watch(fd.as_fd(), token, side::interest(), false);
            side.tried = true;
            side.up = progress == Progress::Connected;
            side.fd = Some(fd);
            desk.connecting += usize::from(!side.up);
            desk.tally.books.connected += u64::from(side.up);
            Ok(())
        }
        Err(error) if connect_fault(&error) == ConnectFault::Busy => Ok(()),
        Err(error) => {
            side.tried = true;
            desk.tally.books.connect_failed += 1;
            Err(explain(connect_fault(&error), &error))
        }
    }
}
