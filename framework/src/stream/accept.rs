//! Accepting: one loop that cannot fail, and one total function that says what an error means.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::peer::Address;
use crate::stream::admit::{Gate, Permit, Refused};
use crate::sys::errno;
use crate::sys::listener::Listener;
use crate::sys::socket::Socket;

/// Connections accepted in one round, so that a flood on one listener does not starve the rest.
pub(crate) const ACCEPTS_PER_ROUND: usize = 64;

/// How long a listener rests after accept(2) failed for want of something: doubling from the first to
/// the last. A close of ours ends the rest at once.
const FIRST_REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_millis(500);

/// What an error of accept(2) means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterError {
    /// Nobody is queued any more.
    Empty,
    /// It was this one connection's affair: take the next.
    Retry,
    /// The system lacks something: disarm the listener and rest.
    Rest,
    /// The listening socket itself is broken.
    Stop,
}

/// Decides what to do after accept(2) failed. Total: every number has an answer, and none ends the
/// server.
pub(crate) fn after_accept_error(number: Option<i32>) -> AfterError {
    match number {
        Some(errno::AGAIN) => AfterError::Empty,
        Some(number) if errno::ONE_CONNECTIONS.contains(&number) => AfterError::Retry,
        Some(number) if errno::BROKEN_LISTENER.contains(&number) => AfterError::Stop,
        // EMFILE, ENFILE, ENOBUFS, ENOMEM, and whatever nobody thought of.
        _ => AfterError::Rest,
    }
}

/// How long to rest, after a rest of `before` was not enough.
pub(crate) fn next_rest(before: Option<Duration>) -> Duration {
    before.map_or(FIRST_REST, |before| (before * 2).min(LONGEST_REST))
}

/// How a round of accepting ended.
#[derive(Debug)]
pub(crate) enum Round {
    /// Nobody is queued any more.
    Empty,
    /// There may be more, in the next round.
    More,
    /// No permit is left.
    Full,
    /// The server lets nobody in any more.
    Over,
    /// The system lacks something.
    Rest(io::Error),
    /// The listening socket is broken.
    Stop(io::Error),
}

/// Accepts those who are queued and admitted, at most so many. `admitted` takes them over;
/// `failed` hears of errors that were one connection's affair.
pub(crate) fn accept_round(
    listener: &Listener,
    (gate, most): (&Arc<Gate>, usize),
    mut admitted: impl FnMut(Socket, Option<Address>, Permit),
    mut failed: impl FnMut(&io::Error),
) -> Round {
    for _ in 0..most {
        // The permit first: who cannot be admitted stays queued in the kernel.
        let permit = match gate.admit() {
            Ok(permit) => permit,
            Err(Refused::Full) => return Round::Full,
            Err(Refused::Stopped) => return Round::Over,
        };
        match listener.accept() {
            Ok((socket, peer)) => admitted(socket, peer, permit),
            Err(error) => match after_accept_error(error.raw_os_error()) {
                AfterError::Empty => return Round::Empty,
                AfterError::Retry => failed(&error),
                AfterError::Rest => return Round::Rest(error),
                AfterError::Stop => return Round::Stop(error),
            },
        }
    }
    Round::More
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_number_has_an_answer_and_only_a_broken_listener_stops() {
        let stops: Vec<i32> =
            (0..=133).filter(|&n| after_accept_error(Some(n)) == AfterError::Stop).collect();
        // EBADF, EINVAL, ENOTSOCK.
        assert_eq!(stops, [9, 22, 88]);
        // EMFILE, ENFILE, ENOBUFS, ENOMEM.
        for lacking in [24, 23, 105, 12] {
            assert_eq!(after_accept_error(Some(lacking)), AfterError::Rest);
        }
        // EINTR, ECONNABORTED, EPROTO, EPERM: one connection's affair.
        for single in [4, 103, 71, 1] {
            assert_eq!(after_accept_error(Some(single)), AfterError::Retry);
        }
        assert_eq!(after_accept_error(Some(11)), AfterError::Empty);
        assert_eq!(after_accept_error(None), AfterError::Rest);
    }

    #[test]
    fn rests_double_up_to_half_a_second() {
        let mut rests = vec![next_rest(None)];
        while rests.len() < 8 {
            rests.push(next_rest(rests.last().copied()));
        }
        let millis: Vec<_> = rests.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 500, 500]);
    }
}
