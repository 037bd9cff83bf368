//! A reader without a socket: a decoder, its undecoded bytes, and what it saw in them.

use switchboard::codec::{Decoded, Decoder, FrameError, Framing};

/// What a reader sees, in order. Neighbouring `Skipped` are one: their sizes follow the reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Frame(Vec<u8>),
    Skipped(usize),
    Error(FrameError),
}

/// A reader: a decoder, the bytes that it has not consumed, and what it saw.
pub(crate) struct Reader {
    decoder: Decoder,
    pending: Vec<u8>,
    seen: Vec<Seen>,
    /// The most bytes that were left waiting for more.
    pub(crate) pending_most: usize,
}

impl Reader {
    pub(crate) fn new(framing: &Framing) -> Self {
        let (pending, seen) = (Vec::new(), Vec::new());
        Self { decoder: framing.decoder(), pending, seen, pending_most: 0 }
    }

    /// One read, and all frames in it.
    pub(crate) fn read(&mut self, chunk: &[u8]) {
        self.pending.extend_from_slice(chunk);
        self.run(Decoder::decode);
    }

    /// FIN, and all frames that are left.
    pub(crate) fn end(mut self) -> Vec<Seen> {
        self.run(Decoder::decode_end);
        if !self.failed() {
            assert!(self.pending.is_empty(), "FIN leaves nothing: {:?}", self.pending);
        }
        self.seen
    }

    pub(crate) fn failed(&self) -> bool {
        matches!(self.seen.last(), Some(Seen::Error(error)) if error.is_fatal())
    }

    fn run(&mut self, decode: fn(&mut Decoder, &[u8]) -> Result<Decoded, FrameError>) {
        loop {
            let decoded = decode(&mut self.decoder, &self.pending);
            if self.failed() {
                assert_eq!(decoded, Err(FrameError::Poisoned), "nothing follows a fatal error");
                return;
            }
            match decoded {
                Ok(Decoded::Frame { body, consumed }) => {
                    assert!(consumed > 0 && body.end <= consumed, "{body:?} in {consumed}");
                    self.seen.push(Seen::Frame(self.pending[body].to_vec()));
                    self.pending.drain(..consumed);
                }
                Ok(Decoded::Skipped { consumed }) => self.skip(consumed),
                Ok(Decoded::Incomplete) => break,
                Err(error) => self.seen.push(Seen::Error(error)),
            }
        }
        self.pending_most = self.pending_most.max(self.pending.len());
    }

    fn skip(&mut self, consumed: usize) {
        assert!(consumed > 0, "skipping makes progress");
        self.pending.drain(..consumed);
        match self.seen.last_mut() {
            Some(Seen::Skipped(sum)) => *sum += consumed,
            _ => self.seen.push(Seen::Skipped(consumed)),
        }
    }
}

/// What is seen when `bytes` come cut at these positions (in order), and then FIN.
pub(crate) fn decode_cut(framing: &Framing, bytes: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut reader = Reader::new(framing);
    let mut begin = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        reader.read(&bytes[begin..end]);
        begin = end;
    }
    reader.end()
}

/// All ways to cut `len` bytes.
pub(crate) fn every_split(len: usize) -> impl Iterator<Item = Vec<usize>> {
    let places = len.saturating_sub(1);
    (0..1_u32 << places)
        .map(move |set| (1..=places).filter(|at| (set >> (at - 1)) & 1 == 1).collect())
}

/// Positions to cut at, made from arbitrary numbers.
pub(crate) fn cuts_within(len: usize, positions: &[usize]) -> Vec<usize> {
    let mut cuts: Vec<usize> = positions.iter().map(|at| at % (len + 1)).collect();
    cuts.sort_unstable();
    cuts
}
