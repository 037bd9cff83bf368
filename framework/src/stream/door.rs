//! A listener's door: whether newcomers get in, why not, and who of several threads may change that.

use std::io;

use parking_lot::Mutex;

use crate::timer::Moment;

/// Whether newcomers get in at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// They are accepted, as far as there is room.
    Open,
    /// The server is suspended, and whoever was on the way still gets in. Not before one instant, at the
    /// other whoever has not completed its handshake, and once nobody is queued, it is shut.
    Closing { from: Moment, until: Moment },
    /// The server is suspended: nobody listens, and the port is kept.
    Shut,
    /// The socket is broken: its error number.
    Failed(i32),
    /// The server has ended.
    Closed,
}

impl Door {
    /// Between which instants a closing door is shut.
    pub(crate) fn closes(self) -> Option<(Moment, Moment)> {
        match self {
            Self::Closing { from, until } => Some((from, until)),
            Self::Open | Self::Shut | Self::Failed(_) | Self::Closed => None,
        }
    }
}

/// The door as threads share it. Whatever the system is asked for in passing is done under the lock, so
/// that the socket is what the door says.
#[derive(Debug)]
pub(crate) struct Doorway {
    /// Which door, and how often it has been shut: an accept that began before then fails for no reason
    /// of the socket's own.
    state: Mutex<(Door, u64)>,
}

impl Doorway {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new((Door::Open, 0)) }
    }

    pub(crate) fn state(&self) -> Door {
        self.state.lock().0
    }

    /// A round of accepting begins. `None`: there is nothing to accept from.
    pub(crate) fn begin_round(&self) -> Option<u64> {
        let (door, shuts) = *self.state.lock();
        matches!(door, Door::Open | Door::Closing { .. }).then_some(shuts)
    }

    /// Has the socket announced, unless nobody listens on it: then it would be announced for ever.
    pub(crate) fn announce(&self, add: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let state = self.state.lock();
        match state.0 {
            Door::Open | Door::Closing { .. } => add(),
            Door::Shut | Door::Failed(_) | Door::Closed => Ok(()),
        }
    }

    /// accept(2) said that the socket is broken. Returns whether it is: if the door was shut since the
    /// round began, that is what accept(2) has met.
    pub(crate) fn fail(&self, round: u64, errno: i32) -> bool {
        let mut state = self.state.lock();
        let (door, shuts) = *state;
        let broken = shuts == round && matches!(door, Door::Open | Door::Closing { .. });
        if broken {
            state.0 = Door::Failed(errno);
        }
        broken
    }

    /// Begins to close an open door. Returns whether this call did.
    pub(crate) fn begin_closing(
        &self,
        (from, until): (Moment, Moment),
        turn_away: impl FnOnce(),
    ) -> bool {
        let mut state = self.state.lock();
        let open = state.0 == Door::Open;
        if open {
            turn_away();
            state.0 = Door::Closing { from, until };
        }
        open
    }

    /// Shuts a closing door when it is time. Nobody is queued or on the way, as far as the caller has seen.
    pub(crate) fn shut(&self, now: Moment, stop_listening: impl FnOnce() -> io::Result<()>) {
        let mut state = self.state.lock();
        let due = matches!(state.0, Door::Closing { from, .. } if from <= now);
        if due && stop_listening().is_ok() {
            *state = (Door::Shut, state.1 + 1);
        }
    }

    /// Opens a door that is closing or shut.
    pub(crate) fn open(
        &self,
        let_in: impl FnOnce(),
        listen_again: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.0 {
            Door::Closing { .. } => let_in(),
            Door::Shut => listen_again()?,
            Door::Open | Door::Failed(_) | Door::Closed => return Ok(()),
        }
        state.0 = Door::Open;
        Ok(())
    }

    /// The server has ended.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if !matches!(state.0, Door::Failed(_)) {
            *state = (Door::Closed, state.1 + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timer::Clock;
    use std::time::Duration;

    #[test]
    fn an_accept_that_meets_a_shut_door_does_not_break_it() {
        let now = Clock::start().now();
        let door = Doorway::new();
        let round = door.begin_round().expect("open");
        assert!(door.begin_closing((now, now), || ()));
        assert!(!door.begin_closing((now, now), || panic!("twice")));
        door.shut(now, || Ok(()));
        assert_eq!((door.state(), door.begin_round()), (Door::Shut, None));
        assert!(!door.fail(round, 22));
        door.open(|| panic!("it was shut"), || Ok(())).expect("it listens");
        assert!(!door.fail(round, 22), "also when it is open again");
        let round = door.begin_round().expect("open");
        assert!(door.fail(round, 22));
        door.close();
        assert_eq!(door.state(), Door::Failed(22));
    }

    #[test]
    fn a_door_is_shut_when_it_is_time_and_not_before() {
        let now = Clock::start().now();
        let later = now.after(Duration::from_millis(10));
        let door = Doorway::new();
        door.shut(later, || panic!("nobody has asked for it"));
        door.begin_closing((later, later), || ());
        door.shut(now, || panic!("too early"));
        assert!(door.begin_round().is_some());
        door.shut(later, || Err(io::ErrorKind::Other.into()));
        assert_eq!(door.state(), Door::Closing { from: later, until: later });
        door.open(|| (), || panic!("it was not shut")).expect("nothing can fail");
        door.shut(later, || panic!("it was opened meanwhile"));
        assert_eq!(door.state(), Door::Open);
    }
}
