//! The books of a run: what became of every request, what came unasked, and the first examples of each fault.
use serde::{Deserialize, Serialize};

/// What became of a request. Every request has exactly one fate, so the fates add up to what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The right reply, in time.
    Ok,
    /// The right reply, after it had been given up.
    Late,
    /// No reply.
    Lost,
    /// A reply with wrong bytes.
    Corrupt,
    /// Only the beginning of the reply.
    Truncated,
    /// The server closed the connection first.
    EarlyClose,
    /// The connection was reset.
    Reset,
    /// Nobody there (an ICMP error on a datagram socket).
    Refused,
    /// Sent after the server was told to stop, and closed cleanly without an answer: no fault.
    Declined,
    /// Sent with `--expect none`: nothing to prove.
    Unproved,
    /// Open when the second Ctrl-C came.
    Abandoned,
}

/// What arrived without answering an open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    /// A second reply to one request.
    Duplicate,
    /// A reply that belongs to another connection.
    Crossed,
    /// A right reply that came after a later one's: a fault on a stream, a statistic on datagrams.
    Reordered,
    /// Bytes that answer nothing.
    Unsolicited,
}

/// Examples kept of each class, and of how many bytes.
const EXAMPLES_MAX: usize = 5;
const EXAMPLE_BYTES: usize = 96;

impl Fate {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::EarlyClose => "early_close",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Declined => "declined",
            Self::Unproved => "unproved",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Extra {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Crossed => "crossed",
            Self::Reordered => "reordered",
            Self::Unsolicited => "unsolicited",
        }
    }
}

/// One fault, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Example {
    pub(crate) class: String,
    pub(crate) connection: u32,
    /// The request concerned, where one is known.
    pub(crate) sequence: Option<u32>,
    /// The first bytes that came, in hex.
    pub(crate) got: String,
    /// The first bytes that should have come, in hex.
    pub(crate) expected: String,
    /// The lengths of both.
    pub(crate) got_bytes: usize,
    pub(crate) expected_bytes: usize,
}

/// All counters of a run, or of one thread's part in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Books {
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) late: u64,
    pub(crate) lost: u64,
    pub(crate) corrupt: u64,
    pub(crate) truncated: u64,
    pub(crate) early_close: u64,
    pub(crate) reset: u64,
    pub(crate) refused: u64,
    pub(crate) declined: u64,
    pub(crate) unproved: u64,
    pub(crate) abandoned: u64,

    /// Planned requests that were never sent, because no connection could take them in time.
    pub(crate) unsent: u64,

    pub(crate) duplicate: u64,
    pub(crate) crossed: u64,
    pub(crate) reordered: u64,
    pub(crate) unsolicited: u64,

    /// Empty datagrams, which carry no id: only their number can be proved.
    pub(crate) empty_sent: u64,
    pub(crate) empty_answered: u64,

    pub(crate) connected: u64,
    pub(crate) connect_refused: u64,
    pub(crate) connect_failed: u64,
    /// Connections that the server closed, and that it reset.
    pub(crate) closed_by_server: u64,
    pub(crate) reset_by_server: u64,
    /// Connections that did not close after our half-close.
    pub(crate) never_closed: u64,
    /// Silent, slow or dribbling connections that the server ended.
    pub(crate) side_closed: u64,
    /// What slow readers could send before the server stopped reading them.
    pub(crate) side_bytes_sent: u64,

    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) examples: Vec<Example>,
}

