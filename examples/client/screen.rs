//! What the person sees: messages, a prompt, complaints.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

const PROMPT: &[u8] = b">>> ";

/// To the beginning of the line, and delete it: a message takes the place of the prompt.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// Whether the prompt stands at the end of what the terminal shows: an answer that is quicker than the next
/// prompt brings one along. It changes under the lock of stdout.
static PROMPT_STANDS: AtomicBool = AtomicBool::new(false);

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

    /// Asks for a line, unless that was done already.
    pub(crate) fn prompt(self) -> io::Result<()> {
        match self {
            Self::Dialogue => {
                let mut out = io::stdout().lock();
                if PROMPT_STANDS.swap(true, Ordering::Relaxed) {
                    return Ok(());
                }
                out.write_all(PROMPT)?;
                out.flush()
            }
            Self::File | Self::Terminal => Ok(()),
        }
    }

    /// The person has entered a line.
    pub(crate) fn entered(self) {
        let _out = io::stdout().lock();
        PROMPT_STANDS.store(false, Ordering::Relaxed);
    }

    /// Shows a message, on a line of its own.
    pub(crate) fn show(self, message: &[u8]) -> io::Result<()> {
        let end: &[u8] = if message.ends_with(b"\n") { b"" } else { b"\n" };
        match self {
            Self::File => write_at_once(&[message, end]),
            Self::Terminal => write_at_once(&[harmless(message).as_bytes(), end]),
            Self::Dialogue => {
                let _out = io::stdout().lock();
                PROMPT_STANDS.store(true, Ordering::Relaxed);
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
