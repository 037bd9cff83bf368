//! The watchman: notices workers that block without saying so, and decides how the work is shared.
//!
//! It is the thread that serves. It naps a millisecond while turns are under way and sleeps when there
//! is nothing to watch: an idle server makes no wake-ups. When every worker is blocked, or while blocking
//! is common, it holds the poll itself and runs no handlers.

use std::time::{Duration, Instant};

use crate::event::{Event, HeldBy, Sharing};
use crate::schedule::crew::Shape;
use crate::schedule::engine::{Doze, Engine};
use crate::schedule::{Concurrency, cores};
use crate::sys::poll::Events;
use crate::sys::thread::StateFile;

/// How often workers are looked at while turns are under way.
const NAP: Duration = Duration::from_millis(1);

/// Naps without a turn under way, after which the watchman sleeps.
const QUIET_NAPS: u32 = 20;

/// Looks at which a turn was still running, on the CPU, after which its worker counts as a hog.
const HOG_LOOKS: u32 = 10;

/// Workers that were seen to block within [`WINDOW`], from which on blocking is common.
const COMMON: u64 = 4;
const WINDOW: Duration = Duration::from_millis(100);

/// How long nobody must have blocked before a leader polls again.
const CALM: Duration = Duration::from_secs(1);

/// What the watchman remembers of a worker.
#[derive(Debug, Default)]
struct Watched {
    turns: u64,
    /// Looks at which the same turn was under way.
    looks: u32,
    /// At the last look it was off the CPU.
    off_cpu: bool,
    state: Option<StateFile>,
}

/// What the watchman remembers of the crew.
#[derive(Debug)]
struct Watch {
    workers: Vec<Watched>,
    quiet: u32,
    /// What was in the ready queue at the last look.
    pushed: u64,
    window: Instant,
    blocks_before: u64,
    last_block: Instant,
}

/// Watches, and polls when it must, until the server is over.
pub(super) fn run(engine: &Engine) {
    let crew = &engine.crew;
    let mut events = Events::new();
    let mut watch = Watch::new(engine);
    let watches = matches!(engine.concurrency(), Concurrency::Pool { .. });
    while !crew.is_leaving() {
        if crew.control_takes_poll() {
            // A turn that is under way is looked at every millisecond, also from here.
            let busy = watches && watch.quiet < QUIET_NAPS;
            engine.poll(&mut events, Doze::AtMost(busy.then_some(NAP)));
            if !engine.ready.is_empty() {
                // It may have taken the wake-up of a worker who polls by now.
                engine.wake_poller();
            }
            if watches {
                watch.look(engine);
            }
            continue;
        }
        if watch.quiet >= QUIET_NAPS {
            // Not even a turn that has begun since the last look is slept through.
            crew.watchman_sleeps(|| watch.turns(engine) == watch.seen() && !crew.is_leaving());
            watch.quiet = 0;
        } else {
            crew.watchman_naps(NAP);
        }
        watch.look(engine);
    }
}

impl Watch {
    fn new(engine: &Engine) -> Self {
        let now = Instant::now();
        Self {
            workers: engine.crew.members().iter().map(|_| Watched::default()).collect(),
            quiet: 0,
            pushed: 0,
            window: now,
            blocks_before: 0,
            last_block: now,
        }
    }

    /// How many turns have begun and ended, all in all.
    fn turns(&self, engine: &Engine) -> u64 {
        engine.crew.members().iter().map(|member| member.turns()).sum()
    }

    /// The same, as of the last look.
    fn seen(&self) -> u64 {
        self.workers.iter().map(|watched| watched.turns).sum()
    }

    fn look(&mut self, engine: &Engine) {
        let mut moving = false;
        for worker in 0..self.workers.len() {
            moving |= self.look_at(engine, worker);
        }
        self.quiet = if moving { 0 } else { self.quiet.saturating_add(1) };
        self.help_with_waiting_work(engine);
        self.choose_shape(engine);
    }

    /// Looks at one worker. Returns whether there was something to see.
    fn look_at(&mut self, engine: &Engine, worker: usize) -> bool {
        let member = engine.crew.member(worker);
        let watched = &mut self.workers[worker];
        let turns = member.turns();
        if turns != watched.turns {
            (watched.turns, watched.looks, watched.off_cpu) = (turns, 0, false);
            return true;
        }
        if turns.is_multiple_of(2) || member.is_blocked() {
            return false;
        }
        watched.looks += 1;
        if watched.state.is_none() {
            watched.state = member.thread().and_then(|thread| StateFile::open(thread).ok());
        }
        let off_cpu = watched.state.as_ref().is_some_and(|s| s.is_off_cpu().unwrap_or(false));
        // Off the CPU for a whole nap: a lock that is busy for a moment is not blocking.
        let blocks = std::mem::replace(&mut watched.off_cpu, off_cpu) && off_cpu;
        if blocks || watched.looks >= HOG_LOOKS {
            engine.replace(
                worker,
                turns,
                if blocks { HeldBy::Blocking } else { HeldBy::Computing },
            );
        }
        true
    }

    /// Fetched work that has waited since the last look, about a millisecond, gets another worker, as
    /// long as there are cores. It sleeps again when nothing is ready.
    fn help_with_waiting_work(&mut self, engine: &Engine) {
        let waited = engine.ready.popped() < self.pushed;
        self.pushed = engine.ready.pushed();
        if waited && engine.crew.shape() == Shape::Leader {
            let called = engine.crew.call_in_beside(cores());
            engine.start(&called);
        }
    }

    fn choose_shape(&mut self, engine: &Engine) {
        let now = Instant::now();
        let blocks = engine.crew.blocks() - self.blocks_before;
        if blocks > 0 {
            self.last_block = now;
        }
        let (crew, before) = (&engine.crew, engine.crew.shape());
        let calm = now - self.last_block;
        let shape = shape_for(before, blocks, calm);
        if now - self.window >= WINDOW || shape != before {
            self.window = now;
            self.blocks_before = crew.blocks();
        }
        if shape != before {
            let common = shape == Shape::Queue;
            crew.set_shape(shape, if common { crew.max() } else { 1 });
            let to = if common { Sharing::Queue } else { Sharing::Leader };
            engine.core.events.emit(&Event::SharingChanged { to });
            // Whoever waits in the poller holds the poll no longer.
            engine.wake_poller();
            // What was ready already waits for somebody to be called in for it.
            for _ in 0..engine.ready.len().clamp(1, crew.max()) {
                engine.call_in();
            }
        }
    }
}

/// How to share the work, given how many blocked in this window and since when nobody has. Pure.
fn shape_for(now: Shape, blocks: u64, calm: Duration) -> Shape {
    match now {
        Shape::Leader if blocks >= COMMON => Shape::Queue,
        Shape::Queue if calm >= CALM => Shape::Leader,
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_begins_when_blocking_is_common_and_ends_after_a_calm_second() {
        let second = Duration::from_secs(1);
        assert_eq!(shape_for(Shape::Leader, 3, Duration::ZERO), Shape::Leader);
        assert_eq!(shape_for(Shape::Leader, 4, Duration::ZERO), Shape::Queue);
        assert_eq!(shape_for(Shape::Queue, 0, second / 2), Shape::Queue);
        assert_eq!(shape_for(Shape::Queue, 0, second), Shape::Leader);
    }
}
