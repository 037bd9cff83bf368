//! A framing of one's own: what it implements, and what its messages go out by.

use std::fmt;
use std::sync::Arc;

use crate::codec::checked::CustomDecoder;
use crate::codec::{Decoded, EncodeError, FrameError};

/// A framing of one's own, for [`Framing::custom`](crate::codec::Framing::custom).
///
/// One value serves every stream: it makes the state that is remembered of each one, and frames what
/// goes out. A codec finds messages and does not change them: the body that it reports is a piece of
/// the bytes.
///
/// In a server it is called without any lock. A panic in [`decoder`](Self::decoder), or in what it
/// made, ends that connection alone, for the reason [`HandlerPanic`](crate::CloseReason::HandlerPanic);
/// one in [`encode`](Self::encode) is a panic of whoever sends.
///
/// # Examples
///
/// Netstrings: `hello` is `5:hello,` on the wire.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{Shutdown, TcpStream};
///
/// use switchboard::codec::{Codec, Decode, Decoded, EncodeError, FrameError, Framing};
/// use switchboard::{Next, Server, handler_fn};
///
/// /// The codec, and the state of a stream, which has nothing to remember: the length stays in the
/// /// bytes until its message is whole.
/// #[derive(Clone, Copy)]
/// struct Netstrings;
///
/// impl Codec for Netstrings {
///     fn decoder(&self) -> Box<dyn Decode> {
///         Box::new(*self)
///     }
///
///     fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
///         out.extend_from_slice(message.len().to_string().as_bytes());
///         out.push(b':');
///         out.extend_from_slice(message);
///         out.push(b',');
///         Ok(())
///     }
/// }
///
/// impl Decode for Netstrings {
///     fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
///         let mut length = 0;
///         for (at, byte) in bytes.iter().enumerate() {
///             match byte {
///                 // Nine digits say more than any maximum allows.
///                 b'0'..=b'9' if at < 9 => length = 10 * length + usize::from(byte - b'0'),
///                 b':' if at > 0 => {
///                     let (begin, end) = (at + 1, at + 1 + length);
///                     return match bytes.get(end) {
///                         None => Ok(Decoded::Incomplete),
///                         Some(b',') => Ok(Decoded::Frame { body: begin..end, consumed: end + 1 }),
///                         Some(_) => Err(FrameError::custom("no comma behind a netstring")),
///                     };
///                 }
///                 _ => return Err(FrameError::custom("a netstring begins with its length")),
///             }
///         }
///         Ok(Decoded::Incomplete)
///     }
/// }
///
/// let server = Server::new(|_peer| {
///     handler_fn(|message, cx| {
///         cx.send(message.to_ascii_uppercase());
///         Ok(Next::Continue)
///     })
/// });
/// let server = server.framing(Framing::custom(Netstrings)).tcp("127.0.0.1:0").spawn()?;
///
/// let addr = server.addresses()[0].socket_addr().expect("an internet address");
/// let mut client = TcpStream::connect(addr)?;
/// client.write_all(b"5:hello,0:,5:wor")?;
/// client.write_all(b"ld,")?;
/// client.shutdown(Shutdown::Write)?;
/// let mut answers = String::new();
/// client.read_to_string(&mut answers)?;
/// assert_eq!(answers, "5:HELLO,0:,5:WORLD,");
/// # server.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec: Send + Sync + 'static {
    /// The state of one stream, at its beginning. In a server it is made when the first bytes arrive.
    fn decoder(&self) -> Box<dyn Decode>;

    /// Appends the message, framed, to `out`; what stands there already is not this codec's.
    ///
    /// What was appended before an error or a panic is taken back by the caller.
    ///
    /// # Errors
    ///
    /// [`EncodeError::custom`] says why this message cannot be framed. A handler that sends it loses
    /// its connection; a [`Remote`](crate::Remote) gets the error.
    fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// What a [`Codec`] remembers of one stream between two reads; its example shows one.
///
/// # Examples
///
/// Pairs of bytes; a single one that is left at the end is a message as well.
///
/// ```
/// use switchboard::codec::{Codec, Decode, Decoded, EncodeError, FrameError, FrameReader, Framing};
///
/// struct Pairs;
///
/// impl Codec for Pairs {
///     fn decoder(&self) -> Box<dyn Decode> {
///         Box::new(Self)
///     }
///
///     fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
///         out.extend_from_slice(message);
///         Ok(())
///     }
/// }
///
/// impl Decode for Pairs {
///     fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
///         Ok(match bytes.len() {
///             0 | 1 => Decoded::Incomplete,
///             _ => Decoded::Frame { body: 0..2, consumed: 2 },
///         })
///     }
///
///     fn decode_end(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
///         match bytes.len() {
///             1 => Ok(Decoded::Frame { body: 0..1, consumed: 1 }),
///             _ => self.decode(bytes),
///         }
///     }
/// }
///
/// let mut reader = FrameReader::new(&Framing::custom(Pairs));
/// reader.feed(b"abc");
/// assert_eq!(reader.next_frame(), Some(Ok(&b"ab"[..])));
/// assert_eq!(reader.next_frame(), None);
/// reader.end();
/// assert_eq!(reader.next_frame(), Some(Ok(&b"c"[..])));
/// ```
pub trait Decode: Send + 'static {
    /// Looks for the first frame in `bytes`, which are all bytes that no earlier call consumed.
    ///
    /// After [`Decoded::Incomplete`] the same bytes come again, with more behind them. `Frame` and
    /// `Skipped` consume at least one byte, and no more than there are; a body lies within what its
    /// frame consumes. `Skipped` are bytes that belong to no message. An answer that breaks these rules
    /// is a bad frame, [`FrameError::Custom`], with a text that says so.
    ///
    /// No more bytes are shown than the largest frame may have
    /// ([`Framing::max_frame`](crate::codec::Framing::max_frame)): if they are `Incomplete`, the frame is
    /// [`FrameError::TooLong`].
    ///
    /// # Errors
    ///
    /// [`FrameError::custom`], or any other. After one that is fatal no call follows. After one that is
    /// not, the next call must consume something.
    fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError>;

    /// As [`decode`](Self::decode), once no more bytes will come. `Incomplete` with bytes left means
    /// [`FrameError::Unfinished`]. It may be called without any bytes.
    ///
    /// Default: what `decode` says.
    ///
    /// # Errors
    ///
    /// As `decode`.
    fn decode_end(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        self.decode(bytes)
    }
}

