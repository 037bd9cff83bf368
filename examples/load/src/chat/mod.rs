//! The chat scenario: messages go in at one place and must come out at every member of the room, once and in order.
//!
//! One thread. A request is a line of one member; every delivery of it to a member is proved like a reply.
mod deliver;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};

use crate::chat::deliver::Seen;
use crate::engine::desk::Clock;
use crate::plan::{Load, Plan};
use crate::proof::id::Id;
use crate::proof::{Expect, Proof};
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
        // What the socket does not take now goes with the next; a lost connection is seen by reading.
        if let Ok(count) = rustix::net::send(fd, &member.unsent, SendFlags::NOSIGNAL) {
            self.tally.books.bytes_sent += count as u64;
            member.unsent.drain(..count);
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
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}
