//! Frames out of any bytes that are fed: a decoder, and the bytes that it has not consumed.

use crate::codec::{Decoded, Decoder, FrameError, Framing};

/// Cuts messages out of bytes that come in pieces: a [`Decoder`] with the buffer around it.
///
/// It does no I/O: feed what a read returned, then take the frames. For a client of one's own, or a
/// test. Feed again only when [`next_frame`](Self::next_frame) has returned `None`: then no more than
/// one frame is ever kept.
///
/// # Examples
///
/// A client that reads until the other side closes:
///
/// ```
/// use std::io::{self, Read};
/// use switchboard::codec::{FrameReader, Framing};
///
/// fn read_all(mut from: impl Read, framing: &Framing) -> io::Result<Vec<Vec<u8>>> {
///     let mut frames = FrameReader::new(framing);
///     let (mut buffer, mut messages) = ([0; 4096], Vec::new());
///     loop {
///         match from.read(&mut buffer)? {
///             0 => frames.end(),
///             bytes => frames.feed(&buffer[..bytes]),
///         }
///         while let Some(frame) = frames.next_frame() {
///             messages.push(frame.map_err(io::Error::other)?.to_vec());
///         }
///         if frames.has_ended() {
///             return Ok(messages);
///         }
///     }
/// }
///
/// let messages = read_all(&b"one\r\ntwo\nlast"[..], &Framing::lines())?;
/// assert_eq!(messages, [&b"one"[..], b"two", b"last"]);
/// # Ok::<(), io::Error>(())
/// ```
#[derive(Debug)]
pub struct FrameReader {
    decoder: Decoder,
    bytes: Vec<u8>,
    /// How many of `bytes` were consumed.
    consumed: usize,
    input: Input,
}

/// What may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// More bytes.
    Open,
    /// Only what is there.
    Ended,
    /// Nothing: a fatal error was returned.
    Failed,
}

impl FrameReader {
    /// A reader for one stream, at its beginning.
    #[must_use]
    pub fn new(framing: &Framing) -> Self {
        Self { decoder: framing.decoder(), bytes: Vec::new(), consumed: 0, input: Input::Open }
    }

    /// Takes what was read. Bytes behind the end or behind a fatal error are dropped.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.input == Input::Open {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// No more bytes will come: what is left is a last frame, or an unfinished one.
    pub fn end(&mut self) {
        if self.input == Input::Open {
            self.input = Input::Ended;
        }
    }

    /// Whether nothing more will come: [`end`](Self::end) was called, or a fatal error returned. Frames
    /// that were fed before may still be there.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        !matches!(self.input, Input::Open)
    }

    /// The next message, an error, or `None`: then more bytes have to be fed, or it is over.
    ///
    /// Under [`Framing::raw`] a message is all that was fed since the last one.
    ///
    /// # Errors
    ///
    /// `Some(Err(_))` is a [`FrameError`]; after a fatal one it returns `None` for good.
    ///
    /// # Panics
    ///
    /// Only if a codec of one's own ([`Codec`](crate::codec::Codec)) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchboard::codec::{FrameError, FrameReader, Framing, Width};
    ///
    /// let mut frames = FrameReader::new(&Framing::length_prefix(Width::U8));
    /// frames.feed(b"\x02hi\x05he");
    /// assert_eq!(frames.next_frame(), Some(Ok(&b"hi"[..])));
    /// assert_eq!(frames.next_frame(), None);
    /// frames.end();
    /// assert_eq!(frames.next_frame(), Some(Err(FrameError::Unfinished { have: 3 })));
    /// assert_eq!(frames.next_frame(), None);
    /// ```
    pub fn next_frame(&mut self) -> Option<Result<&[u8], FrameError>> {
        let body = loop {
            let rest = self.bytes.get(self.consumed..).unwrap_or_default();
            let decoded = match self.input {
                Input::Open => self.decoder.decode(rest),
                Input::Ended => self.decoder.decode_end(rest),
                Input::Failed => return None,
            };
            match decoded {
                Ok(Decoded::Frame { body, consumed }) => {
                    let begin = self.consumed;
                    self.consumed += consumed;
                    break begin + body.start..begin + body.end;
                }
                Ok(Decoded::Skipped { consumed }) => self.consumed += consumed,
                Ok(Decoded::Incomplete) => return None,
                Err(why) => {
                    if why.is_fatal() {
                        self.input = Input::Failed;
                        (self.bytes, self.consumed) = (Vec::new(), 0);
                    }
                    return Some(Err(why));
                }
            }
        };
        Some(Ok(&self.bytes[body]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that there is to take.
    fn taken(frames: &mut FrameReader) -> Vec<Result<Vec<u8>, FrameError>> {
        std::iter::from_fn(|| frames.next_frame().map(|frame| frame.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_what_was_taken_is_dropped() {
        let mut frames = FrameReader::new(&Framing::lines());
        frames.feed(b"one\ntwo\nthr");
        assert_eq!(taken(&mut frames), [Ok(b"one".to_vec()), Ok(b"two".to_vec())]);
        frames.feed(b"ee\n");
        assert_eq!(frames.bytes, b"three\n");
        assert_eq!(taken(&mut frames), [Ok(b"three".to_vec())]);
        frames.end();
        assert_eq!(taken(&mut frames), []);
    }

    #[test]
    fn an_over_long_line_is_one_error_between_two_frames() {
        let mut frames = FrameReader::new(&Framing::lines().max_frame(3).skip_overlong());
        frames.feed(b"one\nfour\ntwo\n");
        let error = Err(FrameError::TooLong { max: 3, skipping: true });
        assert_eq!(taken(&mut frames), [Ok(b"one".to_vec()), error, Ok(b"two".to_vec())]);
        assert!(!frames.has_ended());
    }

    #[test]
    fn nothing_is_kept_or_taken_behind_a_fatal_error() {
        let mut frames = FrameReader::new(&Framing::lines().max_frame(3));
        frames.feed(b"four");
        assert_eq!(taken(&mut frames), [Err(FrameError::TooLong { max: 3, skipping: false })]);
        frames.feed(b"\none\n");
        frames.end();
        assert_eq!(taken(&mut frames), []);
        assert!(frames.has_ended() && frames.bytes.is_empty());
    }
}
