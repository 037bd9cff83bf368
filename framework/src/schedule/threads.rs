//! A thread for each connection: it waits for its own connection's bytes, and runs its turns.

use crate::desk::{Desk, Why};
use crate::schedule::engine::Engine;
use crate::schedule::member::Member;
use crate::schedule::token::Token;
use crate::sys::poll::{Interest, Waited, wait_wake};
use crate::sys::wake::Wake;

/// Makes ready for a connection's first turn: what comes up during it must find its way back to this
/// worker, or another one would attend the connection as well.
pub(super) fn prepare(engine: &Engine, token: Token, worker: usize) {
    if let Token::Connection(_) = token {
        // Without it `attend` gives the connection up.
        let _ = own_wake(engine.crew.member(worker));
    }
}

/// Stays with a connection until it has ended. (Datagrams have no thread of their own: a token of
/// theirs is done already.)
pub(super) fn attend(engine: &Engine, token: Token, worker: usize, desk: &mut Desk) {
    let Token::Connection(id) = token else { return };
    let member = engine.crew.member(worker);
    while let Some(socket) = engine.connections.line(id).and_then(|line| line.socket()) {
        let Some(wake) = own_wake(member) else {
            // Without a descriptor for the wake-up the connection cannot be waited for.
            engine.notify(id, Why::FORCE);
            engine.run(token, worker, desk);
            return;
        };
        let waited = if engine.connections.wants_read(id) {
            socket.wait(Interest::Read, Some(wake), None)
        } else {
            wait_wake(wake, None)
        };
        drop(socket);
        match waited {
            Ok(Waited::Socket) => {
                // Queues it, unless something else has; either way it is ours to claim.
                let _ = engine.connections.notify(id, Why::READ);
            }
            Ok(Waited::Woken | Waited::Timeout) => wake.clear(),
            Err(_) => engine.notify(id, Why::FORCE),
        }
        desk.now = engine.core.clock.instant();
        engine.run(token, worker, desk);
    }
}

/// The worker's own wake-up, made when it is first needed and kept for the next connection.
fn own_wake(member: &Member) -> Option<&Wake> {
    if member.wake.get().is_none() {
        drop(member.wake.set(Wake::new().ok()?));
    }
    member.wake.get()
}
