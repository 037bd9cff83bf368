//! A worker's loop: run what is ready; poll if nobody does; sleep if others are enough.

use crate::desk::Desk;
use crate::schedule::crew::Duty;
use crate::schedule::drain::InTurn;
use crate::schedule::engine::{Doze, Engine};
use crate::schedule::{Concurrency, threads};
use crate::sys::poll::Events;

/// The life of a worker, on its own thread; under `Inline`, on the thread that serves.
pub(crate) fn run(engine: &Engine, worker: usize) {
    let _in_turn = InTurn::begin(engine);
    let crew = &engine.crew;
    crew.enter(worker);
    let mut desk = Desk::new();
    let mut events = Events::new();
    let own_threads = matches!(engine.concurrency(), Concurrency::Threads { .. });
    loop {
        // A free poll goes first: under a flood the queue is never empty, and nobody else would be heard.
        if !crew.holds_poll(worker)
            && !crew.poll_is_free()
            && crew.may_work(worker)
            && let Some(token) = engine.ready.pop()
        {
            if own_threads {
                threads::prepare(engine, token, worker);
            }
            engine.run(token, worker, &mut desk);
            if own_threads {
                threads::attend(engine, token, worker, &mut desk);
            }
            continue;
        }
        match crew.idle(worker, || !engine.ready.is_empty()) {
            Duty::Work => {}
            Duty::Poll => {
                // Whoever held the poll before may sleep in the poller still.
                engine.wake_poller();
                lead(engine, worker, &mut desk, &mut events);
            }
            Duty::Sleep => {
                if !engine.ready.is_empty() {
                    // It may have taken the wake-up of the one who polls.
                    engine.wake_poller();
                }
                crew.sleep(worker);
            }
            Duty::Leave => break,
        }
    }
    crew.leave(worker);
}

/// Polls and runs what it finds, for as long as this worker holds the poll.
fn lead(engine: &Engine, worker: usize, desk: &mut Desk, events: &mut Events) {
    let crew = &engine.crew;
    while crew.holds_poll(worker) && !crew.is_leaving() {
        engine.poll(events, Doze::UnlessReady(None));
        desk.now = engine.core.clock.instant();
        // What was ready before goes first; what comes up meanwhile waits for the next round, so that
        // events are fetched however busy the queue is.
        let round = engine.ready.len();
        for _ in 0..round {
            let Some(token) = engine.ready.pop() else { break };
            engine.run(token, worker, desk);
            if !crew.holds_poll(worker) {
                return;
            }
        }
    }
}
