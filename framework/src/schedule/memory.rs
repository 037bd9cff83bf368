//! A server in memory: the engine with no thread of its own, driven step by step by whoever tests.
//!
//! Everything that is made ready is run as under `Inline`; what the poller would wait for is said by the
//! test, and the clock is moved by hand.

use std::time::Duration;

use crate::desk::Desk;
use crate::peer::Address;
use crate::schedule::drain::InTurn;
use crate::schedule::engine::{Doze, Engine};
use crate::schedule::report::DrainReport;
use crate::schedule::token::Token;
use crate::stage::Stage;
use crate::stream::admit::Refused;
use crate::sys::poll::Events;
use crate::sys::socket::Socket;
use crate::timer::Moment;

/// What the one who drives an engine in memory works with.
pub(crate) struct Bench(Desk);

impl Bench {
    pub(crate) fn new() -> Self {
        Self(Desk::new())
    }
}

impl Engine {
    /// Makes ready to be driven.
    pub(crate) fn begin_in_memory(&self) {
        self.will_serve();
        for (index, listener) in (0..).zip(&self.sources.datagrams) {
            if let Some(socket) = listener.socket() {
                // (In memory there is nothing that could fail.)
                drop(self.poller.add_datagrams(&socket, Token::Datagrams(index).pack()));
            }
        }
        // The one who drives is the only worker.
        let _ = self.crew.call_in();
        self.begin_ticks();
    }

    /// Lets a stream in memory in, by the listener with this index.
    pub(crate) fn connect_in_memory(
        &self,
        index: usize,
        socket: Socket,
        addr: Address,
    ) -> Result<(), (Refused, Socket)> {
        let permit = match self.gate.admit() {
            Ok(permit) => permit,
            Err(refused) => return Err((refused, socket)),
        };
        if let Some(listener) = self.sources.streams.get(index) {
            self.admit(listener, socket, Some(addr), permit);
        }
        Ok(())
    }

    /// Runs everything that can be run now.
    pub(crate) fn run_until_quiet(&self, bench: &mut Bench) {
        let Bench(desk) = bench;
        let _in_turn = InTurn::begin(self);
        let mut events = Events::new();
        loop {
            self.poll(&mut events, Doze::AtMost(Some(Duration::ZERO)));
            desk.now = self.core.clock.instant();
            let round = self.ready.len();
            if round == 0 {
                break;
            }
            for _ in 0..round {
                let Some(token) = self.ready.pop() else { break };
                self.run(token, 0, desk);
            }
        }
        if self.core.stage() == Stage::Stopped && !self.has_ended() {
            self.finish();
        }
    }

    /// When something is due next; never, if nothing is.
    pub(crate) fn next_deadline(&self) -> Moment {
        self.timers.earliest()
    }

    /// The report of a drain that is over.
    pub(crate) fn report_in_memory(&self) -> Option<DrainReport> {
        self.has_ended().then(|| self.await_report(None))
    }
}
