//! Bytes from a peer, made safe to print: nothing in them can move a terminal's cursor.

use std::fmt::{self, Write};

/// Shows bytes as one line of text: UTF-8 as it is, control characters, other bytes and backslashes
/// escaped, in any language's letters.
///
/// What a peer sends may contain sequences that recolour a terminal, retitle it or hide text; what this
/// writes cannot. Characters that turn the direction of writing are escaped as well.
///
/// ```
/// use switchboard_handlers::Escaped;
///
/// assert_eq!(Escaped("你好\r\n".as_bytes()).to_string(), r"你好\r\n");
/// assert_eq!(Escaped(b"\x1b[31mred").to_string(), r"\u{1b}[31mred");
/// assert_eq!(Escaped(b"\xff\\").to_string(), r"\xff\\");
/// ```
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_unsafe(character) {
                    write!(f, "{}", character.escape_debug())?;
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Escaped(\"{self}\")")
    }
}

/// Whether it would do something else than appear, or be taken for an escape.
fn is_unsafe(character: char) -> bool {
    character.is_control() || is_line_or_direction(character) || character == '\\'
}

const fn is_line_or_direction(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(Escaped(bytes).to_string(), expected);
    }

    #[test]
    fn text_of_any_language_is_shown_as_it_is() {
        check(
            "hello, 'wörld' \"吃了吗\" e\u{301}".as_bytes(),
            "hello, 'wörld' \"吃了吗\" e\u{301}",
        );
        check(b"", "");
    }

    #[test]
    fn nothing_that_moves_a_cursor_or_turns_the_text_gets_through() {
        check(b"a\tb\r\nc\0", r"a\tb\r\nc\0");
        check(b"\x1b]0;title\x07\x7f", r"\u{1b}]0;title\u{7}\u{7f}");
        check("\u{9b}31m\u{202e}txt\u{2028}".as_bytes(), r"\u{9b}31m\u{202e}txt\u{2028}");
    }

    #[test]
    fn bytes_that_are_no_text_and_backslashes_cannot_be_confused() {
        check(b"\xc4\xe3\\xc4", r"\xc4\xe3\\xc4");
    }
}
