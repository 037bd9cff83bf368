//! Calling user code: isolated from its panics, and the one function that applies what it returned.

use std::io;
use std::time::Duration;

use crate::handler::{Handler, Next};
use crate::reason::CloseReason;
use crate::unwind::caught;

/// Runs user code. A panic and an error both become the reason to end its connection, and no other.
pub(crate) fn isolated<T>(user: impl FnOnce() -> io::Result<T>) -> Result<T, CloseReason> {
    // An error is the user's as well, until it is a text.
    let told = || user().map_err(|error| error.to_string());
    match caught(told) {
        Some(Ok(value)) => Ok(value),
        Some(Err(text)) => Err(CloseReason::HandlerErr(text)),
        None => Err(CloseReason::HandlerPanic),
    }
}

/// Drops what is the user's: a destructor may panic as well.
pub(crate) fn discard<T>(users: T) {
    drop(isolated(|| {
        drop(users);
        Ok(())
    }));
}

/// What a turn does after a callback, on any transport.
pub(crate) enum Step {
    /// Go on with what there is.
    Go,
    /// Flush, then close, for this reason.
    Close(CloseReason),
    /// End without flushing, for this reason.
    Abort(CloseReason),
    /// Flush, then finish writing.
    HalfClose,
    /// Handle nothing for so long.
    Pause(Duration),
    /// Put this handler in the place of the one that returned it.
    Switch(Box<dyn Handler>),
    /// Flush, close, and drain the server.
    StopServer,
}

/// What follows from what a callback returned. `close` is the reason for which a plain `Close` ends the
/// connection: it depends on what was asked (`idle` closes for another reason than `handle`).
fn apply(returned: Result<Next, CloseReason>, close: CloseReason) -> Step {
    match returned {
        Ok(Next::Continue) => Step::Go,
        Ok(Next::Close) => Step::Close(close),
        Ok(Next::Abort) => Step::Abort(CloseReason::Aborted),
        Ok(Next::HalfClose) => Step::HalfClose,
        Ok(Next::Pause(span)) => Step::Pause(span),
        Ok(Next::Switch(handler)) => Step::Switch(handler),
        Ok(Next::StopServer) => Step::StopServer,
        Err(reason) => Step::Close(reason),
    }
}

/// What follows from a callback in which something went wrong already, or not: then that counts, and
/// what was returned is thrown away.
pub(crate) fn outcome(
    failure: Option<Step>,
    returned: Result<Next, CloseReason>,
    close: CloseReason,
) -> Step {
    match failure {
        Some(step) => {
            discard(returned);
            step
        }
        None => apply(returned, close),
    }
}
