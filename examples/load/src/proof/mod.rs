//! Proving replies: what a request says, what its reply must be, and what a given reply is worth.

pub(crate) mod filler;
pub(crate) mod id;
pub(crate) mod window;

use crate::proof::filler::{Filler, Match, Place};
use crate::proof::id::{HEADER, Id};

/// The shortest message: an id and two bytes to prove that it was transformed.
pub(crate) const SIZE_MIN: usize = HEADER + 2;

/// What the server is expected to do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Send it back as it is.
    Echo,
    /// Upper-case ASCII bytes.
    Upper,
    /// Upper-case text in UTF-8; lengths may change.
    UpperUtf8,
    /// Upper-case text in GBK, whose second bytes may look like letters.
    UpperGbk,
    /// Answer everything with these bytes; replies are then told apart by their order alone.
    Fixed(Vec<u8>),
    /// Answer nothing.
    Nothing,
}

impl Expect {
    /// What this server makes of a text.
    pub(crate) fn transform(&self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Echo | Self::Nothing => text.to_vec(),
            Self::Upper => text.to_ascii_uppercase(),
            Self::UpperUtf8 => String::from_utf8_lossy(text).to_uppercase().into_bytes(),
            Self::UpperGbk => upper_gbk(text),
            Self::Fixed(reply) => reply.clone(),
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Echo => f.write_str("echo"),
            Self::Upper => f.write_str("upper"),
            Self::UpperUtf8 => f.write_str("upper-utf8"),
            Self::UpperGbk => f.write_str("upper-gbk"),
            Self::Fixed(reply) => write!(f, "fixed:{}", String::from_utf8_lossy(reply)),
            Self::Nothing => f.write_str("none"),
        }
    }
}

fn upper_gbk(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let mut at = 0;
    while at < out.len() {
        if out[at] < 0x80 {
            out[at] = out[at].to_ascii_uppercase();
            at += 1;
        } else {
            at += 2;
        }
    }
    out
}

/// The sizes of the messages: one, or a range that each id picks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl Sizes {
    #[inline]
    fn of(self, hash: u64) -> usize {
        if self.least == self.most {
            return self.least;
        }
        // The upper half of the hash: the lower one picks the filler.
        self.least + (hash >> 32) as usize % (self.most - self.least + 1)
    }
}

/// What the reply to a request must be, worked out when the request was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    /// The last eight bytes of its id.
    back: u64,
    place: Place,
    /// The whole length; zero where it has to be worked out from the reply.
    len: u32,
}

/// What one arrived message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The right reply to this request.
    Whole(Id),
    /// The beginning of the right reply, and no more.
    Truncated(Id),
    /// It names this request, but its bytes are wrong.
    Corrupt(Id),
    /// It names no request of this run.
    Nameless,
}

/// Writes requests and judges replies; one for a run, shared by its threads.
#[derive(Debug)]
pub(crate) struct Proof {
    run: u16,
    expect: Expect,
    sizes: Sizes,
    filler: Filler,
    reply_max: usize,
    /// Replies carry ids, and are as long as their requests: what they must be is known beforehand.
    promises: bool,
}

impl Proof {
    /// The proof for a run; all its bytes follow from `seed`.
    pub(crate) fn new(seed: u64, expect: Expect, sizes: Sizes) -> Self {
        let filler = Filler::new(seed, &expect);
        let reply_max = match &expect {
            Expect::Fixed(reply) => reply.len(),
            // A unit of 16 bytes grows by less than a half (ŉ: two bytes become three).
            Expect::UpperUtf8 => sizes.most * 3 / 2 + 16,
            _ => sizes.most,
        };
        let promises = filler.same_length() && expect != Expect::Nothing;
        Self { run: (id::mix(seed) & 0xfff) as u16, expect, sizes, filler, reply_max, promises }
    }

    /// What the server is expected to do.
    pub(crate) fn expect(&self) -> &Expect {
        &self.expect
    }

    /// No right reply is longer than this.
    pub(crate) fn reply_max(&self) -> usize {
        self.reply_max
    }

    /// How long this request is.
    pub(crate) fn request_len(&self, id: Id) -> usize {
        self.sizes.of(id.hash(self.run))
    }

    /// What the ids of a connection begin with.
    pub(crate) fn front(&self, conn: u32) -> u64 {
        id::front(self.run, conn)
    }

