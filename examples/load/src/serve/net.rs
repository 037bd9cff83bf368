//! The reference server's sockets: one thread, one epoll.
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::engine::desk::Clock;
use crate::framing::Framing;
use crate::proof::Expect;
use crate::serve::answer::{Act, Answers};
use crate::serve::chat::Chat;
use crate::serve::faults::Done;
use crate::serve::listen::listen;
use crate::serve::peer::{Connection, Key};
use crate::serve::{ServeArgs, split};
use crate::target::Target;

/// Looks for the order to stop this often.
pub(crate) const PATIENCE: u64 = 20_000_000;
/// After its goodbye the server waits for its peers' at most so long.
const LINGER: u64 = 500_000_000;
/// Answers that a connection may have waiting; one that does not read is then cut off.
const UNSENT_MAX: usize = 8 << 20;
const CONNECTION: u64 = 1 << 32;
const TIMER: u64 = CONNECTION - 1;
const INTEREST: epoll::EventFlags =
    epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP).union(epoll::EventFlags::ET);

/// The server.
pub(crate) struct Server {
    clock: Clock,
    epoll: OwnedFd,
    timer: OwnedFd,
    listeners: Vec<(OwnedFd, Target)>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    numbers: u64,
    answers: Answers<Key>,
    chat: Option<Chat>,
    framing: Framing,
    /// Nothing is wrong and nothing waits: bytes are answered as they come.
    plain: Option<Expect>,
    input: Vec<u8>,
    events: Vec<epoll::Event>,
}

