//! The page that says what is proven here of other frameworks' tests, and what is left out, and why.

use std::fs;
use std::path::Path;

use parking_lot::Mutex;

use crate::row::{Mode, Over, Row, Suite};

/// Where it is kept.
const PAGE: &str = "tests/PORTED.md";

/// What became of each row.
pub(crate) struct Results {
    rows: Vec<&'static Row>,
    /// The fields of the matrix that failed, for each row.
    failed: Mutex<Vec<Vec<(Mode, Over)>>>,
}

impl Results {
    pub(crate) fn new(rows: &[&'static Row]) -> Self {
        Self { rows: rows.to_vec(), failed: Mutex::new(vec![Vec::new(); rows.len()]) }
    }

    pub(crate) fn note(&self, index: usize, field: (Mode, Over), passed: bool) {
        if !passed {
            self.failed.lock()[index].push(field);
        }
    }

    /// Compares the page with what has happened, and writes it anew if it says something else.
    pub(crate) fn match_the_page(&self) -> bool {
        let page = self.page();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        if fs::read_to_string(&path).is_ok_and(|kept| kept == page) {
            return true;
        }
        let written = fs::write(&path, page);
        let what = match written {
            Ok(()) => format!("{PAGE} was stale and is written anew: read and commit it\n"),
            Err(error) => format!("{PAGE} is stale, and cannot be written: {error}\n"),
        };
        drop(std::io::Write::write_all(&mut std::io::stderr(), what.as_bytes()));
        false
    }

    fn page(&self) -> String {
        let mut page = INTRODUCTION.to_owned();
        for (suite, title, left_out) in SUITES {
            page.push_str(&format!("\n## {title}\n\n"));
            page.push_str("| number | claim | modes | over | result |\n|---|---|---|---|---|\n");
            for (index, row) in self.rows.iter().enumerate().filter(|(_, row)| row.suite == *suite)
            {
                let Row { number, name, .. } = row;
                let modes = row.modes.iter().map(|mode| mode.word());
                let over = row.over.iter().map(|over| over.word());
                let (modes, over, result) = (joined(modes), joined(over), self.result(index));
                let fields = [*number, *name, &modes, &over, &result];
                page.push_str(&format!("| {} |\n", fields.join(" | ")));
            }
            page.push_str("\nLeft out, or less than was asked for there:\n\n");
            for (numbers, why) in *left_out {
                page.push_str(&format!("- {numbers}: {why}\n"));
            }
        }
        page
    }

    fn result(&self, index: usize) -> String {
        let mut failed = self.failed.lock()[index]
            .iter()
            .map(|(mode, over)| format!("{}/{}", mode.word(), over.word()))
            .collect::<Vec<_>>();
        failed.sort();
        match failed.is_empty() {
            true => "passed".to_owned(),
            false => format!("**failed**: {}", failed.join(", ")),
        }
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

const INTRODUCTION: &str = "\
# Tests of other frameworks, ported

Written by `cargo test --test ported`, from what it ran; a run that finds this page different writes it anew and fails.
A row is one claim of another framework's tests, said in our words and proven against a server of ours under each
concurrency and over each transport that it names. `any` stands for claims about several transports at once, or none.
Rows of one number are parts of one test there.
";

/// Numbers, and why they are left out.
type LeftOut = &'static [(&'static str, &'static str)];

/// The suites, in the page's order, with what is left out of each and why.
const SUITES: &[(Suite, &str, LeftOut)] = &[
    (
        Suite::Socketserver,
        "Python's `socketserver`: its own tests",
        &[
            (
                "of 3, 6, 9, 12",
                "the server that forks. Only that nobody else's children are reaped is a claim here.",
            ),
            (
                "of 21, 22",
                "handlers in processes. The rows of these numbers prove the same in a pool.",
            ),
            (
                "of 23",
                "the descriptor of a conversation is not handed out: its deadlines are kept by the server.",
            ),
        ],
    ),
    (
        Suite::Beyond,
        "Python's `socketserver`: what is promised or goes wrong there, and has no test",
        &[
            ("of X1", "20 ms are of the best of five, since the machine of a test may be busy."),
            (
                "X14",
                "a process without descriptors has a test where the limit can be set: `tests/regressions.rs`, and unit tests of the error table.",
            ),
            ("X16", "there is no TLS here yet."),
            ("X21, X22", "`tests/writes.rs` and `tests/deadlines.rs` prove them with more detail."),
            (
                "X24",
                "of the policies at the limit only waiting in the queue exists (`tests/concurrency.rs`).",
            ),
            (
                "X30",
                "`tests/listeners.rs` proves that sockets which the program has bound are taken over; descriptors by `LISTEN_FDS` are the program's to take.",
            ),
        ],
    ),
    (
        Suite::Acceptors,
        "Ranch and Thousand Island, and what they lack",
        &[
            (
                "13-22",
                "accept errors on purpose need a socket that fails on purpose; the table of errors has unit tests beside it.",
            ),
            (
                "23-35",
                "limits: `tests/concurrency.rs`; alarms, limits per source and eviction of connections do not exist here.",
            ),
            ("36-46", "there is neither TLS nor the PROXY protocol here yet."),
            ("61-70", "timeouts: `tests/deadlines.rs`."),
            (
                "71-74",
                "suspending and the port that is kept: `tests/suspend.rs`; drains under load, and with a full queue: `tests/drain.rs`.",
            ),
            (
                "80, 81, 87-90",
                "signals: `tests/examples/`; socket files: X17 and `tests/unix.rs`; the others have no counterpart here.",
            ),
            (
                "of 55",
                "read as `Switch`: nothing here runs between two messages but a successor's setup.",
            ),
            (
                "of 77",
                "only a conversation that waits for its next message is woken, within 100 ms, the best of three. One in the middle of a message or of a write may finish it within the drain's time; `is_draining` tells it.",
            ),
            (
                "of 78",
                "100 ms are of the best of three, since the machine of a test may be busy. Over TCP newcomers are not refused but unanswered until the drain ends: so nobody is reset whose handshake is under way. Over datagrams nobody connects.",
            ),
            ("92", "a port is moved by a second server, before the first one is drained."),
            (
                "of 93",
                "counters are the server's: several sockets on one port have none of their own, though each event names the listener.",
            ),
            (
                "of 96",
                "there are no acceptors that start and stop on their own. What was sent and received is in the counters, and in the `Traffic` of each end; there is no event for each read and write.",
            ),
            (
                "of 97",
                "a logger is attached and taken away by the level of the `log` crate, which is the program's. No setting holds a secret that would have to be masked.",
            ),
            (
                "of 98",
                "the list is an observer's: the server hands none out. Threads are named after the server and their role, not after a port, since they serve all of them.",
            ),
            ("100", "there is no sendfile here."),
            (
                "103-107, 109",
                "workers of ours run no code that could kill them: panics end in their turn (`tests/isolation.rs`). Footprints: `tests/resources.rs`.",
            ),
            (
                "of 117",
                "a reply that the system refuses (EMSGSIZE, over Unix sockets) is counted, and an event without the handler being told: it has returned by then. ENOBUFS cannot be had on purpose.",
            ),
        ],
    ),
];
