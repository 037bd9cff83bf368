//! Every codec over every split: whatever the reads, the frames are those that the bytes say.

use proptest::collection::vec;
use proptest::prelude::*;
use switchboard::codec::{Decoded, EncodeError, FrameError, Framing, Width};

use crate::model::{lines_model, prefix_model};
use crate::reader::{Reader, Seen, cuts_within, decode_cut, every_split};

mod model;
mod newer;
mod own;
mod reader;

const WIDTHS: [Width; 6] =
    [Width::U8, Width::U16Be, Width::U16Le, Width::U32Be, Width::U32Le, Width::I32Le];

/// The longest frame body in most of these tests: little, so that limits are often met.
const MAX: usize = 5;

// ------------------------------------------------------------------ arbitrary input

fn any_width() -> impl Strategy<Value = Width> {
    proptest::sample::select(&WIDTHS[..])
}

/// Every framing but raw, whose frames are its reads.
fn any_cutting_framing(max: usize) -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::lines().max_frame(max)),
        Just(Framing::lines().max_frame(max).skip_overlong()),
        any_width().prop_map(move |width| Framing::length_prefix(width).max_frame(max)),
    ]
}

/// Text in which line ends, CRs and NULs are frequent.
fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(proptest::sample::select(&b"aaaab\r\r\n\n\0"[..]), 0..120)
}

/// Whole frames one after the other, a few bytes lost at the end of some.
fn prefixed(width: Width) -> impl Strategy<Value = Vec<u8>> {
    (vec(vec(any::<u8>(), 0..=MAX + 1), 0..12), 0..3_usize).prop_map(move |(bodies, lost)| {
        let framing = Framing::length_prefix(width);
        let mut wire = Vec::new();
        for body in bodies {
            framing.encode(&body, &mut wire).expect("short bodies fit every width");
        }
        wire.truncate(wire.len().saturating_sub(lost));
        wire
    })
}

fn positions() -> impl Strategy<Value = Vec<usize>> {
    vec(any::<usize>(), 0..20)
}

// ------------------------------------------------------------------ decode(concat) == concat(decode)

#[test]
fn all_short_texts_in_all_splits_are_the_same_lines() {
    let (alphabet, max) = (b"a\r\n", 2);
    let fatal = Framing::lines().max_frame(max);
    let skip = fatal.clone().skip_overlong();
    for len in 0..=7_u32 {
        for number in 0..3_usize.pow(len) {
            let bytes: Vec<u8> =
                (0..len).map(|at| alphabet[number / 3_usize.pow(at) % 3]).collect();
            let until_fatal = lines_model(&bytes, max, false);
            let with_skipped = lines_model(&bytes, max, true);
            for cuts in every_split(bytes.len()) {
                assert_eq!(decode_cut(&fatal, &bytes, &cuts), until_fatal, "{bytes:?} {cuts:?}");
                assert_eq!(decode_cut(&skip, &bytes, &cuts), with_skipped, "{bytes:?} {cuts:?}");
            }
        }
    }
}

