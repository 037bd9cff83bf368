//! Codecs as a user writes them: netstrings, and one that answers what it is told to.

use switchboard::codec::{Codec, Decode, Decoded, EncodeError, FrameError};

/// `5:hello,`.
#[derive(Clone, Copy)]
pub(crate) struct Netstrings;

impl Codec for Netstrings {
    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(*self)
    }

    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(format!("{}:", message.len()).as_bytes());
        out.extend_from_slice(message);
        out.push(b',');
        Ok(())
    }
}

impl Decode for Netstrings {
    fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        let digits = bytes.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
        match bytes.get(digits) {
            None => return Ok(Decoded::Incomplete),
            Some(b':') if digits > 0 => {}
            Some(_) => return Err(FrameError::custom("no length")),
        }
        let length =
            bytes[..digits].iter().fold(0, |sum, digit| 10 * sum + usize::from(digit & 15));
        let (begin, end) = (digits + 1, digits + 1 + length);
        match bytes.get(end) {
            None => Ok(Decoded::Incomplete),
            Some(b',') => Ok(Decoded::Frame { body: begin..end, consumed: end + 1 }),
            Some(_) => Err(FrameError::custom("no comma")),
        }
    }
}

/// What a codec is to answer, whether it makes sense or not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Frame {
        begin: usize,
        end: usize,
        consumed: usize,
    },
    Skipped(usize),
    Incomplete,
    /// An error that is not fatal.
    Reported,
}

/// Gives these answers, and then the last one for ever.
pub(crate) struct Scripted(pub(crate) Vec<Answer>);

impl Codec for Scripted {
    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(Script { answers: self.0.clone(), next: 0 })
    }

    fn encode(&self, _message: &[u8], _out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }
}

struct Script {
    answers: Vec<Answer>,
    next: usize,
}

impl Decode for Script {
    fn decode(&mut self, _bytes: &[u8]) -> Result<Decoded, FrameError> {
        let answer = self.answers.get(self.next).or(self.answers.last());
        self.next += 1;
        match answer.copied().unwrap_or(Answer::Incomplete) {
            Answer::Frame { begin, end, consumed } => {
                Ok(Decoded::Frame { body: begin..end, consumed })
            }
            Answer::Skipped(consumed) => Ok(Decoded::Skipped { consumed }),
            Answer::Incomplete => Ok(Decoded::Incomplete),
            Answer::Reported => Err(FrameError::Custom { why: "planned".into(), skipping: true }),
        }
    }
}
