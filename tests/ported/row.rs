//! One row of the tables: a claim with its number, and the fields of the matrix that it is proven in.

use crate::harness::{On, modes, transports};

/// Whose tests a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suite {
    /// Python's own tests of its module.
    Socketserver,
    /// What is promised, or goes wrong, there, and has no test.
    Beyond,
    /// The tests of Ranch and Thousand Island, and what they lack.
    Acceptors,
}

impl Suite {
    /// As it begins the names of its tests.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Socketserver => "socketserver",
            Self::Beyond => "beyond",
            Self::Acceptors => "acceptors",
        }
    }
}

/// How handlers run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Inline,
    Threads,
    Pool,
}

impl Mode {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Threads => "threads",
            Self::Pool => "pool",
        }
    }

    fn concurrency(self) -> switchboard::Concurrency {
        match self {
            Self::Inline => modes::inline(),
            Self::Threads => modes::threads(),
            Self::Pool => modes::pool(),
        }
    }
}

/// What peers speak over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Tcp,
    Unix,
    Udp,
    UnixGram,
    /// The claim is about several at once, or about none.
    Any,
}

impl Over {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Udp => "udp",
            Self::UnixGram => "unixgram",
            Self::Any => "any",
        }
    }
}

pub(crate) const EVERY: &[Mode] = &[Mode::Inline, Mode::Threads, Mode::Pool];
pub(crate) const INLINE: &[Mode] = &[Mode::Inline];
pub(crate) const SEVERAL: &[Mode] = &[Mode::Threads, Mode::Pool];
pub(crate) const THREADS: &[Mode] = &[Mode::Threads];
pub(crate) const POOL: &[Mode] = &[Mode::Pool];
pub(crate) const PARKING: &[Mode] = &[Mode::Inline, Mode::Pool];

pub(crate) const TCP: &[Over] = &[Over::Tcp];
pub(crate) const UNIX: &[Over] = &[Over::Unix];
pub(crate) const UDP: &[Over] = &[Over::Udp];
pub(crate) const UNIXGRAM: &[Over] = &[Over::UnixGram];
pub(crate) const INTERNET: &[Over] = &[Over::Tcp, Over::Udp];
pub(crate) const FILES: &[Over] = &[Over::Unix, Over::UnixGram];
pub(crate) const STREAMS: &[Over] = &[Over::Tcp, Over::Unix];
pub(crate) const DATAGRAMS: &[Over] = &[Over::Udp, Over::UnixGram];
pub(crate) const ALL: &[Over] = &[Over::Tcp, Over::Unix, Over::Udp, Over::UnixGram];
pub(crate) const ANY: &[Over] = &[Over::Any];

/// A claim, and where it is proven.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) suite: Suite,
    pub(crate) number: &'static str,
    pub(crate) name: &'static str,
    pub(crate) modes: &'static [Mode],
    pub(crate) over: &'static [Over],
    pub(crate) claim: fn(On),
    /// It looks at the whole process, or changes it: it gets one of its own.
    pub(crate) alone: bool,
}

/// A test of Python's.
pub(crate) const fn python(
    number: &'static str,
    name: &'static str,
    (modes, over): (&'static [Mode], &'static [Over]),
    claim: fn(On),
) -> Row {
    Row { suite: Suite::Socketserver, number, name, modes, over, claim, alone: false }
}

/// A test that Python lacks.
pub(crate) const fn beyond(
    number: &'static str,
    name: &'static str,
    fields: (&'static [Mode], &'static [Over]),
    claim: fn(On),
) -> Row {
    Row { suite: Suite::Beyond, ..python(number, name, fields, claim) }
}

/// A test of the acceptors' suites.
pub(crate) const fn acceptors(
    number: &'static str,
    name: &'static str,
    fields: (&'static [Mode], &'static [Over]),
    claim: fn(On),
) -> Row {
    Row { suite: Suite::Acceptors, ..python(number, name, fields, claim) }
}

impl Row {
    pub(crate) const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// Where tables and tests put it: by its number, `X2` before `X10`.
    pub(crate) fn place(&self) -> (Suite, u32) {
        let digits = self.number.trim_start_matches('X').parse();
        (self.suite, digits.expect("invariant: a number"))
    }

    /// The name of its test in one field of the matrix.
    pub(crate) fn test(&self, mode: Mode, over: Over) -> String {
        let word = |part: &str| part.to_lowercase();
        let words = self.name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        let slug = words.map(word).collect::<Vec<_>>().join("_");
        let (suite, number) = (self.suite.word(), self.number);
        format!("{suite}::{number}_{slug}::{}::{}", mode.word(), over.word())
    }

    /// The fields of the matrix that it is proven in.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (Mode, Over)> + use<> {
        let (modes, over) = (self.modes, self.over);
        modes.iter().flat_map(move |mode| over.iter().map(move |over| (*mode, *over)))
    }

    pub(crate) fn run(&self, mode: Mode, over: Over) {
        let transport = match over {
            Over::Tcp | Over::Any => transports::tcp(),
            Over::Unix => transports::unix(),
            Over::Udp => transports::udp(),
            Over::UnixGram => transports::unixgram(),
        };
        (self.claim)(On::new(mode.concurrency(), transport));
    }
}