impl Server {
    /// Opens all listeners.
    ///
    /// # Errors
    /// Says which one cannot be opened, and why.
    pub(crate) fn open(args: &ServeArgs) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| e.to_string())?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(|e| e.to_string())?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), edge)
            .map_err(|e| e.to_string())?;
        let mut listeners = Vec::new();
        for url in &args.urls {
            let (fd, target) = listen(&Target::parse(url)?)
                .map_err(|error| format!("cannot listen on {url}: {error}"))?;
            let data = epoll::EventData::new_u64(listeners.len() as u64);
            epoll::add(&epoll, &fd, data, epoll::EventFlags::IN).map_err(|e| e.to_string())?;
            listeners.push((fd, target));
        }
        // Upper-casing must not touch length prefixes; everything else may be answered byte by byte.
        let bytewise = match args.framing {
            Framing::Length { .. } => args.reply == Expect::Echo,
            _ => matches!(args.reply, Expect::Echo | Expect::Upper),
        };
        let plain = (bytewise && args.faults.none() && !args.chat).then(|| args.reply.clone());
        Ok(Self {
            clock: Clock::new(),
            epoll,
            timer,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            numbers: 0,
            answers: Answers::new(args.reply.clone(), args.faults.clone()),
            chat: args.chat.then(|| Chat::new(args.faults.clone())),
            framing: args.framing,
            plain,
            input: vec![0; 256 << 10],
            events: Vec::with_capacity(256),
        })
    }

    /// Where it listens, with the real ports.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.listeners.iter().map(|(_, target)| target.to_string()).collect()
    }

    /// What it has done so far.
    pub(crate) fn done(&self) -> Done {
        self.answers.done
    }

    /// Waits for a moment at most, and does what there is to do; whether there was anything.
    pub(crate) fn turn(&mut self, patience: u64) -> bool {
        let now = self.clock.now();
        let next = self.answers.advance(now);
        self.act();
        let wait = match next {
            // Finer than a wait can be told to be: answers at a fixed rate must not come in clumps.
            Some(due) if due > now => self.set_timer(due - now).map_or(0, |()| patience),
            Some(_) => 0,
            None => patience,
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait as i64 };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let room = self.answers.has_room();
        if room && epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)).is_ok() {
            for event in &events {
                self.on_event(event.data.u64(), event.flags);
            }
        }
        let busy = !events.is_empty();
        self.events = events;
        busy
    }

    fn set_timer(&self, nanoseconds: u64) -> Result<(), Errno> {
        let second = 1_000_000_000;
        let value = Timespec {
            tv_sec: (nanoseconds / second) as i64,
            tv_nsec: (nanoseconds % second) as i64,
        };
        let spec = Itimerspec { it_interval: Timespec::default(), it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec).map(|_| ())
    }

    /// Told to stop: takes no more connections, answers what has come, and closes after that. Answers that are held
    /// back are not waited for.
    pub(crate) fn drain(&mut self) {
        while self.turn(0) {}
        self.listeners.retain(|(_, target)| !target.is_stream());
        while self.turn(0) {}
        for connection in self.connections.iter().flatten() {
            // A connection that is gone already needs no goodbye.
            let _ = rustix::net::shutdown(&connection.fd, rustix::net::Shutdown::Write);
        }
        let until = self.clock.now() + LINGER;
        while self.connections.iter().any(Option::is_some) && self.clock.now() < until {
            self.turn(PATIENCE);
        }
    }

    fn on_event(&mut self, token: u64, flags: epoll::EventFlags) {
        if token & CONNECTION == 0 {
            let index = token as usize;
            // The timer has no listener's number; that it went off is all there is to it.
            let Some((_, target)) = self.listeners.get(index) else { return };
            if target.is_stream() {
                self.accept(index);
            } else {
                self.datagrams(index);
            }
            return;
        }
        let index = (token & !CONNECTION) as usize;
        if flags.contains(epoll::EventFlags::OUT) {
            self.flush(index);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
        {
            // An edge comes with every arrival, so a short read has drained the socket, unless the end came with it.
            let ended = flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP);
            while self.read(index, ended) {}
        }
        self.act();
    }

    fn accept(&mut self, listener: usize) {
        // A few at a time; the level brings the rest. Errors are those of clients that are gone, or pass.
        for _ in 0..64 {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(fd) = rustix::net::accept_with(&self.listeners[listener].0, flags) else {
                return;
            };
            if matches!(self.listeners[listener].1, Target::Tcp(_)) {
                // Only a connection that is gone already refuses it.
                let _ = rustix::net::sockopt::set_tcp_nodelay(&fd, true);
            }
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let data = epoll::EventData::new_u64(CONNECTION | index as u64);
            if epoll::add(&self.epoll, &fd, data, INTEREST).is_err() {
                self.free.push(index);
                continue;
            }
            self.numbers += 1;
            let connection = Connection {
                fd,
                number: self.numbers,
                received: Vec::new(),
                unsent: Vec::new(),
                closing: false,
            };
            self.connections[index] = Some(connection);
        }
    }

    /// Reads once; whether to read again.
    fn read(&mut self, index: usize, ended: bool) -> bool {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return false;
        };
        let count = match rustix::net::recv(&connection.fd, &mut self.input[..], RecvFlags::empty())
        {
            Ok((_, 0)) => {
                let key = Key::Connection(index, connection.number);
                // Its half is closed; ours is when everything is answered.
                self.answers.goodbye(&key, self.clock.now());
                return false;
            }
            Ok((_, count)) => count,
            Err(Errno::INTR) => return true,
            Err(Errno::AGAIN) => return false,
            Err(_) => {
                self.close(index);
                return false;
            }
        };
        let again = ended || count == self.input.len();
        let key = Key::Connection(index, connection.number);
        if let Some(reply) = &self.plain {
            if *reply == Expect::Upper {
                self.input[..count].make_ascii_uppercase();
            }
            let input = std::mem::take(&mut self.input);
            self.send_bytes(index, &input[..count]);
            self.input = input;
            return again;
        }
        connection.received.extend_from_slice(&self.input[..count]);
        let received = std::mem::take(&mut connection.received);
        let now = self.clock.now();
        let mut used = 0;
        while let Some((from, to, skip)) = split::next(self.framing, &received[used..]) {
            let message = &received[used + from..used + to];
            match &mut self.chat {
                Some(chat) => chat.line(&key, message, &mut self.answers.ready),
                None => self.answers.message(&key, message, now),
            }
            used += skip;
        }
        if let Some(connection) = &mut self.connections[index] {
            connection.received = received;
            connection.received.drain(..used);
        }
        again
    }

    fn datagrams(&mut self, listener: usize) {
        for _ in 0..64 {
            let fd = &self.listeners[listener].0;
            let got = rustix::net::recvfrom(fd, &mut self.input[..], RecvFlags::DONTWAIT);
            let (count, from) = match got {
                Ok((_, count, Some(from))) => (count, from),
                Err(Errno::AGAIN) => return self.act(),
                // A sender without an address cannot be answered; an error is one of an earlier answer.
                Ok((_, _, None)) | Err(_) => continue,
            };
            if let Some(reply) = &self.plain {
                if *reply == Expect::Upper {
                    self.input[..count].make_ascii_uppercase();
                }
                // A lost answer is the network's right.
                let _ = rustix::net::sendto(fd, &self.input[..count], SendFlags::DONTWAIT, &from);
                continue;
            }
            let now = self.clock.now();
            let message = &self.input[..count];
            self.answers.message(&Key::Address(listener, from), message, now);
        }
        self.act();
    }

    /// Does what is to be done now.
    fn act(&mut self) {
        while !self.answers.ready.is_empty() {
            for act in std::mem::take(&mut self.answers.ready) {
                match act {
                    Act::Send(Key::Address(listener, to), message) => {
                        let fd = &self.listeners[listener].0;
                        let _ = rustix::net::sendto(fd, &message, SendFlags::DONTWAIT, &to);
                    }
                    Act::Send(Key::Connection(index, number), message) => {
                        if self.is(index, number) {
                            let mut framed = Vec::with_capacity(message.len() + 4);
                            self.framing.open(message.len(), &mut framed);
                            framed.extend_from_slice(&message);
                            self.framing.close(&mut framed);
                            self.send_bytes(index, &framed);
                        }
                    }
                    Act::Close(Key::Connection(index, number)) if self.is(index, number) => {
                        match &mut self.connections[index] {
                            Some(slow) if !slow.unsent.is_empty() => slow.closing = true,
                            _ => self.close(index),
                        }
                    }
                    Act::Reset(Key::Connection(index, number)) if self.is(index, number) => {
                        if let Some(connection) = &self.connections[index] {
                            let none = Some(std::time::Duration::ZERO);
                            let _ = rustix::net::sockopt::set_socket_linger(&connection.fd, none);
                        }
                        self.close(index);
                    }
                    // Datagrams have no connection to end; others are gone already.
                    Act::Close(_) | Act::Reset(_) => {}
                }
            }
        }
    }

    fn is(&self, index: usize, number: u64) -> bool {
        self.connections[index].as_ref().is_some_and(|connection| connection.number == number)
    }

    fn send_bytes(&mut self, index: usize, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[index] else { return };
        let sent = if connection.unsent.is_empty() {
            match rustix::net::send(&connection.fd, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => count,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => return self.close(index),
            }
        } else {
            0
        };
        if sent == bytes.len() {
            return;
        }
        let idle = connection.unsent.is_empty();
        connection.unsent.extend_from_slice(&bytes[sent..]);
        if connection.unsent.len() > UNSENT_MAX {
            self.close(index);
        } else if idle {
            self.rearm(index, INTEREST | epoll::EventFlags::OUT);
        }
    }

    fn flush(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        match rustix::net::send(&connection.fd, &connection.unsent, SendFlags::NOSIGNAL) {
            Ok(count) => {
                connection.unsent.drain(..count);
                match (connection.unsent.is_empty(), connection.closing) {
                    (true, true) => self.close(index),
                    (true, false) => self.rearm(index, INTEREST),
                    (false, _) => {}
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.close(index),
        }
    }

    fn rearm(&self, index: usize, flags: epoll::EventFlags) {
        if let Some(connection) = &self.connections[index] {
            let data = epoll::EventData::new_u64(CONNECTION | index as u64);
            // It was registered, so it can be changed.
            let _ = epoll::modify(&self.epoll, connection.fd.as_fd(), data, flags);
        }
    }

    fn close(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].take() {
            self.free.push(index);
            let key = Key::Connection(index, connection.number);
            self.answers.forget(&key);
            if let Some(chat) = &mut self.chat {
                chat.leave(&key);
            }
        }
    }
}
