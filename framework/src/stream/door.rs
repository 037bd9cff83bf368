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
    /// The server is suspended: the socket does not listen and keeps its port, or, where it could not
    /// listen again, nobody accepts from it.
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
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    door: Door,
    /// How often it has been shut: an accept that began before then fails for no reason of the socket's own.
    shuts: u64,
    /// The error number for which it could not be shut when that was last tried; it is open since.
    stuck: Option<i32>,
}

impl Doorway {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { door: Door::Open, shuts: 0, stuck: None }) }
    }

    pub(crate) fn state(&self) -> Door {
        self.state.lock().door
    }

    /// Why it could not be shut, if it is open for that reason: an error number.
    pub(crate) fn stuck(&self) -> Option<i32> {
        self.state.lock().stuck
    }

    /// A round of accepting begins. `None`: there is nothing to accept from.
    pub(crate) fn begin_round(&self) -> Option<u64> {
        let State { door, shuts, .. } = *self.state.lock();
        matches!(door, Door::Open | Door::Closing { .. }).then_some(shuts)
    }

    /// Has the socket announced, unless nobody listens on it: then it would be announced for ever.
    pub(crate) fn announce(&self, add: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let state = self.state.lock();
        match state.door {
            Door::Open | Door::Closing { .. } => add(),
            Door::Shut | Door::Failed(_) | Door::Closed => Ok(()),
        }
    }

    /// accept(2) said that the socket is broken. Returns whether it is: if the door was shut since the
    /// round began, that is what accept(2) has met.
    pub(crate) fn fail(&self, round: u64, errno: i32) -> bool {
        let mut state = self.state.lock();
        let State { door, shuts, .. } = *state;
        let broken = shuts == round && matches!(door, Door::Open | Door::Closing { .. });
        if broken {
            state.door = Door::Failed(errno);
        }
        broken
    }

    /// Begins to close an open door. Returns whether this call did. If newcomers cannot be turned away it
    /// stays open.
    pub(crate) fn begin_closing(
        &self,
        (from, until): (Moment, Moment),
        turn_away: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut state = self.state.lock();
        let open = state.door == Door::Open;
        if open {
            state.stuck = None;
            turn_away()?;
            state.door = Door::Closing { from, until };
        }
        Ok(open)
    }

    /// Shuts a closing door when it is time. Nobody is queued or on the way, as far as the caller has seen.
    /// If the socket goes on listening the door is open again, and newcomers are let in.
    pub(crate) fn shut(
        &self,
        now: Moment,
        stop_listening: impl FnOnce() -> io::Result<()>,
        let_in: impl FnOnce(),
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        if !matches!(state.door, Door::Closing { from, .. } if from <= now) {
            return Ok(());
        }
        let outcome = stop_listening();
        match &outcome {
            Ok(()) => *state = State { door: Door::Shut, shuts: state.shuts + 1, stuck: None },
            Err(error) => {
                let_in();
                state.door = Door::Open;
                state.stuck = Some(error.raw_os_error().unwrap_or(0));
            }
        }
        outcome
    }

    /// Opens a door that is closing or shut.
    pub(crate) fn open(
        &self,
        let_in: impl FnOnce(),
        listen_again: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        state.stuck = None;
        match state.door {
            Door::Closing { .. } => let_in(),
            Door::Shut => listen_again()?,
            Door::Open | Door::Failed(_) | Door::Closed => return Ok(()),
        }
        state.door = Door::Open;
        Ok(())
    }

    /// The server has ended.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if !matches!(state.door, Door::Failed(_)) {
            *state = State { door: Door::Closed, shuts: state.shuts + 1, stuck: None };
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
        assert!(door.begin_closing((now, now), || Ok(())).expect("a filter"));
        assert!(!door.begin_closing((now, now), || panic!("twice")).expect("nothing can fail"));
        door.shut(now, || Ok(()), || panic!("it is shut")).expect("it listened");
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
        let shut = |at, may| {
            let shut =
                door.shut(at, || if may { Ok(()) } else { panic!("not now") }, || panic!("no"));
            shut.expect("nothing can fail");
        };
        shut(later, false);
        door.begin_closing((later, later), || Ok(())).expect("a filter");
        shut(now, false);
        assert!(door.begin_round().is_some());
        door.open(|| (), || panic!("it was not shut")).expect("nothing can fail");
        shut(later, false);
        assert_eq!(door.state(), Door::Open);
        door.begin_closing((now, now), || Ok(())).expect("a filter");
        shut(later, true);
        assert_eq!(door.state(), Door::Shut);
    }

    #[test]
    fn a_door_that_cannot_be_closed_or_shut_is_open_and_says_why() {
        let now = Clock::start().now();
        let door = Doorway::new();
        let broken = || Err(io::Error::from_raw_os_error(12));
        assert!(door.begin_closing((now, now), broken).is_err());
        assert_eq!((door.state(), door.stuck()), (Door::Open, None));
        assert!(door.begin_closing((now, now), || Ok(())).expect("a filter"));
        let mut passes = false;
        assert!(door.shut(now, broken, || passes = true).is_err());
        assert!(passes, "newcomers are let in again");
        assert_eq!((door.state(), door.stuck()), (Door::Open, Some(12)));
        // It is tried again.
        assert!(door.begin_closing((now, now), || Ok(())).expect("a filter"));
        assert_eq!(door.stuck(), None);
        door.shut(now, || Ok(()), || panic!("it is shut")).expect("it listened");
        assert_eq!(door.state(), Door::Shut);
    }
}
