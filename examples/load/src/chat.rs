//! The chat scenario: messages go in at one place and must come out at every member of the room, once and in order.
//!
//! One thread. A request is a line of one member; every delivery of it to a member is proved like a reply.
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use crate::books::{Extra, Fate};
use crate::engine::desk::Clock;
use crate::plan::{Load, Plan};
use crate::proof::id::Id;
use crate::proof::{Expect, Proof, Verdict};
use crate::report::Distribution;
use crate::schedule::{Arrival, Schedule};
use crate::tally::{Tally, histogram};

/// Messages a second, if `--rate` does not say.
const RATE: f64 = 50.0;
/// Messages whose deliveries are followed at once, for each publisher.
const FOLLOWED: usize = 4096;
const SECOND: u64 = 1_000_000_000;
/// The room is taken to be settled when nothing came for so long.
const SETTLED: u64 = 200_000_000;
const SIP: usize = 512;
const SIP_EVERY: u64 = 100_000_000;

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cast {
    pub(crate) members: usize,
    pub(crate) rooms: usize,
    pub(crate) publishers: usize,
    pub(crate) slow: usize,
    pub(crate) burst: u32,
}

/// What a chat run has shown beside the common figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChatFigures {
    pub(crate) cast: Cast,
    pub(crate) published: u64,
    pub(crate) deliveries_per_s: f64,
    /// From the planned instant of a message until the last member of the room had it.
    pub(crate) last_member: Distribution,
    /// Pairs of member and publisher that got everything once and in order, and all pairs.
    pub(crate) complete_pairs: u64,
    pub(crate) pairs: u64,
    pub(crate) notices: u64,
    pub(crate) errors: u64,
    /// Slow members that the server cut off.
    pub(crate) slow_cut: u64,
}

/// What one member has seen of one publisher.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Everything before this number has come, or is behind the window.
    next: u32,
    /// Bit n: number next + n has come.
    ahead: u64,
    got: u64,
    faulty: bool,
}

impl Seen {
    /// Notes a number: whether it is new, and whether it is in order.
    fn note(&mut self, seq: u32) -> (bool, bool) {
        let ahead = seq.wrapping_sub(self.next);
        if ahead > u32::MAX / 2 {
            return (false, false);
        }
        if ahead >= 64 {
            // What is left behind the window is given up: it shows as missing.
            *self = Self { next: seq.wrapping_add(1), ahead: 0, got: self.got + 1, faulty: true };
            return (true, true);
        }
        if self.ahead & (1 << ahead) != 0 {
            return (false, false);
        }
        let in_order = self.ahead >> ahead == 0;
        self.ahead |= 1 << ahead;
        self.got += 1;
        while self.ahead & 1 == 1 {
            self.ahead >>= 1;
            self.next = self.next.wrapping_add(1);
        }
        (true, in_order)
    }
}

#[derive(Debug)]
struct Member {
    fd: Option<OwnedFd>,
    partial: Vec<u8>,
    unsent: Vec<u8>,
    slow: bool,
    /// One for each publisher of the room.
    seen: Vec<Seen>,
    sip_at: u64,
}

#[derive(Debug)]
struct Publisher {
    member: usize,
    published: u32,
    /// Planned instants of the latest messages, and how many members still lack each.
    latest: VecDeque<(u32, u64, u32)>,
}

struct Chat<'p> {
    plan: &'p Plan,
    cast: Cast,
    proof: Proof,
    clock: Clock,
    epoll: OwnedFd,
    members: Vec<Member>,
    /// Publisher p of room r is number `r * publishers + p`.
    publishers: Vec<Publisher>,
    tally: Tally,
    last_member: Histogram<u64>,
    figures: (u64, u64, u64),
    input: Vec<u8>,
    arrived_at: u64,
}

