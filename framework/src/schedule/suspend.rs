//! Suspending and resuming: newcomers are refused, the port is kept, and whoever is there goes on.
//!
//! 1. A filter drops new SYNs, and whoever is queued is let in.
//! 2. Handshakes under way have a moment to complete. When none is, and nobody is queued, the socket listens
//!    no more: whoever connects is refused.
//! 3. To resume, the same socket listens again.
//!
//! A Unix socket cannot listen again, and of one that was taken over the port may be lost: whoever connects
//! to these meanwhile waits in the kernel's queue. Datagrams have no door: the intake asks whether the server is suspended, and drops those of strangers.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::event::Event;
use crate::schedule::engine::Engine;
use crate::schedule::token::Token;
use crate::stream::door::Door;
use crate::stream::listen::StreamListener;
use crate::sys::handshakes::are_under_way;
use crate::sys::listener::Listener;
use crate::sys::suspend::{listen_again, pass_new, stop_listening};
use crate::timer::Moment;

/// How long a handshake may be in the kernel's hands before it is seen to be under way. Whoever connects
/// meanwhile tries again a second later, so that it is short.
const UNSEEN: Duration = Duration::from_millis(5);

/// How long a handshake that is under way has to complete. A client farther away than this may be reset
/// if it connects at the moment at which the server is suspended.
const HANDSHAKE: Duration = Duration::from_millis(200);

/// How long `suspend` waits beyond that for those who are queued to be let in.
const QUEUED: Duration = Duration::from_millis(300);

impl Engine {
    /// Turns newcomers away, and waits until that is so; not on a thread that runs turns of this server,
    /// and never for long.
    pub(crate) fn suspend(&self) -> Result<()> {
        let now = self.core.clock.now();
        let span = (now.after(UNSEEN), now.after(HANDSHAKE));
        let mut failures = Vec::new();
        {
            let _one_at_a_time = self.adjusting.lock();
            self.refuse_when_draining("suspended")?;
            if self.core.set_suspended(true) {
                self.herald.suspended();
            }
            for listener in &self.sources.streams {
                if let Some(socket) = listener.socket()
                    && let Err(error) = listener.door.begin_closing(span, || turn_away(&socket))
                {
                    failures.push((&listener.address, error));
                }
            }
        }
        self.tell_news();
        for (address, error) in &failures {
            self.core.events.emit(&Event::SuspendFailed { address, error });
        }
        self.see_to_closing_doors();
        if !self.is_own_turn() {
            self.await_shut_doors(Instant::now() + HANDSHAKE + QUEUED);
        }
        let stuck = self.sources.streams.iter().filter_map(|listener| {
            let errno = listener.door.stuck()?;
            Some((&listener.address, io::Error::from_raw_os_error(errno)))
        });
        match failures.into_iter().chain(stuck).next() {
            Some((address, error)) => Err(Error::suspend(address, error)),
            None => Ok(()),
        }
    }

    /// Lets newcomers in again.
    pub(crate) fn resume(&self) -> Result<()> {
        let mut outcome = Ok(());
        {
            let _one_at_a_time = self.adjusting.lock();
            self.refuse_when_draining("resumed")?;
            if self.core.set_suspended(false) {
                self.herald.resumed();
            }
            for (index, listener) in (0..).zip(&self.sources.streams) {
                if let Err(error) = self.open_door(index, listener) {
                    outcome = Err(Error::listen(&listener.address, error));
                }
            }
        }
        self.tell_news();
        self.arm_listeners();
        self.doors_have_changed();
        outcome
    }

    fn refuse_when_draining(&self, what: &str) -> Result<()> {
        if self.core.is_draining() || self.herald.knows_of_a_drain() {
            return Err(Error::over(format!("the server is drained: it cannot be {what}")));
        }
        Ok(())
    }

    fn open_door(&self, index: usize, listener: &StreamListener) -> io::Result<()> {
        let Some(socket) = listener.socket() else { return Ok(()) };
        let listens = || {
            if socket.can_refuse() {
                listen_again(&*socket, self.core.config.backlog)?;
            }
            if !self.registered.load(Ordering::SeqCst) {
                return Ok(());
            }
            let known = self.poller.add_listener(&*socket, Token::Arrivals(index).pack());
            if known.is_err() && socket.can_refuse() {
                // Nobody would hear of those who come.
                drop(stop_listening(&*socket));
            }
            known
        };
        let pass = || {
            if socket.can_refuse() {
                pass_new(&*socket);
            }
        };
        listener.door.open(pass, listens)
    }

