//! Messages in a byte stream: writing them with their frame, and finding the replies again.
use crate::proof::filler::Match;
use crate::proof::id::{HEADER, Id, MARK};
use crate::proof::{Expect, Promise, Proof};

/// How messages are told apart in a stream. Datagrams need none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A line feed ends a message; a carriage return before it is tolerated.
    Lines,
    /// The length comes first.
    Length { bytes: u8, big: bool },
    /// Every message is this long.
    Fixed(usize),
    /// Nothing at all: replies are found by their ids.
    Raw,
}

/// What begins a received stretch of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A right reply to this request: how many bytes to go on by.
    Proved { id: Id, skip: usize },
    /// A message, or what a damaged one left: where its payload lies, and how many bytes to go on by.
    Message { from: usize, to: usize, skip: usize },
    /// Not enough bytes to say.
    Partial,
    /// A length that no reply can have: the stream cannot be followed any further.
    Senseless,
}

impl Framing {
    /// Appends what goes before a message of `len` bytes.
    #[inline(never)]
    pub(crate) fn open(self, len: usize, out: &mut Vec<u8>) {
        if let Self::Length { bytes, big } = self {
            let (le, be) = (len.to_le_bytes(), len.to_be_bytes());
            let bytes = usize::from(bytes);
            out.extend_from_slice(if big { &be[be.len() - bytes..] } else { &le[..bytes] });
        }
    }

    /// Appends what goes after a message.
    #[inline]
    pub(crate) fn close(self, out: &mut Vec<u8>) {
        if self == Self::Lines {
            out.push(b'\n');
        }
    }

    /// Bytes that the frame adds.
    pub(crate) fn overhead(self) -> usize {
        match self {
            Self::Lines => 1,
            Self::Length { bytes, .. } => usize::from(bytes),
            Self::Fixed(_) | Self::Raw => 0,
        }
    }

    /// The longest message that the frame can announce.
    pub(crate) fn message_max(self) -> usize {
        match self {
            Self::Length { bytes: 2, .. } => usize::from(u16::MAX),
            Self::Fixed(len) => len,
            _ => 1 << 20,
        }
    }

    /// Whether `bytes` begin with the promised reply in its frame: how many bytes to go on by.
    #[inline]
    pub(crate) fn kept(
        self,
        bytes: &[u8],
        proof: &Proof,
        (promise, front): (&Promise, u64),
    ) -> Option<usize> {
        match self {
            Self::Lines => {
                let end = proof.kept(promise, front, bytes)?;
                (bytes.get(end) == Some(&b'\n')).then_some(end + 1)
            }
            Self::Length { bytes: width, big } => {
                let width = usize::from(width);
                let len = announced(bytes, width, big)?;
                let end = proof.kept(promise, front, &bytes[width..])?;
                (len == end as u64).then_some(width + end)
            }
            Self::Fixed(_) | Self::Raw => proof.kept(promise, front, bytes),
        }
    }

    /// Finds the first reply in `bytes`, which are not empty.
    #[inline]
    pub(crate) fn next(self, bytes: &[u8], proof: &Proof) -> Piece {
        match self {
            Self::Lines => next_line(bytes, proof),
            Self::Length { bytes: width, big } => {
                next_prefixed(bytes, usize::from(width), big, proof)
            }
            Self::Fixed(_) | Self::Raw => match proof.expect() {
                Expect::Fixed(reply) => next_fixed_text(bytes, reply),
                _ => next_by_id(bytes, proof),
            },
        }
    }
}

impl std::fmt::Display for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lines => f.write_str("lines"),
            Self::Length { bytes, big } => {
                write!(f, "len-{}{}", if *big { "be" } else { "le" }, u32::from(*bytes) * 8)
            }
            Self::Fixed(len) => write!(f, "fixed:{len}"),
            Self::Raw => f.write_str("raw"),
        }
    }
}

fn message(from: usize, to: usize, skip: usize) -> Piece {
    Piece::Message { from, to, skip }
}