impl Books {
    #[inline]
    fn fate_mut(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Ok => &mut self.ok,
            Fate::Late => &mut self.late,
            Fate::Lost => &mut self.lost,
            Fate::Corrupt => &mut self.corrupt,
            Fate::Truncated => &mut self.truncated,
            Fate::EarlyClose => &mut self.early_close,
            Fate::Reset => &mut self.reset,
            Fate::Refused => &mut self.refused,
            Fate::Declined => &mut self.declined,
            Fate::Unproved => &mut self.unproved,
            Fate::Abandoned => &mut self.abandoned,
        }
    }

    /// A request has met its fate.
    #[inline]
    pub(crate) fn settle(&mut self, fate: Fate) {
        *self.fate_mut(fate) += 1;
    }

    /// A request thought lost, or declined by a draining server, has met another fate after all.
    pub(crate) fn revise_lost(&mut self, fate: Fate) {
        debug_assert!(self.lost + self.declined > 0, "nothing was lost");
        if self.lost > 0 {
            self.lost -= 1;
        } else {
            self.declined = self.declined.saturating_sub(1);
        }
        self.settle(fate);
    }

    /// Something came that answers no open request.
    pub(crate) fn extra(&mut self, extra: Extra) {
        match extra {
            Extra::Duplicate => self.duplicate += 1,
            Extra::Crossed => self.crossed += 1,
            Extra::Reordered => self.reordered += 1,
            Extra::Unsolicited => self.unsolicited += 1,
        }
    }

    /// Whether another example of this class is wanted.
    pub(crate) fn wants_example(&self, class: &str) -> bool {
        self.examples.iter().filter(|e| e.class == class).count() < EXAMPLES_MAX
    }

    /// Keeps an example.
    pub(crate) fn keep_example(
        &mut self,
        class: &str,
        (connection, sequence): (u32, Option<u32>),
        got: &[u8],
        expected: &[u8],
    ) {
        self.examples.push(Example {
            class: class.to_owned(),
            connection,
            sequence,
            got: hex(got),
            expected: hex(expected),
            got_bytes: got.len(),
            expected_bytes: expected.len(),
        });
    }

    /// The fates, by name.
    pub(crate) fn fates(&self) -> [(&'static str, u64); 11] {
        [
            (Fate::Ok.name(), self.ok),
            (Fate::Late.name(), self.late),
            (Fate::Lost.name(), self.lost),
            (Fate::Corrupt.name(), self.corrupt),
            (Fate::Truncated.name(), self.truncated),
            (Fate::EarlyClose.name(), self.early_close),
            (Fate::Reset.name(), self.reset),
            (Fate::Refused.name(), self.refused),
            (Fate::Declined.name(), self.declined),
            (Fate::Unproved.name(), self.unproved),
            (Fate::Abandoned.name(), self.abandoned),
        ]
    }

    /// Whether every request sent has exactly one fate.
    pub(crate) fn balance(&self) -> bool {
        self.fates().iter().map(|(_, count)| count).sum::<u64>() == self.sent
    }

    /// Empty datagrams that got no empty answer.
    pub(crate) fn empty_lost(&self) -> u64 {
        self.empty_sent.saturating_sub(self.empty_answered)
    }

    /// Requests without a reply, and replies that came too late to count.
    pub(crate) fn missing(&self) -> u64 {
        self.lost + self.late + self.refused + self.empty_lost()
    }

    /// Replies that are wrong, whatever loss is tolerated.
    pub(crate) fn wrong(&self, stream: bool) -> u64 {
        let always =
            self.corrupt + self.truncated + self.duplicate + self.crossed + self.unsolicited;
        let cut = self.early_close + self.reset;
        always + cut + if stream { self.reordered } else { 0 }
    }

    /// Everything that is not as it should be, for progress lines.
    pub(crate) fn faults(&self) -> u64 {
        self.missing() + self.wrong(false) + self.connect_refused + self.connect_failed
    }

    /// Adds another thread's books.
    pub(crate) fn add(&mut self, other: &Self) {
        let numbers = [
            (&mut self.sent, other.sent),
            (&mut self.ok, other.ok),
            (&mut self.late, other.late),
            (&mut self.lost, other.lost),
            (&mut self.corrupt, other.corrupt),
            (&mut self.truncated, other.truncated),
            (&mut self.early_close, other.early_close),
            (&mut self.reset, other.reset),
            (&mut self.refused, other.refused),
            (&mut self.declined, other.declined),
            (&mut self.unproved, other.unproved),
            (&mut self.abandoned, other.abandoned),
            (&mut self.unsent, other.unsent),
            (&mut self.duplicate, other.duplicate),
            (&mut self.crossed, other.crossed),
            (&mut self.reordered, other.reordered),
            (&mut self.unsolicited, other.unsolicited),
            (&mut self.empty_sent, other.empty_sent),
            (&mut self.empty_answered, other.empty_answered),
            (&mut self.connected, other.connected),
            (&mut self.connect_refused, other.connect_refused),
            (&mut self.connect_failed, other.connect_failed),
            (&mut self.closed_by_server, other.closed_by_server),
            (&mut self.reset_by_server, other.reset_by_server),
            (&mut self.never_closed, other.never_closed),
            (&mut self.side_closed, other.side_closed),
            (&mut self.side_bytes_sent, other.side_bytes_sent),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_received, other.bytes_received),
        ];
        for (mine, theirs) in numbers {
            *mine += theirs;
        }
        for example in &other.examples {
            if self.wants_example(&example.class) {
                self.examples.push(example.clone());
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for byte in &bytes[..bytes.len().min(EXAMPLE_BYTES)] {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    if bytes.len() > EXAMPLE_BYTES {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Books, Extra, Fate};

    #[test]
    fn books_balance_only_if_every_request_has_one_fate() {
        let mut books = Books { sent: 3, ..Books::default() };
        books.settle(Fate::Ok);
        books.settle(Fate::Lost);
        assert!(!books.balance());
        books.settle(Fate::Lost);
        books.revise_lost(Fate::Late);
        books.extra(Extra::Duplicate);
        assert!(books.balance());
        assert_eq!((books.lost, books.late, books.duplicate), (1, 1, 1));
    }

    #[test]
    fn five_examples_of_a_class_are_kept() {
        let mut one = Books::default();
        for n in 0..5 {
            assert!(one.wants_example("lost"));
            one.keep_example("lost", (n, None), b"", b"a");
        }
        assert!(!one.wants_example("lost") && one.wants_example("late"));
        let mut two = one.clone();
        two.add(&one);
        assert_eq!(two.examples.len(), 5);
    }
}