    /// A listener's timer has fired: it has rested, or its door is to be shut.
    pub(super) fn listener_deadline(&self, index: usize) {
        self.arm_listener(index);
        let listener = self.sources.streams.get(index);
        if listener.is_some_and(|listener| listener.door.state().closes().is_some()) {
            self.accept(index);
        }
    }

    /// Nobody is queued at a closing door: shuts it, if it is time, or looks again when it is.
    pub(super) fn shut_door(&self, index: usize, socket: &Listener) {
        let Some(listener) = self.sources.streams.get(index) else { return };
        let now = self.core.clock.now();
        let Some(look_at) = look_again_at(listener, now) else { return };
        if look_at > now {
            return self.arm(Token::Arrivals(index), look_at);
        }
        let stop = || {
            if socket.can_refuse() {
                stop_listening(socket)?;
            }
            self.poller.remove(socket);
            Ok(())
        };
        if let Err(error) = listener.door.shut(now, stop, || pass_new(socket)) {
            let address = &listener.address;
            self.core.events.emit(&Event::SuspendFailed { address, error: &error });
            self.arm_listener(index);
        }
        self.doors_have_changed();
    }

    /// Lets those in who are queued at closing doors, and sees to it that these are shut in time.
    pub(super) fn see_to_closing_doors(&self) {
        for (index, listener) in (0..).zip(&self.sources.streams) {
            if let Some((from, _)) = listener.door.state().closes() {
                self.arm(Token::Arrivals(index), from);
                self.accept(index);
            }
        }
    }

    fn doors_have_changed(&self) {
        let _nobody_looks = self.doors.0.lock();
        self.doors.1.notify_all();
    }

    /// Waits until no door is closing any more. Where nobody serves, nobody else lets the queued ones in.
    fn await_shut_doors(&self, deadline: Instant) {
        while let Some((from, until)) = self.last_to_shut() {
            let now = Instant::now();
            if now >= deadline || self.core.is_draining() {
                return;
            }
            let moments = [from, until].map(|moment| self.core.clock.instant_of(moment));
            let wake_at = moments.into_iter().find(|at| *at > now).unwrap_or(deadline);
            let mut looking = self.doors.0.lock();
            if self.last_to_shut().is_some() {
                self.doors.1.wait_until(&mut looking, wake_at.min(deadline));
            }
            drop(looking);
            self.see_to_closing_doors();
        }
    }

    fn last_to_shut(&self) -> Option<(Moment, Moment)> {
        self.sources.streams.iter().filter_map(|listener| listener.door.state().closes()).max()
    }

    /// A drain lets nobody in beside those who are queued.
    pub(super) fn turn_newcomers_away(&self) {
        let (mut shared, mut failed) = (Vec::new(), Vec::new());
        let nobody_resumes = self.adjusting.lock();
        for (index, listener) in (0..).zip(&self.sources.streams) {
            let Some(socket) = listener.socket() else { continue };
            if socket.is_shared() {
                // Those who are queued are left to whoever else has the socket. It would be announced
                // to us for as long as that one has it.
                self.poller.remove(&*socket);
                shared.push(listener);
                continue;
            }
            // Whoever has come to a socket that cannot refuse is queued, and is served.
            if !socket.can_refuse()
                && let Err(error) = self.open_door(index, listener)
            {
                failed.push((&listener.address, error));
            }
            if listener.door.state() == Door::Open {
                // If it fails, newcomers are merely accepted for longer.
                drop(socket.refuse_new());
            }
        }
        drop(nobody_resumes);
        for (address, error) in &failed {
            self.core.events.emit(&Event::ListenerFailed { address, error });
        }
        shared.into_iter().for_each(|listener| self.close_arrivals(listener));
    }
}

/// Turns newcomers away without resetting those who are queued, where it can be taken back; else they
/// will wait in the kernel's queue. Without the filter whoever comes at the last moment would be reset, so
/// that the socket goes on listening then.
fn turn_away(socket: &Listener) -> io::Result<()> {
    if socket.can_refuse() { socket.refuse_new() } else { Ok(()) }
}

/// When a closing door with nobody queued is to be looked at again: now, if it can be shut.
fn look_again_at(listener: &StreamListener, now: Moment) -> Option<Moment> {
    let (from, until) = listener.door.state().closes()?;
    if from > now {
        return Some(from);
    }
    // Where the system does not say, there may be some.
    let addr = listener.address.socket_addr();
    let under_way = addr.is_some_and(|addr| are_under_way(addr).unwrap_or(true));
    // The last of them is announced as it completes, and then it is looked at as well.
    Some(if under_way && until > now { until } else { now })
}