#[inline]
fn next_line(bytes: &[u8], proof: &Proof) -> Piece {
    if let Some((id, end)) = proof.proved(bytes)
        && bytes.get(end) == Some(&b'\n')
    {
        return Piece::Proved { id, skip: end + 1 };
    }
    match bytes.iter().position(|&b| b == b'\n') {
        Some(end) => {
            let to = if end > 0 && bytes[end - 1] == b'\r' { end - 1 } else { end };
            message(0, to, end + 1)
        }
        None if bytes.len() > proof.reply_max() + 4096 => message(0, bytes.len(), bytes.len()),
        None => Piece::Partial,
    }
}

/// The length that a prefix of this width tells.
fn announced(bytes: &[u8], width: usize, big: bool) -> Option<u64> {
    let prefix = bytes.get(..width)?;
    let mut value = [0; 8];
    if big {
        value[8 - width..].copy_from_slice(prefix);
    } else {
        value[..width].copy_from_slice(prefix);
    }
    Some(if big { u64::from_be_bytes(value) } else { u64::from_le_bytes(value) })
}

fn next_prefixed(bytes: &[u8], width: usize, big: bool, proof: &Proof) -> Piece {
    let Some(len) = announced(bytes, width, big) else { return Piece::Partial };
    if len > (proof.reply_max() + 65_536) as u64 {
        return Piece::Senseless;
    }
    let end = width + len as usize;
    if bytes.len() < end { Piece::Partial } else { message(width, end, end) }
}

/// Where the next sound id begins, from `from` on; `Err` with where one might begin whose end has not come.
fn find_id(bytes: &[u8], from: usize, proof: &Proof) -> Result<usize, usize> {
    let mut at = from;
    while let Some(step) = bytes[at..].iter().position(|&b| b == MARK) {
        at += step;
        if proof.id_at(&bytes[at..]).is_some() {
            return Ok(at);
        }
        if bytes.len() - at < HEADER {
            return Err(at);
        }
        at += 1;
    }
    Err(bytes.len())
}

fn next_by_id(bytes: &[u8], proof: &Proof) -> Piece {
    if let Some((id, skip)) = proof.proved(bytes) {
        return Piece::Proved { id, skip };
    }
    let Some((id, found)) = proof.compare(bytes) else {
        return match find_id(bytes, usize::from(bytes.len() >= HEADER), proof) {
            Ok(at) => message(0, at, at),
            // More than any reply, and no id in it: say so rather than keep it.
            Err(at) if at > proof.reply_max() => message(0, at, at),
            Err(_) => Piece::Partial,
        };
    };
    let len = proof.reply_len(id);
    match found {
        Match::Whole | Match::Longer => message(0, len, len),
        Match::Prefix => Piece::Partial,
        Match::Differs => match find_id(bytes, HEADER, proof) {
            Ok(at) if at < len => message(0, at, at),
            _ if bytes.len() >= len => message(0, len, len),
            _ => Piece::Partial,
        },
    }
}

