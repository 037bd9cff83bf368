//! What comes out of the chat: every delivery to every member is proved, and the matrix is checked for gaps.
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::books::{Extra, Fate};
use crate::chat::{Chat, ChatFigures, SIP};
use crate::proof::Verdict;
use crate::proof::window::Times;
use crate::report::Distribution;
use crate::tally::Tally;

/// What one member has seen of one publisher.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Everything before this number has come, or is behind the window.
    next: u32,
    /// Bit n: number next + n has come.
    ahead: u64,
    pub(super) got: u64,
    pub(super) faulty: bool,
}

impl Seen {
    /// Notes a number: whether it is new, and whether it is in order.
    pub(super) fn note(&mut self, seq: u32) -> (bool, bool) {
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

impl Chat<'_> {
    pub(super) fn read(&mut self, index: usize) {
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
        let times = Times { planned: *planned, sent: *planned };
        if *left == 0 {
            self.last_member.saturating_record(now.saturating_sub(*planned));
        }
        self.tally.latency(times, now);
    }

    pub(super) fn figures(mut self, lasted: f64) -> (Tally, ChatFigures) {
        self.tally.settle_latency();
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
