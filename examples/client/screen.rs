//! What the person sees: messages, a prompt, complaints.

use std::io::{self, IsTerminal, Write};

const PROMPT: &[u8] = b">>> ";

/// To the beginning of the line, and delete it: a message takes the place of the prompt.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// Whether a person is there, and so what stdout gets.
#[derive(Clone, Copy)]
pub(crate) enum Screen {
    /// Messages as they are.
    File,
    /// Messages without what would command the terminal.
    Terminal,
    /// The same, with a prompt.
    Dialogue,
}

impl Screen {
    pub(crate) fn new() -> Self {
        match (io::stdout().is_terminal(), io::stdin().is_terminal()) {
            (true, true) => Self::Dialogue,
            (true, false) => Self::Terminal,
            (false, _) => Self::File,
        }
    }

    pub(crate) fn prompt(self) -> io::Result<()> {
        match self {
            Self::Dialogue => write_at_once(&[PROMPT]),
            Self::File | Self::Terminal => Ok(()),
        }
    }

    /// Shows a message, on a line of its own.
    pub(crate) fn show(self, message: &[u8]) -> io::Result<()> {
        let end: &[u8] = if message.ends_with(b"\n") { b"" } else { b"\n" };
        match self {
            Self::File => write_at_once(&[message, end]),
            Self::Terminal => write_at_once(&[harmless(message).as_bytes(), end]),
            Self::Dialogue => {
                write_at_once(&[CLEAR_LINE, harmless(message).as_bytes(), end, PROMPT])
            }
        }
    }

    pub(crate) fn complain(what: &str) {
        // Whoever closed stderr does not want to know.
        drop(writeln!(io::stderr(), "client: {what}"));
    }
}

fn write_at_once(pieces: &[&[u8]]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    pieces.iter().try_for_each(|piece| out.write_all(piece))?;
    out.flush()
}

/// Text that a terminal shows and does not obey.
fn harmless(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let shown = text.chars().filter(|&c| c != '\r');
    shown.map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
