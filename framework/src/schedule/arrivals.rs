//! Arrivals: accepting whoever is queued and admitted, and resting when that is not possible.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::desk::Why;
use crate::event::Event;
use crate::outbox::Line;
use crate::peer::Address;
use crate::schedule::Concurrency;
use crate::schedule::engine::Engine;
use crate::schedule::token::Token;
use crate::stream::Connection;
use crate::stream::accept::{Round, accept_round, next_rest};
use crate::stream::admit::Permit;
use crate::stream::door::Door;
use crate::stream::listen::{Rest, StreamListener};
use crate::sys::poll::is_readable;
use crate::sys::socket::Socket;

impl Engine {
    pub(super) fn accept(&self, index: usize) {
        let Some(listener) = self.sources.streams.get(index) else { return };
        let Some(begun) = listener.door.begin_round() else { return };
        let Some(socket) = listener.socket() else { return };
        let Some(most) = self.solo.begin_round(self.core.is_draining()) else { return };
        let events = &self.core.events;
        let address = &listener.address;
        let round = accept_round(
            &socket,
            (&self.gate, most),
            |accepted, addr, permit| self.admit(listener, accepted, addr, permit),
            |error| events.emit(&Event::AcceptFailed { address, error, rest: None }),
        );
        self.solo.end_round();
        let closing = matches!(listener.door.state(), Door::Closing { .. });
        match round {
            Round::Empty if socket.is_shut() => self.rest_listener(index, Rest::Shut),
            Round::Full if closing && !is_readable(&*socket) => self.shut_door(index, &socket),
            Round::Empty => {
                listener.set_rest(Rest::default());
                if closing {
                    self.shut_door(index, &socket);
                }
            }
            Round::More => listener.set_rest(Rest::default()),
            Round::Over => {}
            Round::Full => {
                events.emit(&Event::Full { max_connections: self.gate.max() });
                self.rest_listener(index, Rest::Full);
            }
            Round::Rest(error) => {
                let span = next_rest(listener.rest().span());
                events.emit(&Event::AcceptFailed { address, error: &error, rest: Some(span) });
                let until = self.core.clock.now().after(span);
                let errno = error.raw_os_error().unwrap_or(0);
                self.rest_listener(index, Rest::Failed { errno, span, until });
                self.arm(Token::Arrivals(index), until);
            }
            Round::Stop(error) => {
                if listener.door.fail(begun, error.raw_os_error().unwrap_or(0)) {
                    // Somebody else may hold the broken socket: closing it is not enough.
                    self.poller.remove(&*socket);
                    events.emit(&Event::ListenerFailed { address, error: &error });
                    self.close_arrivals(listener);
                }
            }
        }
    }

    /// Closes a listener, once.
    pub(super) fn close_arrivals(&self, listener: &StreamListener) {
        if listener.close() {
            self.tell_of_the_end(&listener.address);
        }
    }

    /// A listener was closed. Whoever heard nothing of its beginning hears nothing of its end.
    pub(super) fn tell_of_the_end(&self, address: &Address) {
        if self.listeners_told.load(Ordering::SeqCst) {
            self.core.events.emit(&Event::ListenerStopped { address });
        }
    }

    /// Stops announcing a listener until somebody leaves (or its timer fires).
    fn rest_listener(&self, index: usize, rest: Rest) {
        let Some(listener) = self.sources.streams.get(index) else { return };
        let Some(socket) = listener.socket() else { return };
        listener.set_rest(rest);
        drop(self.poller.rest_listener(&*socket, Token::Arrivals(index).pack()));
        self.gate.await_leave();
        // Somebody may have left, or the limit been raised, before we could be seen to wait.
        let (open, max) = self.gate.occupancy();
        if rest == Rest::Full && open < max {
            self.arm_listener(index);
        }
    }

    /// Announces no listener for now: nobody else is to be let in.
    pub(super) fn hush_listeners(&self) {
        for (index, listener) in (0..).zip(&self.sources.streams) {
            if let Some(socket) = listener.socket() {
                drop(self.poller.rest_listener(&*socket, Token::Arrivals(index).pack()));
            }
        }
    }

    pub(super) fn arm_listeners(&self) {
        (0..self.sources.streams.len()).for_each(|index| self.arm_listener(index));
    }

    pub(super) fn arm_listener(&self, index: usize) {
        let Some(listener) = self.sources.streams.get(index) else { return };
        if listener.rest() == Rest::Shut {
            return;
        }
        if let Some(socket) = listener.socket()
            && self.solo.listens(self.core.is_draining())
        {
            listener.end_rest();
            drop(self.poller.arm_listener(&*socket, Token::Arrivals(index).pack()));
        }
    }

    pub(super) fn admit(
        &self,
        listener: &Arc<StreamListener>,
        socket: Socket,
        addr: Option<Address>,
        permit: Permit,
    ) {
        let peer = listener.peer_of(addr, &socket);
        // There is a slot for every permit: a slot is freed before its permit is given back.
        let Some(id) = self.connections.reserve() else {
            return debug_assert!(false, "a permit without a slot");
        };
        self.solo.note_arrival(id, &peer);
        let socket = Arc::new(socket);
        let line = Line::stream(id, peer, socket.clone(), listener.settings.clone());
        self.connections.set_line(id, line.clone());
        let (peer, address) = (&line.peer, &listener.address);
        self.core.events.emit(&Event::ConnectionOpened { id, peer, listener: address });
        let registered = match self.concurrency() {
            // Its own thread waits for its bytes.
            Concurrency::Threads { .. } => Ok(()),
            Concurrency::Inline | Concurrency::Pool { .. } => self.poller.add_stream(&socket, id.0),
        };
        let now = self.core.clock.now();
        let mut conn = Connection::new(line, socket, listener, permit, now);
        if let Err(error) = registered {
            conn.break_off(error.raw_os_error().unwrap_or(0));
            return self.close_connection(id, Box::new(conn));
        }
        self.connections.requeue(id, Box::new(conn), Why::START);
        self.enqueue(Token::Connection(id));
    }
}