/// The settings of [`Framing::custom`](crate::codec::Framing::custom): a codec, and its maximum. Two of
/// them are equal if they share one codec.
///
/// # Examples
///
/// ```
/// use switchboard::codec::{Codec, Decode, Decoded, EncodeError, FrameError, Framing};
///
/// struct Bytes;
///
/// impl Codec for Bytes {
///     fn decoder(&self) -> Box<dyn Decode> {
///         Box::new(Self)
///     }
///
///     fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
///         out.extend_from_slice(message);
///         Ok(())
///     }
/// }
///
/// impl Decode for Bytes {
///     fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
///         Ok(match bytes.len() {
///             0 => Decoded::Incomplete,
///             _ => Decoded::Frame { body: 0..1, consumed: 1 },
///         })
///     }
/// }
///
/// let framing = Framing::custom(Bytes);
/// assert!(matches!(framing, Framing::Custom(_)));
/// assert_eq!(framing, framing.clone());
/// assert_ne!(framing, Framing::custom(Bytes));
/// ```
#[derive(Clone)]
pub struct Custom {
    codec: Arc<dyn Codec>,
    max: usize,
}

impl Custom {
    /// 1 MiB, as for a length prefix.
    const DEFAULT_MAX: usize = 1024 * 1024;

    pub(super) fn new(codec: impl Codec) -> Self {
        Self { codec: Arc::new(codec), max: Self::DEFAULT_MAX }
    }

    /// (A frame of no bytes would never end.)
    pub(super) fn max_frame(self, bytes: usize) -> Self {
        Self { max: bytes.max(1), ..self }
    }

    pub(super) fn decoder(&self) -> CustomDecoder {
        CustomDecoder::new(self.codec.clone(), self.max)
    }

    pub(super) fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut appended = Appended { begin: out.len(), out, whole: false };
        self.codec.encode(message, appended.out)?;
        match appended.out.len().checked_sub(appended.begin) {
            None => return Err(EncodeError::custom("the codec removed bytes of earlier messages")),
            Some(len) if len > self.max => return Err(EncodeError::TooLong { len, max: self.max }),
            Some(_) => appended.whole = true,
        }
        Ok(())
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.codec, &other.codec) && self.max == other.max
    }
}

impl Eq for Custom {}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").field("max", &self.max).finish_non_exhaustive()
    }
}

/// What a codec appends to a buffer that others use as well: all of it or nothing, also if it panics.
struct Appended<'a> {
    out: &'a mut Vec<u8>,
    begin: usize,
    whole: bool,
}

impl Drop for Appended<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.out.truncate(self.begin);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Encodes as told.
    struct Told(fn(&[u8], &mut Vec<u8>) -> Result<(), EncodeError>);

    impl Codec for Told {
        fn decoder(&self) -> Box<dyn Decode> {
            Box::new(Self(self.0))
        }

        fn encode(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
            (self.0)(message, out)
        }
    }

    impl Decode for Told {
        fn decode(&mut self, _bytes: &[u8]) -> Result<Decoded, FrameError> {
            Ok(Decoded::Incomplete)
        }
    }

    fn encoding(encode: fn(&[u8], &mut Vec<u8>) -> Result<(), EncodeError>) -> Custom {
        Custom::new(Told(encode)).max_frame(8)
    }

    #[test]
    fn what_a_codec_appends_counts_as_a_whole_or_not_at_all() {
        let encoded = |custom: &Custom, message: &[u8]| {
            let mut out = b"before ".to_vec();
            let result = catch_unwind(AssertUnwindSafe(|| custom.encode(message, &mut out)));
            (result.ok(), String::from_utf8(out).unwrap())
        };
        let mut way = encoding(|message, out| {
            out.extend_from_slice(message);
            if message == b"half" { Err(EncodeError::custom("only a half")) } else { Ok(()) }
        });
        assert_eq!(encoded(&way, b"12345678"), (Some(Ok(())), "before 12345678".to_owned()));
        let refused = EncodeError::TooLong { len: 9, max: 8 };
        assert_eq!(encoded(&way, b"123456789"), (Some(Err(refused)), "before ".to_owned()));
        let refused = EncodeError::custom("only a half");
        assert_eq!(encoded(&way, b"half"), (Some(Err(refused)), "before ".to_owned()));
        way = encoding(|message, out| {
            out.extend_from_slice(message);
            panic!("planned");
        });
        assert_eq!(encoded(&way, b"abc"), (None, "before ".to_owned()));
        way = encoding(|_, out| {
            out.clear();
            Ok(())
        });
        let refused = EncodeError::custom("the codec removed bytes of earlier messages");
        assert_eq!(encoded(&way, b"abc"), (Some(Err(refused)), String::new()));
    }
}
