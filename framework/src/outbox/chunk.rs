//! One message as it goes over the wire: framed for one peer, or a body that many peers share.

use std::io::IoSlice;
use std::sync::Arc;

use crate::codec::{EncodeError, Envelope, Framing};

/// One message as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) enum Chunk {
    /// Its bytes, framed.
    Framed(Vec<u8>),
    /// A body that many peers share, with what framing puts around it.
    Shared { envelope: Envelope, body: Arc<[u8]> },
}

impl Chunk {
    /// A message, framed. A codec of one's own runs here, and may panic: hold no lock.
    pub(crate) fn framed(framing: &Framing, message: &[u8]) -> Result<Self, EncodeError> {
        let mut framed = Vec::with_capacity(message.len() + 8);
        framing.encode(message, &mut framed)?;
        Ok(Self::Framed(framed))
    }

    /// A message for many peers with this framing: cloning it copies no body. A codec of one's own may
    /// put anything anywhere: what it made is shared whole. As [`Chunk::framed`], hold no lock.
    pub(crate) fn shared(framing: &Framing, message: &Arc<[u8]>) -> Result<Self, EncodeError> {
        match framing.envelope(message.len()) {
            Err(EncodeError::NoEnvelope) => {
                let mut framed = Vec::with_capacity(message.len() + 8);
                framing.encode(message, &mut framed)?;
                let envelope = Framing::raw().envelope(framed.len())?;
                Ok(Self::Shared { envelope, body: framed.into() })
            }
            Err(why) => Err(why),
            Ok(envelope) => Ok(Self::Shared { envelope, body: message.clone() }),
        }
    }

    pub(crate) fn pieces(&self) -> [&[u8]; 3] {
        match self {
            Self::Framed(bytes) => [bytes, &[], &[]],
            Self::Shared { envelope, body } => [envelope.head(), body, envelope.tail()],
        }
    }

    /// The message without what framing puts around it; all of it, if that was not kept apart.
    pub(crate) fn body(&self) -> &[u8] {
        match self {
            Self::Framed(bytes) => bytes,
            Self::Shared { body, .. } => body,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }

    /// The pieces behind the first `skip` bytes, appended to `slices`.
    pub(crate) fn slices<'a>(&'a self, mut skip: usize, slices: &mut Vec<IoSlice<'a>>) {
        for piece in self.pieces() {
            let rest = &piece[skip.min(piece.len())..];
            skip = skip.saturating_sub(piece.len());
            if !rest.is_empty() {
                slices.push(IoSlice::new(rest));
            }
        }
    }
}
