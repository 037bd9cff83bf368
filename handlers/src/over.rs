//! A wrapper that gives any handler a way to say goodbye: a word that ends the conversation.

use std::io;
use std::sync::Arc;

use switchboard::{CloseReason, Context, FrameError, Handler, Next};

/// Ends the conversation when the peer says a quit word; every other message goes to the handler inside.
///
/// The quit word itself is not answered. Replies to earlier messages are flushed before the close.
///
/// # Not guaranteed
/// With raw framing a message is what one read returned: a quit word that arrives in two pieces, or glued
/// to something else, is none. A framing such as lines makes it certain.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use switchboard::{Framing, Server};
/// use switchboard_handlers::{Over, Upper};
///
/// let server =
///     Server::new(|_peer| Over::new(Upper)).framing(Framing::lines()).tcp("127.0.0.1:0").spawn()?;
/// let address = server.addresses()[0].socket_addr().expect("a TCP listener has one");
///
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"the game is over\nover\nno one hears this\n")?;
/// let mut answers = String::new();
/// client.read_to_string(&mut answers)?;
/// assert_eq!(answers, "THE GAME IS OVER\n");
/// server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Over<H> {
    inner: H,
    quit: QuitWords,
}

impl<H> Over<H> {
    /// Ends the conversation at `over`.
    #[must_use]
    pub fn new(inner: H) -> Self {
        Self::with_words(inner, QuitWords::default())
    }

    /// Ends the conversation at one of these words.
    #[must_use]
    pub const fn with_words(inner: H, quit: QuitWords) -> Self {
        Self { inner, quit }
    }

    fn keep(&self, next: Next) -> Next {
        match next {
            Next::Switch(handler) => {
                Next::Switch(Box::new(Over::with_words(handler, self.quit.clone())))
            }
            other => other,
        }
    }
}

impl<H: Handler> Handler for Over<H> {
    fn handle(&mut self, message: &[u8], cx: &mut Context<'_>) -> io::Result<Next> {
        if self.quit.contains(message) {
            return Ok(self.quit.next());
        }
        let next = self.inner.handle(message, cx)?;
        Ok(self.keep(next))
    }

    pass_on_all_but_handle!();
}

/// The words that end a conversation. Made once, cloned for every peer; the default is `over`.
///
/// ```
/// use switchboard::Server;
/// use switchboard_handlers::{Over, QuitWords, Upper};
///
/// let quit = QuitWords::new(["q", "bye"]).ignore_case().stop_server();
/// let server = Server::new(move |_peer| Over::with_words(Upper, quit.clone()));
/// # let _ = server;
/// ```
#[derive(Clone, Debug)]
pub struct QuitWords {
    words: Arc<[String]>,
    case: Case,
    ends: Ends,
}

/// When two words are the same.
#[derive(Clone, Copy, Debug)]
enum Case {
    Exact,
    Ignored,
}

/// What a quit word ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Conversation,
    Server,
}

impl Default for QuitWords {
    fn default() -> Self {
        Self::new(["over"])
    }
}

impl QuitWords {
    /// Each of these words ends the conversation. White space around them does not count.
    #[must_use]
    pub fn new<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().trim().to_owned()).collect();
        Self { words, case: Case::Exact, ends: Ends::Conversation }
    }

    /// Small and capital letters are the same, those of other alphabets too.
    #[must_use]
    pub fn ignore_case(self) -> Self {
        Self { case: Case::Ignored, ..self }
    }

    /// A quit word ends the whole server as well, which is drained.
    #[must_use]
    pub fn stop_server(self) -> Self {
        Self { ends: Ends::Server, ..self }
    }

    /// Whether the message is one of the words: the whole of it, but for white space at both ends.
    ///
    /// ```
    /// use switchboard_handlers::QuitWords;
    ///
    /// assert!(QuitWords::default().contains(b"over\r\n"));
    /// assert!(!QuitWords::default().contains(b"moreover"));
    /// assert!(!QuitWords::default().contains(b"Over"));
    /// assert!(QuitWords::default().ignore_case().contains(b"Over"));
    /// ```
    #[must_use]
    pub fn contains(&self, message: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(message) else { return false };
        let said = text.trim();
        self.words.iter().any(|word| match self.case {
            Case::Exact => word == said,
            Case::Ignored => lower(word).eq(lower(said)),
        })
    }

    const fn next(&self) -> Next {
        match self.ends {
            Ends::Conversation => Next::Close,
            Ends::Server => Next::StopServer,
        }
    }
}

fn lower(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upper;

    fn check(quit: &QuitWords, words: &[&str], others: &[&[u8]]) {
        for word in words {
            assert!(quit.contains(word.as_bytes()), "{word:?} is a quit word");
        }
        for other in others {
            assert!(!quit.contains(other), "{:?} is none", crate::Escaped(other).to_string());
        }
    }

    #[test]
    fn a_quit_word_is_the_whole_message_but_for_white_space() {
        let others: [&[u8]; 7] =
            [b"", b" ", b"Over", b"overs", b"over over", b"\0over", b"over\xff"];
        check(&QuitWords::default(), &["over", " over\r\n", "\tover ", "\u{3000}over"], &others);
    }

    #[test]
    fn there_may_be_several_words_and_none_of_them_is_over() {
        check(&QuitWords::new(["q", " 再见 "]), &["q", "再见\n"], &[b"over", b"Q", b"q 1"]);
        check(&QuitWords::new([""; 0]), &[], &[b"over", b""]);
    }

    #[test]
    fn ignoring_case_goes_beyond_ascii() {
        let quit = QuitWords::new(["Over", "ÄNDE"]).ignore_case();
        check(&quit, &["over", "OVER", "oVeR\n", "ände", "Ände"], &[b"ove", b"overt"]);
    }

    #[test]
    fn a_word_ends_the_conversation_or_the_server() {
        assert!(matches!(QuitWords::default().next(), Next::Close));
        assert!(matches!(QuitWords::default().stop_server().next(), Next::StopServer));
    }

    #[test]
    fn whoever_takes_over_is_wrapped_too_and_nothing_else_is_changed() {
        let over = Over::new(Upper);
        assert!(matches!(over.keep(Next::Switch(Box::new(Upper))), Next::Switch(_)));
        assert!(matches!(over.keep(Next::HalfClose), Next::HalfClose));
    }
}