/// Runs the scenario.
///
/// # Errors
/// Says why it could not start.
pub(crate) fn run(
    plan: &Plan,
    cast: Cast,
    interrupts: &AtomicU8,
    show: &mut dyn FnMut(crate::tally::Interval),
) -> Result<(Tally, ChatFigures, f64), String> {
    let mut chat = Chat::new(plan, cast)?;
    chat.settle();
    let start = chat.clock.now();
    let stop = start + plan.duration.as_nanos() as u64;
    let (rate, arrival) = match plan.load {
        Load::Open { rate, arrival } => (rate, arrival),
        Load::Closed => (RATE, Arrival::Constant),
    };
    let mut schedule =
        Schedule::new(start, rate / f64::from(cast.burst), (0, 1), arrival, plan.seed);
    let mut turn = 0;
    loop {
        let now = chat.clock.now();
        let stopped = now >= stop || interrupts.load(Ordering::Relaxed) > 0;
        while !stopped && schedule.due() <= now && schedule.due() < stop {
            chat.publish(turn, schedule.due());
            turn = (turn + 1) % chat.publishers.len();
            schedule.advance();
        }
        let second = (now - start) / SECOND;
        if second > chat.tally.interval.second {
            show(chat.tally.turn_second(second));
        }
        if stopped {
            break;
        }
        chat.turn(schedule.due().min(stop).saturating_sub(now));
    }
    let lasted = (chat.clock.now() - start) as f64 / 1e9;
    chat.drain();
    let (tally, figures) = chat.figures(lasted);
    Ok((tally, figures, lasted))
}

impl<'p> Chat<'p> {
    fn new(plan: &'p Plan, cast: Cast) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| e.to_string())?;
        let seen = vec![Seen::default(); cast.publishers];
        let slow_from = cast.members.saturating_sub(cast.slow * cast.rooms);
        let member = |n| Member {
            fd: None,
            partial: Vec::new(),
            unsent: Vec::new(),
            slow: n >= slow_from,
            seen: seen.clone(),
            sip_at: 0,
        };
        let publishers = (0..cast.rooms * cast.publishers)
            // Members are dealt out to the rooms in turn, so the first of each come first.
            .map(|n| Publisher {
                member: n / cast.publishers + n % cast.publishers * cast.rooms,
                published: 0,
                latest: VecDeque::with_capacity(FOLLOWED),
            })
            .collect();
        let mut chat = Self {
            plan,
            cast,
            proof: Proof::new(plan.seed, Expect::Echo, plan.sizes),
            clock: Clock::new(),
            epoll,
            members: (0..cast.members).map(member).collect(),
            publishers,
            tally: Tally::new(false),
            last_member: histogram(),
            figures: (0, 0, 0),
            input: vec![0; 256 << 10],
            arrived_at: 0,
        };
        for index in 0..cast.members {
            chat.join(index)?;
        }
        Ok(chat)
    }

    fn room_of(&self, member: usize) -> usize {
        member % self.cast.rooms
    }

