//! Tokens: for whom an event, a place in the ready queue or a deadline is, packed into one number.

use crate::peer::ConnectionId;
use crate::slots::SESSION_TAG;

/// For whom something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The datagram listener with this index.
    Datagrams(usize),
    /// The stream listener with this index.
    Arrivals(usize),
    /// The drain.
    Drain,
    /// The crew, which waits for a thread.
    Crew,
    /// The tick with this index.
    Tick(usize),
    Connection(ConnectionId),
    Session(ConnectionId),
}

/// No slot has generation 0: numbers below it are the server's own.
const ARRIVALS: u64 = 1 << 16;
const DRAIN: u64 = 1 << 17;
const TICKS: u64 = 1 << 18;
const CREW: u64 = 1 << 19;

/// In place of a generation: a slot's deadline belongs to the slot, whoever has it.
const ANYBODY: u64 = 0xffff_ffff << 32;

impl Token {
    /// Whoever has this number.
    pub(crate) fn of(id: ConnectionId) -> Self {
        if id.0 & SESSION_TAG == 0 { Self::Connection(id) } else { Self::Session(id) }
    }

    pub(crate) fn pack(self) -> u64 {
        match self {
            Self::Datagrams(index) => index as u64,
            Self::Arrivals(index) => ARRIVALS | index as u64,
            Self::Drain => DRAIN,
            Self::Crew => CREW,
            Self::Tick(index) => TICKS | index as u64,
            Self::Connection(id) | Self::Session(id) => id.0,
        }
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        match packed {
            id if id >> 32 != 0 => Self::of(ConnectionId(id)),
            DRAIN => Self::Drain,
            CREW => Self::Crew,
            index if index & TICKS != 0 => Self::Tick((index & !TICKS) as usize),
            index if index & ARRIVALS != 0 => Self::Arrivals((index & !ARRIVALS) as usize),
            index => Self::Datagrams(index as usize),
        }
    }

    /// As it stands in the timers.
    pub(crate) fn timer_key(self) -> u64 {
        match self {
            Self::Connection(id) | Self::Session(id) => id.0 | ANYBODY,
            own => own.pack(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        let connection = ConnectionId(7 << 32 | 3);
        let session = ConnectionId(7 << 32 | SESSION_TAG | 3);
        for token in [
            Token::Datagrams(0),
            Token::Datagrams(65_535),
            Token::Arrivals(0),
            Token::Arrivals(65_535),
            Token::Drain,
            Token::Crew,
            Token::Tick(0),
            Token::Tick(1_023),
            Token::Connection(connection),
            Token::Session(session),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
        assert_eq!(Token::of(connection), Token::Connection(connection));
        assert_eq!(Token::of(session), Token::Session(session));
    }

    #[test]
    fn all_who_have_a_slot_one_after_the_other_have_one_key() {
        let (first, second) = (ConnectionId(1 << 32 | 5), ConnectionId(2 << 32 | 5));
        assert_eq!(Token::of(first).timer_key(), Token::of(second).timer_key());
        let session = ConnectionId(1 << 32 | SESSION_TAG | 5);
        assert_ne!(Token::of(first).timer_key(), Token::of(session).timer_key());
    }
}