#[test]
fn frames_in_all_splits_are_the_same_frames() {
    for width in WIDTHS {
        let framing = Framing::length_prefix(width);
        let mut wire = Vec::new();
        for body in [&b""[..], b"ab", b""] {
            framing.encode(body, &mut wire).expect("fits");
        }
        let expected = [b"".to_vec(), b"ab".to_vec(), b"".to_vec()].map(Seen::Frame);
        for cuts in every_split(wire.len()) {
            assert_eq!(decode_cut(&framing, &wire, &cuts), expected, "{width:?} {cuts:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_split_of_any_text_gives_its_lines(bytes in text(), at in positions()) {
        let cuts = cuts_within(bytes.len(), &at);
        for max in [0, 1, MAX] {
            let fatal = Framing::lines().max_frame(max);
            prop_assert_eq!(decode_cut(&fatal, &bytes, &cuts), lines_model(&bytes, max, false));
            let skip = fatal.skip_overlong();
            prop_assert_eq!(decode_cut(&skip, &bytes, &cuts), lines_model(&bytes, max, true));
        }
    }

    #[test]
    fn any_split_of_any_frames_gives_those_frames(
        (width, bytes) in any_width().prop_flat_map(|width| (Just(width), prefixed(width))),
        at in positions(),
    ) {
        let framing = Framing::length_prefix(width).max_frame(MAX);
        let cuts = cuts_within(bytes.len(), &at);
        prop_assert_eq!(decode_cut(&framing, &bytes, &cuts), prefix_model(width, &bytes, MAX));
    }

    #[test]
    fn any_split_of_garbage_gives_the_same_frames_and_the_same_error(
        width in any_width(),
        bytes in vec(prop_oneof![0..=2_u8, any::<u8>()], 0..60),
        at in positions(),
    ) {
        let framing = Framing::length_prefix(width).max_frame(300);
        let cuts = cuts_within(bytes.len(), &at);
        prop_assert_eq!(decode_cut(&framing, &bytes, &cuts), prefix_model(width, &bytes, 300));
    }

    #[test]
    fn raw_frames_are_the_reads(reads in vec(vec(any::<u8>(), 0..20), 0..20)) {
        let mut reader = Reader::new(&Framing::raw().max_frame(1));
        for read in &reads {
            reader.read(read);
        }
        let expected: Vec<Seen> =
            reads.into_iter().filter(|read| !read.is_empty()).map(Seen::Frame).collect();
        prop_assert_eq!(reader.end(), expected);
    }
}

// ------------------------------------------------------------------ decode(encode(x)) == x

proptest! {
    #[test]
    fn lines_come_back_as_they_were(
        messages in vec(vec(proptest::sample::select(&b"a\r\0\xff"[..]), 0..=MAX), 0..20),
        at in positions(),
    ) {
        // Of a message that ends with CR, that CR is taken for a part of the line end.
        let messages: Vec<_> =
            messages.into_iter().filter(|message| !message.ends_with(b"\r")).collect();
        check_round_trip(&Framing::lines().max_frame(MAX), &messages, &at)?;
    }

    #[test]
    fn prefixed_messages_come_back_as_they_were(
        width in any_width(),
        messages in vec(vec(any::<u8>(), 0..=255), 0..20),
        at in positions(),
    ) {
        check_round_trip(&Framing::length_prefix(width), &messages, &at)?;
    }

    #[test]
    fn a_raw_message_is_itself_on_the_wire(message in vec(any::<u8>(), 0..50)) {
        let mut wire = Vec::new();
        prop_assert_eq!(Framing::raw().max_frame(1).encode(&message, &mut wire), Ok(()));
        prop_assert_eq!(wire, message);
    }

    #[test]
    fn a_message_that_is_refused_leaves_no_trace(
        framing in any_cutting_framing(MAX),
        before in vec(any::<u8>(), 0..10),
        message in vec(any::<u8>(), 0..2 * MAX),
    ) {
        let mut out = before.clone();
        let encoded = framing.encode(&message, &mut out);
        prop_assert!(out.starts_with(&before));
        if message.len() <= MAX {
            let envelope = framing.envelope(message.len()).expect("it was encoded");
            let framed = [envelope.head(), &message, envelope.tail()].concat();
            prop_assert_eq!(encoded, Ok(()));
            prop_assert_eq!(&out[before.len()..], framed);
        } else {
            let refused = EncodeError::TooLong { len: message.len(), max: MAX };
            prop_assert_eq!(framing.envelope(message.len()), Err(refused.clone()));
            prop_assert_eq!(encoded, Err(refused));
            prop_assert_eq!(out, before);
        }
    }
}

fn check_round_trip(
    framing: &Framing,
    messages: &[Vec<u8>],
    at: &[usize],
) -> Result<(), TestCaseError> {
    let mut wire = Vec::new();
    for message in messages {
        framing.encode(message, &mut wire).expect("no longer than the maximum");
    }
    let seen = decode_cut(framing, &wire, &cuts_within(wire.len(), at));
    let expected: Vec<Seen> = messages.iter().cloned().map(Seen::Frame).collect();
    prop_assert_eq!(seen, expected);
    Ok(())
}

// ------------------------------------------------------------------ hostile bytes

proptest! {
    #[test]
    fn garbage_never_panics_nor_waits_nor_passes_beyond_the_maximum(
        framing in any_cutting_framing(MAX),
        chunks in vec(vec(prop_oneof![0..=12_u8, any::<u8>()], 0..40), 0..20),
    ) {
        let mut reader = Reader::new(&framing);
        for chunk in &chunks {
            reader.read(chunk);
        }
        // The most that may wait: a prefix and its body less a byte, or a line and its CR.
        prop_assert!(reader.pending_most < 4 + MAX, "{} bytes kept", reader.pending_most);
        for seen in reader.end() {
            prop_assert!(!matches!(seen, Seen::Frame(body) if body.len() > MAX));
        }
    }

    #[test]
    fn each_over_long_line_is_reported_once_and_no_good_line_is_lost(
        lengths in vec(0..3 * MAX, 0..30),
        at in positions(),
    ) {
        let bytes: Vec<u8> =
            lengths.iter().flat_map(|len| [vec![b'x'; *len], b"\n".to_vec()].concat()).collect();
        let framing = Framing::lines().max_frame(MAX).skip_overlong();
        let seen = decode_cut(&framing, &bytes, &cuts_within(bytes.len(), &at));
        let errors = seen.iter().filter(|seen| matches!(seen, Seen::Error(_))).count();
        prop_assert_eq!(errors, lengths.iter().filter(|len| **len > MAX).count());
        let good = seen.iter().filter_map(|seen| match seen {
            Seen::Frame(body) => Some(body.len()),
            Seen::Skipped(_) | Seen::Error(_) => None,
        });
        prop_assert!(good.eq(lengths.into_iter().filter(|len| *len <= MAX)));
    }
}

#[test]
fn a_length_bomb_is_refused_by_its_prefix_alone() {
    let big = [1 << 30, 0x7FFF_FFFF, (1 << 20) + 1];
    let signed = big.map(|bomb| (Width::I32Le, u32::to_le_bytes(bomb)));
    let little = [big[0], big[1], big[2], u32::MAX].map(|bomb| (Width::U32Le, bomb.to_le_bytes()));
    let large = [big[0], big[1], big[2], u32::MAX].map(|bomb| (Width::U32Be, bomb.to_be_bytes()));
    for (width, prefix) in signed.into_iter().chain(little).chain(large) {
        check_refused(width, prefix, &FrameError::TooLong { max: 1 << 20, skipping: false });
    }
    for length in [-1, i32::MIN] {
        let negative = FrameError::NegativeLength { length };
        check_refused(Width::I32Le, length.to_le_bytes(), &negative);
    }
}

/// Not a byte of the body is waited for.
#[track_caller]
fn check_refused(width: Width, prefix: [u8; 4], error: &FrameError) {
    let mut decoder = Framing::length_prefix(width).decoder();
    assert_eq!(decoder.decode(&prefix[..3]), Ok(Decoded::Incomplete), "{width:?} {prefix:?}");
    assert_eq!(decoder.decode(&prefix).as_ref(), Err(error), "{width:?} {prefix:?}");
    assert_eq!(decoder.decode(&prefix), Err(FrameError::Poisoned), "{width:?} {prefix:?}");
}

#[test]
fn a_line_without_end_is_thrown_away_in_bounded_memory() {
    let mut reader = Reader::new(&Framing::lines().max_frame(MAX).skip_overlong());
    for _ in 0..1000 {
        reader.read(&[b'x'; 1000]);
    }
    assert!(reader.pending_most <= MAX + 1, "{} bytes kept", reader.pending_most);
    reader.read(b"\nok\n");
    let error = Seen::Error(FrameError::TooLong { max: MAX, skipping: true });
    let expected = [error, Seen::Skipped(1_000_001), Seen::Frame(b"ok".to_vec())];
    assert_eq!(reader.end(), expected);
}

// ------------------------------------------------------------------ limits and ends

#[test]
fn the_default_maximum_is_met_exactly() {
    let line = [vec![b'x'; 8192], b"\r\n".to_vec()].concat();
    let decoded = Framing::lines().decoder().decode(&line);
    assert_eq!(decoded, Ok(Decoded::Frame { body: 0..8192, consumed: 8194 }));
    let decoded = Framing::lines().decoder().decode(&[b'x'; 8193]);
    assert_eq!(decoded, Err(FrameError::TooLong { max: 8192, skipping: false }));

    let frame = Framing::length_prefix(Width::U32Be);
    let (max, mut wire) = (1 << 20, Vec::new());
    frame.encode(&vec![0; max], &mut wire).expect("exactly the maximum");
    let decoded = frame.decoder().decode(&wire);
    assert_eq!(decoded, Ok(Decoded::Frame { body: 4..max + 4, consumed: max + 4 }));
    let refused = Err(EncodeError::TooLong { len: max + 1, max });
    assert_eq!(frame.encode(&vec![0; max + 1], &mut wire), refused);
}

#[test]
fn empty_frames_in_a_row_are_as_many_messages() {
    let seen = decode_cut(&Framing::length_prefix(Width::U16Be), &[0; 2000], &[1, 3, 1001]);
    assert_eq!(seen, vec![Seen::Frame(Vec::new()); 1000]);
    let seen = decode_cut(&Framing::lines(), &[b'\n'; 1000], &[500]);
    assert_eq!(seen, vec![Seen::Frame(Vec::new()); 1000]);
}

#[test]
fn fin_at_every_position_of_prefixed_frames() {
    for width in WIDTHS {
        let framing = Framing::length_prefix(width);
        let mut wire = Vec::new();
        framing.encode(b"abc", &mut wire).expect("fits");
        let frame_size = wire.len();
        framing.encode(b"de", &mut wire).expect("fits");
        for cut in 0..=wire.len() {
            let seen = decode_cut(&framing, &wire[..cut], &[]);
            assert_eq!(seen, prefix_model(width, &wire[..cut], MAX), "{width:?} {cut}");
            let whole = cut == 0 || cut == frame_size || cut == wire.len();
            assert_eq!(whole, !matches!(seen.last(), Some(Seen::Error(_))), "{width:?} {cut}");
        }
    }
}

#[test]
fn fin_at_every_position_of_lines() {
    let bytes = b"one\r\n\ntwo\nmuch too long\nfive5\r\nthree";
    let fatal = Framing::lines().max_frame(MAX);
    let skip = fatal.clone().skip_overlong();
    for cut in 0..=bytes.len() {
        let bytes = &bytes[..cut];
        let splits = (0..cut).map(|at| vec![at]).chain([(0..cut).collect()]);
        for cuts in splits {
            let until_fatal = decode_cut(&fatal, bytes, &cuts);
            assert_eq!(until_fatal, lines_model(bytes, MAX, false), "{cut} {cuts:?}");
            let with_skipped = decode_cut(&skip, bytes, &cuts);
            assert_eq!(with_skipped, lines_model(bytes, MAX, true), "{cut} {cuts:?}");
        }
    }
}

#[test]
fn fin_after_raw_bytes_leaves_nothing() {
    let mut decoder = Framing::raw().decoder();
    assert_eq!(decoder.decode_end(b""), Ok(Decoded::Incomplete));
    assert_eq!(decoder.decode_end(b"ab"), Ok(Decoded::Frame { body: 0..2, consumed: 2 }));
}