    /// Connects a member, and says its name and room.
    fn join(&mut self, index: usize) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("member {index} cannot connect: {error}");
        let began = self.clock.now();
        let (fd, _) = self.plan.target.connect(None, index as u64).map_err(fail)?;
        let timeout = timespec(self.plan.timeout);
        let up = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&timeout));
        if up.map_err(|e| fail(e.into()))? == 0 {
            return Err(format!("member {index}: no connection in time"));
        }
        rustix::net::sockopt::socket_error(&fd)
            .and_then(|outcome| outcome)
            .map_err(|e| fail(e.into()))?;
        self.tally.connected(self.clock.now() - began);
        let data = epoll::EventData::new_u64(index as u64);
        let flags = if self.members[index].slow {
            epoll::EventFlags::RDHUP
        } else {
            epoll::EventFlags::IN | epoll::EventFlags::RDHUP
        };
        epoll::add(&self.epoll, fd.as_fd(), data, flags).map_err(|e| e.to_string())?;
        self.members[index].fd = Some(fd);
        let mut hello = format!("m{index}\n");
        if self.cast.rooms > 1 {
            hello += &format!("/join load{}\n", self.room_of(index));
        }
        self.send(index, hello.as_bytes());
        Ok(())
    }

    /// Waits until greetings and join notices are through.
    fn settle(&mut self) {
        let began = self.clock.now();
        self.arrived_at = began;
        loop {
            let now = self.clock.now();
            if now > self.arrived_at + SETTLED || now > began + 10 * SECOND {
                return;
            }
            self.turn(SETTLED / 10);
        }
    }

    /// Waits until every delivery is there, or nothing has come for the time-out.
    fn drain(&mut self) {
        let timeout = self.plan.timeout.as_nanos() as u64;
        let began = self.clock.now();
        self.arrived_at = began;
        while self.missing() > 0 && self.clock.now() < self.arrived_at.max(began) + timeout {
            self.turn(SETTLED / 10);
        }
        // Duplicates of the last message.
        while self.clock.now() < self.arrived_at + SETTLED / 4 {
            self.turn(SETTLED / 40);
        }
    }

    fn missing(&self) -> u64 {
        self.tally.books.sent - self.tally.books.ok - self.tally.books.corrupt
    }

    fn send(&mut self, index: usize, bytes: &[u8]) {
        let member = &mut self.members[index];
        member.unsent.extend_from_slice(bytes);
        let Some(fd) = &member.fd else { return };
        match rustix::net::send(fd, &member.unsent, SendFlags::NOSIGNAL) {
            Ok(count) => {
                self.tally.books.bytes_sent += count as u64;
                member.unsent.drain(..count);
            }
            // What the socket does not take now goes with the next; a lost connection is seen by reading.
            Err(_) => {}
        }
    }

    /// A publisher writes its burst.
    fn publish(&mut self, number: usize, planned: u64) {
        let room = number / self.cast.publishers;
        let readers = (0..self.cast.members)
            .filter(|&m| self.room_of(m) == room && !self.members[m].slow)
            .count() as u32;
        let mut lines = Vec::new();
        for _ in 0..self.cast.burst {
            let publisher = &mut self.publishers[number];
            let id = Id { conn: number as u32, seq: publisher.published };
            publisher.published += 1;
            if publisher.latest.len() == FOLLOWED {
                publisher.latest.pop_front();
            }
            publisher.latest.push_back((id.seq, planned, readers));
            self.proof.append_request(id, &mut lines);
            lines.push(b'\n');
            self.tally.books.sent += u64::from(readers);
            self.figures.0 += 1;
        }
        let member = self.publishers[number].member;
        self.send(member, &lines);
    }

    fn turn(&mut self, wait: u64) {
        let timeout = timespec(Duration::from_nanos(wait.min(20_000_000)));
        let mut events = Vec::with_capacity(256);
        if epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)).is_err() {
            return;
        }
        for event in events {
            self.read(event.data.u64() as usize);
        }
        let now = self.clock.now();
        for index in 0..self.members.len() {
            if !self.members[index].unsent.is_empty() {
                self.send(index, b"");
            }
            if self.members[index].slow && now >= self.members[index].sip_at {
                self.members[index].sip_at = now + SIP_EVERY;
                self.read(index);
            }
        }
    }

    fn read(&mut self, index: usize) {
        let member = &mut self.members[index];
        let Some(fd) = &member.fd else { return };
        let mut input = std::mem::take(&mut self.input);
        let kept = member.partial.len();
        input[..kept].copy_from_slice(&member.partial);
        let end = if member.slow { input.len().min(kept + SIP) } else { input.len() };
        match rustix::net::recv(fd, &mut input[kept..end], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => self.gone(index),
            Ok((_, count)) => {
                self.tally.books.bytes_received += count as u64;
                self.arrived_at = self.clock.now();
                if !member.slow {
                    self.lines(index, &input[..kept + count]);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.gone(index),
        }
        self.input = input;
    }

    fn gone(&mut self, index: usize) {
        self.members[index].fd = None;
        if self.members[index].slow {
            self.tally.books.side_closed += 1;
        } else {
            self.tally.books.closed_by_server += 1;
        }
    }

    fn lines(&mut self, index: usize, bytes: &[u8]) {
        let now = self.clock.now();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            self.line(index, line, now);
            rest = &rest[end + 1..];
        }
        let partial = &mut self.members[index].partial;
        partial.clear();
        // A line without an end is no chat; what does not fit is forgotten.
        partial.extend_from_slice(&rest[..rest.len().min(128 << 10)]);
    }

    fn line(&mut self, index: usize, line: &[u8], now: u64) {
        match line.first() {
            Some(b'*') => self.figures.1 += 1,
            Some(b'!') => self.figures.2 += 1,
            _ => self.delivery(index, line, now),
        }
    }

    /// `NAME: TEXT` has come to a member.
    fn delivery(&mut self, index: usize, line: &[u8], now: u64) {
        let whose = index as u32;
        let Some(at) = line.windows(2).position(|pair| pair == b": ") else {
            self.tally.extra(Extra::Unsolicited, (whose, None), line);
            return;
        };
        let (name, text) = (&line[..at], &line[at + 2..]);
        let (id, whole) = match self.proof.judge(text) {
            Verdict::Whole(id) => (id, true),
            Verdict::Truncated(id) | Verdict::Corrupt(id) => (id, false),
            Verdict::Nameless => {
                self.tally.extra(Extra::Unsolicited, (whose, None), line);
                return;
            }
        };
        let number = id.conn as usize;
        let known = self.publishers.get(number).is_some_and(|p| id.seq < p.published);
        if !known || number / self.cast.publishers != self.room_of(index) {
            self.tally.extra(Extra::Crossed, (whose, Some(id.seq)), line);
            return;
        }
        let said_by = format!("m{}", self.publishers[number].member);
        let (new, in_order) = self.members[index].seen[number % self.cast.publishers].note(id.seq);
        if !new {
            self.mark_faulty(index, number);
            self.tally.extra(Extra::Duplicate, (whose, Some(id.seq)), line);
            return;
        }
        if !whole || name != said_by.as_bytes() {
            self.mark_faulty(index, number);
            self.tally.books.settle(Fate::Corrupt);
            return;
        }
        if !in_order {
            self.mark_faulty(index, number);
            self.tally.extra(Extra::Reordered, (whose, Some(id.seq)), line);
        }
        self.delivered(number, id.seq, now);
    }

    fn mark_faulty(&mut self, index: usize, number: usize) {
        self.members[index].seen[number % self.cast.publishers].faulty = true;
    }

    fn delivered(&mut self, number: usize, seq: u32, now: u64) {
        self.tally.books.settle(Fate::Ok);
        self.tally.measured += 1;
        let latest = &mut self.publishers[number].latest;
        let Some(&(first, _, _)) = latest.front() else { return };
        let Some((_, planned, left)) = latest.get_mut(seq.wrapping_sub(first) as usize) else {
            return;
        };
        *left = left.saturating_sub(1);
        let times = crate::proof::window::Times { planned: *planned, sent: *planned };
        if *left == 0 {
            self.last_member.saturating_record(now.saturating_sub(*planned));
        }
        self.tally.latency(times, now);
    }

    fn figures(mut self, lasted: f64) -> (Tally, ChatFigures) {
        self.tally.books.lost = self.missing();
        let readers = self.members.iter().enumerate().filter(|(_, member)| !member.slow);
        let (mut pairs, mut complete) = (0, 0);
        for (index, member) in readers {
            for (p, seen) in member.seen.iter().enumerate() {
                let number = self.room_of(index) * self.cast.publishers + p;
                let published = u64::from(self.publishers[number].published);
                pairs += 1;
                complete += u64::from(!seen.faulty && seen.got == published);
            }
        }
        let (published, notices, errors) = self.figures;
        let figures = ChatFigures {
            cast: self.cast,
            published,
            deliveries_per_s: self.tally.books.ok as f64 / lasted.max(1e-9),
            last_member: Distribution::of(&self.last_member),
            complete_pairs: complete,
            pairs,
            notices,
            errors,
            slow_cut: self.tally.books.side_closed,
        };
        (self.tally, figures)
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn every_number_is_new_once_and_order_is_watched() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(0), (true, true));
        assert_eq!(seen.note(2), (true, true));
        assert_eq!(seen.note(1), (true, false));
        assert_eq!(seen.note(1), (false, false));
        assert_eq!(seen.note(3), (true, true));
        assert_eq!(seen.note(500), (true, true));
        assert_eq!(seen.note(4), (false, false));
        assert_eq!(seen.got, 5);
    }
}