    /// Appends the request.
    pub(crate) fn append_request(&self, id: Id, out: &mut Vec<u8>) {
        let _: Promise = self.promise_request(id, self.front(id.conn), out);
    }

    /// Appends the request, and says what its reply must be. `front` is what its connection's ids begin with.
    #[inline(always)]
    pub(crate) fn promise_request(&self, id: Id, front: u64, out: &mut Vec<u8>) -> Promise {
        let hash = id.hash(self.run);
        let (back, place) = (id.back(hash), Place::of(hash));
        let (begin, len) = (out.len(), self.sizes.of(hash));
        match self.filler.append_row(place, len - HEADER, out) {
            Some(row) => {
                row[..HEADER].copy_from_slice(&id::join(front, back));
                out.truncate(begin + len);
            }
            None => self.append_long(&id::join(front, back), (place, len), out),
        }
        Promise { back, place, len: if self.promises { len as u32 } else { 0 } }
    }

    #[cold]
    #[inline(never)]
    fn append_long(&self, head: &[u8], (place, len): (Place, usize), out: &mut Vec<u8>) {
        out.extend_from_slice(head);
        self.filler.append_sent(place, len - HEADER, out);
    }

    /// Whether `bytes` begin with the promised reply: how long it is. No id is read and no hash worked out for that; what
    /// is not as promised goes the longer way.
    #[inline(always)]
    pub(crate) fn kept(&self, promise: &Promise, front: u64, bytes: &[u8]) -> Option<usize> {
        let (head, rest) = bytes.split_first_chunk::<HEADER>()?;
        let len = promise.len as usize;
        let filler = rest.get(..len.checked_sub(HEADER)?)?;
        let right =
            id::begins(head, front, promise.back) && self.filler.is_whole(promise.place, filler);
        right.then_some(len)
    }

    /// Whether replies carry ids.
    #[inline]
    fn named(&self) -> bool {
        !matches!(self.expect, Expect::Fixed(_) | Expect::Nothing)
    }

    /// Appends the reply that this request must get.
    pub(crate) fn append_reply(&self, id: Id, out: &mut Vec<u8>) {
        if let Expect::Fixed(reply) = &self.expect {
            out.extend_from_slice(reply);
            return;
        }
        let hash = id.hash(self.run);
        out.extend_from_slice(&id.encode(self.run, hash));
        self.filler.append_expected(Place::of(hash), self.sizes.of(hash) - HEADER, out);
    }

    /// How long the reply to this request must be.
    pub(crate) fn reply_len(&self, id: Id) -> usize {
        if let Expect::Fixed(reply) = &self.expect {
            return reply.len();
        }
        let hash = id.hash(self.run);
        HEADER + self.filler.expected_len(Place::of(hash), self.sizes.of(hash) - HEADER)
    }

    /// The id at the start of `bytes`, if there is a sound one.
    pub(crate) fn id_at(&self, bytes: &[u8]) -> Option<Id> {
        Id::decode(self.run, bytes).map(|(id, _)| id)
    }

    /// Compares the bytes with the reply that the id at their start calls for.
    pub(crate) fn compare(&self, bytes: &[u8]) -> Option<(Id, Match)> {
        let (id, hash) = Id::decode(self.run, bytes)?;
        let len = self.sizes.of(hash) - HEADER;
        Some((id, self.filler.compare(Place::of(hash), len, &bytes[HEADER..])))
    }

    /// Whether `bytes` begin with a right reply: to what, and how long it is. The quick way that nearly all replies go.
    /// Where replies carry no ids, none is right by itself.
    #[inline]
    pub(crate) fn proved(&self, bytes: &[u8]) -> Option<(Id, usize)> {
        if !self.named() {
            return None;
        }
        let (id, hash) = Id::decode(self.run, bytes)?;
        let (place, len) = (Place::of(hash), self.sizes.of(hash) - HEADER);
        let end = HEADER + self.filler.expected_len(place, len);
        let filler = bytes.get(HEADER..end)?;
        let whole = if filler.len() == len {
            self.filler.is_whole(place, filler)
        } else {
            self.filler.compare(place, len, filler) == Match::Whole
        };
        whole.then_some((id, end))
    }

    /// Judges one message, by itself.
    pub(crate) fn judge(&self, message: &[u8]) -> Verdict {
        match self.compare(message) {
            Some((id, Match::Whole)) => Verdict::Whole(id),
            Some((id, Match::Prefix)) => Verdict::Truncated(id),
            Some((id, Match::Longer | Match::Differs)) => Verdict::Corrupt(id),
            None => Verdict::Nameless,
        }
    }

