//! The decoder of a codec of one's own: each of its answers is checked.

use std::fmt;
use std::sync::Arc;

use crate::codec::{Codec, Decode, Decoded, FrameError};

/// A stream's state as its codec sees it, and what keeps the codec to its word.
pub(super) struct CustomDecoder {
    codec: Arc<dyn Codec>,
    /// Made when the first bytes come: a connection that has never spoken owns none.
    state: Option<Box<dyn Decode>>,
    max: usize,
    /// The last answer was an error after which decoding goes on: the next one must consume something.
    reported: bool,
}

impl CustomDecoder {
    /// `max`: the largest frame, at least 1.
    pub(super) fn new(codec: Arc<dyn Codec>, max: usize) -> Self {
        Self { codec, state: None, max, reported: false }
    }

    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        let shown = self.shown(bytes);
        let answer = self.state().decode(shown);
        self.check(answer, shown.len())
    }

    pub(super) fn decode_end(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        if self.shown(bytes).len() < bytes.len() {
            // This is not all that is left.
            return self.decode(bytes);
        }
        let answer = self.state().decode_end(bytes);
        match self.check(answer, bytes.len())? {
            Decoded::Incomplete if !bytes.is_empty() => {
                Err(FrameError::Unfinished { have: bytes.len() })
            }
            decoded => Ok(decoded),
        }
    }

    /// The longest frame that may be: what lies beyond shall not change the answer, or it would depend
    /// on how much had come.
    fn shown<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[..bytes.len().min(self.max)]
    }

    fn state(&mut self) -> &mut dyn Decode {
        &mut **self.state.get_or_insert_with(|| self.codec.decoder())
    }

    /// An answer about so many bytes, if it keeps the rules.
    fn check(
        &mut self,
        answer: Result<Decoded, FrameError>,
        bytes: usize,
    ) -> Result<Decoded, FrameError> {
        let reported = std::mem::take(&mut self.reported);
        if let Some(broken) = broken_rule(&answer, bytes, reported) {
            return Err(FrameError::custom(broken));
        }
        if answer == Ok(Decoded::Incomplete) && bytes == self.max {
            return Err(FrameError::TooLong { max: self.max, skipping: false });
        }
        self.reported = answer.as_ref().is_err_and(|why| !why.is_fatal());
        answer
    }
}

impl fmt::Debug for CustomDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomDecoder").field("max", &self.max).finish_non_exhaustive()
    }
}

/// The rule of [`Decode::decode`] that an answer about so many bytes breaks. `reported`: the last answer
/// was an error that is not fatal.
fn broken_rule(
    answer: &Result<Decoded, FrameError>,
    bytes: usize,
    reported: bool,
) -> Option<&'static str> {
    let consumed = match answer {
        Ok(Decoded::Frame { consumed, .. } | Decoded::Skipped { consumed }) => Some(*consumed),
        Ok(Decoded::Incomplete) | Err(_) => None,
    };
    let fatal = answer.as_ref().is_err_and(FrameError::is_fatal);
    match answer {
        _ if consumed == Some(0) => Some("the codec consumed no bytes"),
        _ if consumed > Some(bytes) => Some("the codec consumed more bytes than there are"),
        Ok(Decoded::Frame { body, consumed }) if body.start > body.end || body.end > *consumed => {
            Some("the codec reported a body that is not in its frame")
        }
        _ if reported && consumed.is_none() && !fatal => {
            Some("the codec reported an error, and did not go on behind it")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::EncodeError;

    /// Gives this answer to any bytes.
    struct Told(Result<Decoded, FrameError>);

    impl Codec for Told {
        fn decoder(&self) -> Box<dyn Decode> {
            Box::new(Self(self.0.clone()))
        }

        fn encode(&self, _message: &[u8], _out: &mut Vec<u8>) -> Result<(), EncodeError> {
            Ok(())
        }
    }

    impl Decode for Told {
        fn decode(&mut self, _bytes: &[u8]) -> Result<Decoded, FrameError> {
            self.0.clone()
        }
    }

    fn answering(answer: Result<Decoded, FrameError>) -> CustomDecoder {
        CustomDecoder::new(Arc::new(Told(answer)), 8)
    }

    #[test]
    fn an_answer_that_breaks_the_rules_is_a_bad_frame_that_says_which() {
        let frame = |begin, end, consumed| Ok(Decoded::Frame { body: begin..end, consumed });
        let cases = [
            (frame(0, 0, 0), "the codec consumed no bytes"),
            (Ok(Decoded::Skipped { consumed: 0 }), "the codec consumed no bytes"),
            (frame(0, 1, 4), "the codec consumed more bytes than there are"),
            (Ok(Decoded::Skipped { consumed: 4 }), "the codec consumed more bytes than there are"),
            (frame(0, 3, 2), "the codec reported a body that is not in its frame"),
            (frame(2, 1, 3), "the codec reported a body that is not in its frame"),
        ];
        for (answer, broken) in cases {
            let decoded = answering(answer.clone()).decode(b"abc");
            assert_eq!(decoded, Err(FrameError::custom(broken)), "{answer:?}");
        }
        let fine = frame(1, 3, 3);
        assert_eq!(answering(fine.clone()).decode(b"abc"), fine);
    }

    #[test]
    fn a_codec_that_reports_for_ever_is_stopped_at_its_second_error() {
        let error = Err(FrameError::Custom { why: "a pity".into(), skipping: true });
        let mut decoder = answering(error.clone());
        assert_eq!(decoder.decode(b"abc"), error);
        let broken = "the codec reported an error, and did not go on behind it";
        assert_eq!(decoder.decode(b"abc"), Err(FrameError::custom(broken)));
    }

    #[test]
    fn what_waits_for_more_than_the_maximum_is_too_long_and_fin_ends_the_waiting() {
        let mut decoder = answering(Ok(Decoded::Incomplete));
        assert_eq!(decoder.decode(b""), Ok(Decoded::Incomplete));
        assert_eq!(decoder.decode(b"1234567"), Ok(Decoded::Incomplete));
        assert_eq!(decoder.decode_end(b"1234567"), Err(FrameError::Unfinished { have: 7 }));
        assert_eq!(decoder.decode_end(b""), Ok(Decoded::Incomplete));
        let too_long = Err(FrameError::TooLong { max: 8, skipping: false });
        assert_eq!(decoder.decode(b"12345678"), too_long);
        assert_eq!(decoder.decode_end(b"123456789"), too_long);
    }
}