/// Fixed answers in an unframed stream; after a wrong byte, go on where one begins again.
fn next_fixed_text(bytes: &[u8], reply: &[u8]) -> Piece {
    let common = bytes.len().min(reply.len());
    if bytes[..common] == reply[..common] {
        return if common == reply.len() { message(0, common, common) } else { Piece::Partial };
    }
    let again = (1..bytes.len()).find(|&at| {
        let rest = &bytes[at..];
        rest.len() >= reply.len() && rest.starts_with(reply)
    });
    match again {
        Some(at) => message(0, at, at),
        None if bytes.len() >= reply.len() => message(0, reply.len(), reply.len()),
        None => Piece::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, Piece};
    use crate::proof::id::Id;
    use crate::proof::{Expect, Proof, Sizes, Verdict};
    use proptest::prelude::*;

    const ALL: [Framing; 6] = [
        Framing::Lines,
        Framing::Length { bytes: 4, big: false },
        Framing::Length { bytes: 4, big: true },
        Framing::Length { bytes: 2, big: true },
        Framing::Fixed(64),
        Framing::Raw,
    ];

    fn proof(framing: Framing) -> Proof {
        let sizes = match framing {
            Framing::Fixed(n) => Sizes { least: n, most: n },
            _ => Sizes { least: 16, most: 300 },
        };
        Proof::new(5, Expect::Upper, sizes)
    }

    fn frame(framing: Framing, payload: &[u8], out: &mut Vec<u8>) {
        framing.open(payload.len(), out);
        out.extend_from_slice(payload);
        framing.close(out);
    }

    fn reply(proof: &Proof, seq: u32) -> Vec<u8> {
        let mut out = Vec::new();
        proof.append_reply(Id { conn: 1, seq }, &mut out);
        out
    }

    /// All messages of a stream that arrives in the given cuts.
    fn split(framing: Framing, proof: &Proof, stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let (mut kept, mut found, mut at) = (Vec::new(), Vec::new(), 0);
        for cut in cuts.iter().copied().chain([stream.len()]) {
            let cut = (at + cut).min(stream.len());
            kept.extend_from_slice(&stream[at..cut]);
            at = cut;
            while !kept.is_empty() {
                match framing.next(&kept, proof) {
                    Piece::Proved { id, skip } => {
                        let mut whole = Vec::new();
                        proof.append_reply(id, &mut whole);
                        found.push(whole);
                        kept.drain(..skip);
                    }
                    Piece::Message { from, to, skip } => {
                        found.push(kept[from..to].to_vec());
                        kept.drain(..skip);
                    }
                    Piece::Partial => break,
                    Piece::Senseless => panic!("a sound stream was not followed"),
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn replies_come_out_whole_however_the_stream_is_cut(
            which in 0usize..6, count in 1u32..20, cuts in proptest::collection::vec(1usize..90, 0..60),
        ) {
            let framing = ALL[which];
            let proof = proof(framing);
            let replies: Vec<_> = (0..count).map(|seq| reply(&proof, seq)).collect();
            let mut stream = Vec::new();
            replies.iter().for_each(|r| frame(framing, r, &mut stream));
            prop_assert_eq!(split(framing, &proof, &stream, &cuts), replies);
        }

        #[test]
        fn any_bytes_at_all_are_taken_without_a_panic_and_always_go_on(
            which in 0usize..6, bytes in proptest::collection::vec(any::<u8>(), 1..3000),
        ) {
            let framing = ALL[which];
            let proof = proof(framing);
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                match framing.next(rest, &proof) {
                    Piece::Message { from, to, skip } => {
                        prop_assert!(from <= to && to <= skip && skip > 0);
                        rest = &rest[skip..];
                    }
                    Piece::Proved { .. } => prop_assert!(false, "no such id was made"),
                    Piece::Partial | Piece::Senseless => break,
                }
            }
        }
    }

    #[test]
    fn without_a_frame_a_cut_reply_is_told_from_a_damaged_one() {
        let proof = proof(Framing::Raw);
        let (a, b) = (reply(&proof, 1), reply(&proof, 2));
        let id = Id { conn: 1, seq: 1 };
        let mut cut = a[..a.len() - 2].to_vec();
        cut.extend_from_slice(&b);
        let found = split(Framing::Raw, &proof, &cut, &[]);
        assert_eq!(proof.judge(&found[0]), Verdict::Truncated(id));
        assert_eq!(found[1], b);
        let mut wrong = a.clone();
        wrong[15] ^= 1;
        wrong.extend_from_slice(&b);
        let found = split(Framing::Raw, &proof, &wrong, &[]);
        assert_eq!(proof.judge(&found[0]), Verdict::Corrupt(id));
        assert_eq!(found[1], b);
    }

    #[test]
    fn a_senseless_length_is_noticed() {
        let framing = Framing::Length { bytes: 4, big: true };
        assert_eq!(framing.next(b"\xff\xff\xff\xff", &proof(framing)), Piece::Senseless);
    }
}