    /// Judges a message that names no request against one that is still open: is it that one's reply, damaged?
    pub(crate) fn resembles(&self, message: &[u8], id: Id, scratch: &mut Vec<u8>) -> Verdict {
        scratch.clear();
        self.append_reply(id, scratch);
        if message == scratch.as_slice() {
            return Verdict::Whole(id);
        }
        if !message.is_empty() && message.len() < scratch.len() && scratch.starts_with(message) {
            return Verdict::Truncated(id);
        }
        let same = message.iter().zip(scratch.iter()).filter(|(a, b)| a == b).count();
        if message.len() == scratch.len() && same * 4 >= scratch.len() * 3 {
            return Verdict::Corrupt(id);
        }
        Verdict::Nameless
    }
}

#[cfg(test)]
mod tests {
    use super::{Expect, HEADER, Id, Proof, Sizes, Verdict};

    fn exchange(expect: &Expect) -> (Proof, Id, Vec<u8>, Vec<u8>) {
        let proof = Proof::new(11, expect.clone(), Sizes { least: 16, most: 200 });
        let id = Id { conn: 3, seq: 12 };
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let promise = proof.promise_request(id, proof.front(id.conn), &mut request);
        proof.append_reply(id, &mut reply);
        let kept = proof.kept(&promise, proof.front(id.conn), &reply);
        assert!(kept == Some(reply.len()) || (kept.is_none() && *expect == Expect::UpperUtf8));
        assert_eq!(request.len(), proof.request_len(id));
        assert_eq!(reply.len(), proof.reply_len(id));
        assert!(reply.len() <= proof.reply_max());
        (proof, id, request, reply)
    }

    #[test]
    fn the_right_reply_is_whole_and_any_other_is_not() {
        for expect in [Expect::Echo, Expect::Upper, Expect::UpperUtf8, Expect::UpperGbk] {
            let (proof, id, request, reply) = exchange(&expect);
            assert_eq!(expect.transform(&request), reply);
            assert_eq!(proof.judge(&reply), Verdict::Whole(id));
            assert_eq!(proof.judge(&reply[..HEADER]), Verdict::Truncated(id));
            for at in HEADER..reply.len() {
                let mut bad = reply.clone();
                bad[at] ^= 0x20;
                assert_eq!(proof.judge(&bad), Verdict::Corrupt(id), "byte {at}");
            }
        }
    }

    #[test]
    fn a_promise_is_kept_by_the_right_reply_alone() {
        let proof = Proof::new(11, Expect::Upper, Sizes { least: 16, most: 200 });
        let front = proof.front(3);
        for seq in 0..300 {
            let id = Id { conn: 3, seq };
            let (mut request, mut reply) = (Vec::new(), Vec::new());
            let promise = proof.promise_request(id, front, &mut request);
            assert_eq!(proof.kept(&promise, front, &request), None, "an echo");
            proof.append_reply(id, &mut reply);
            assert_eq!(proof.kept(&promise, front, &reply), Some(reply.len()));
            assert_eq!(proof.kept(&promise, proof.front(4), &reply), None, "another connection's");
            assert_eq!(proof.kept(&promise, front, &reply[..reply.len() - 1]), None);
            for at in 0..reply.len() {
                let mut bad = reply.clone();
                bad[at] ^= 1 << (seq % 8);
                assert_eq!(proof.kept(&promise, front, &bad), None, "byte {at}");
            }
        }
    }

    #[test]
    fn a_plain_echo_is_no_upper_casing() {
        let (proof, id, request, _) = exchange(&Expect::Upper);
        assert_eq!(proof.judge(&request), Verdict::Corrupt(id));
    }

    #[test]
    fn a_reply_with_a_damaged_id_is_known_by_the_rest() {
        let (proof, id, _, mut reply) = exchange(&Expect::Upper);
        reply[8] ^= 1;
        assert_eq!(proof.judge(&reply), Verdict::Nameless);
        assert_eq!(proof.resembles(&reply, id, &mut Vec::new()), Verdict::Corrupt(id));
        let other = Id { conn: 3, seq: 13 };
        assert_eq!(proof.resembles(&reply, other, &mut Vec::new()), Verdict::Nameless);
    }
}
