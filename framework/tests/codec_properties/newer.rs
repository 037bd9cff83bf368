//! Delimiters, fixed lengths, varints and codecs of one's own, over every split.

use proptest::collection::vec;
use proptest::prelude::*;
use switchboard::codec::{Decoded, FrameError, FrameReader, Framing, Width};

use crate::model::{delimited_model, fixed_model, netstring_model, varint_model};
use crate::own::{Answer, Netstrings, Scripted};
use crate::reader::{Reader, Seen, cuts_within, decode_cut, every_split};

/// The longest frame body in most of these tests: little, so that limits are often met.
const MAX: usize = 5;

fn positions() -> impl Strategy<Value = Vec<usize>> {
    vec(any::<usize>(), 0..20)
}

/// Delimiters that begin again within themselves, and others.
fn any_delimiter() -> impl Strategy<Value = Vec<u8>> {
    vec(proptest::sample::select(&b"ab"[..]), 1..=16)
}

/// Every framing of this file.
fn any_framing() -> impl Strategy<Value = Framing> {
    let delimiter = || any_delimiter().prop_map(|d| Framing::delimiter(&d).max_frame(MAX));
    prop_oneof![
        delimiter(),
        delimiter().prop_map(Framing::skip_overlong),
        (1..=MAX).prop_map(Framing::fixed),
        Just(Framing::length_prefix(Width::Varint).max_frame(MAX)),
        Just(Framing::custom(Netstrings).max_frame(MAX + 3)),
    ]
}

// ------------------------------------------------------------------ decode(concat) == concat(decode)

#[test]
fn all_short_texts_in_all_splits_are_the_same_messages() {
    let delimiters = [&b"a"[..], b"ab", b"aa", b"aab", b"aba", b"bbbb"];
    for (delimiter, len) in delimiters.into_iter().flat_map(|d| (0..=8_u32).map(move |n| (d, n))) {
        let fatal = Framing::delimiter(delimiter).max_frame(2);
        let skip = fatal.clone().skip_overlong();
        for number in 0..2_usize.pow(len) {
            let bytes: Vec<u8> = (0..len).map(|at| b"ab"[number >> at & 1]).collect();
            let until_fatal = delimited_model(delimiter, &bytes, 2, false);
            let with_skipped = delimited_model(delimiter, &bytes, 2, true);
            for cuts in every_split(bytes.len()) {
                let place = format!("{delimiter:?} in {bytes:?} {cuts:?}");
                assert_eq!(decode_cut(&fatal, &bytes, &cuts), until_fatal, "{place}");
                assert_eq!(decode_cut(&skip, &bytes, &cuts), with_skipped, "{place}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_split_of_any_text_gives_its_delimited_messages(
        delimiter in any_delimiter(),
        pieces in vec(vec(proptest::sample::select(&b"aabbc"[..]), 0..10), 0..12),
        at in positions(),
    ) {
        let bytes = pieces.join(&delimiter[..]);
        let cuts = cuts_within(bytes.len(), &at);
        for max in [0, 1, MAX, 100] {
            let fatal = Framing::delimiter(&delimiter).max_frame(max);
            let expected = delimited_model(&delimiter, &bytes, max, false);
            prop_assert_eq!(decode_cut(&fatal, &bytes, &cuts), expected);
            let expected = delimited_model(&delimiter, &bytes, max, true);
            prop_assert_eq!(decode_cut(&fatal.skip_overlong(), &bytes, &cuts), expected);
        }
    }

    #[test]
    fn any_split_of_any_bytes_gives_its_messages_of_fixed_length(
        len in 1..=20_usize,
        bytes in vec(any::<u8>(), 0..60),
        at in positions(),
    ) {
        let seen = decode_cut(&Framing::fixed(len), &bytes, &cuts_within(bytes.len(), &at));
        prop_assert_eq!(seen, fixed_model(len, &bytes));
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_varint_frames_and_the_same_error(
        bytes in vec(prop_oneof![0..=3_u8, 0x80..=0x83_u8, any::<u8>()], 0..60),
        at in positions(),
    ) {
        let framing = Framing::length_prefix(Width::Varint).max_frame(300);
        let seen = decode_cut(&framing, &bytes, &cuts_within(bytes.len(), &at));
        prop_assert_eq!(seen, varint_model(&bytes, 300));
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_netstrings_and_the_same_error(
        bytes in vec(proptest::sample::select(&b"00123:::,,,x"[..]), 0..40),
        at in positions(),
    ) {
        let framing = Framing::custom(Netstrings).max_frame(MAX);
        let seen = decode_cut(&framing, &bytes, &cuts_within(bytes.len(), &at));
        prop_assert_eq!(seen, netstring_model(&bytes, MAX));
    }

    #[test]
    fn a_frame_reader_gives_what_its_decoder_finds(
        framing in any_framing(),
        bytes in vec(proptest::sample::select(&b"\x01\x02aaabb012:,"[..]), 0..60),
        at in positions(),
    ) {
        let cuts = cuts_within(bytes.len(), &at);
        let mut frames = FrameReader::new(&framing);
        let (mut taken, mut begin) = (Vec::new(), 0);
        for &end in cuts.iter().chain([&bytes.len()]) {
            frames.feed(&bytes[begin..end]);
            begin = end;
            take(&mut frames, &mut taken);
        }
        frames.end();
        take(&mut frames, &mut taken);
        let mut expected = decode_cut(&framing, &bytes, &cuts);
        expected.retain(|seen| !matches!(seen, Seen::Skipped(_)));
        prop_assert_eq!(taken, expected);
    }
}

fn take(frames: &mut FrameReader, taken: &mut Vec<Seen>) {
    while let Some(frame) = frames.next_frame() {
        taken.push(match frame {
            Ok(body) => Seen::Frame(body.to_vec()),
            Err(why) => Seen::Error(why),
        });
    }
}

// ------------------------------------------------------------------ decode(encode(x)) == x

proptest! {
    #[test]
    fn messages_without_the_delimiter_come_back_as_they_were(
        delimiter in vec(any::<u8>(), 1..=16),
        messages in vec(vec(any::<u8>(), 0..30), 0..20),
        at in positions(),
    ) {
        // Nor may its end and the delimiter's beginning make another one.
        let first_ends = |message: &[u8]| {
            let wire = [message, &delimiter].concat();
            wire.windows(delimiter.len()).position(|window| window == delimiter)
        };
        let keep = |message: &Vec<u8>| first_ends(message) == Some(message.len());
        let messages: Vec<_> = messages.into_iter().filter(keep).collect();
        check_round_trip(&Framing::delimiter(&delimiter), &messages, &at)?;
    }

    #[test]
    fn messages_of_fixed_length_come_back_as_they_were(
        messages in (1..=40_usize).prop_flat_map(|len| vec(vec(any::<u8>(), len), 1..10)),
        at in positions(),
    ) {
        check_round_trip(&Framing::fixed(messages[0].len()), &messages, &at)?;
    }

    #[test]
    fn messages_behind_a_varint_or_in_a_netstring_come_back_as_they_were(
        messages in vec(vec(any::<u8>(), 0..=300), 0..20),
        at in positions(),
    ) {
        check_round_trip(&Framing::length_prefix(Width::Varint), &messages, &at)?;
        check_round_trip(&Framing::custom(Netstrings), &messages, &at)?;
    }

    #[test]
    fn a_message_that_is_refused_leaves_no_trace_of_itself(
        framing in any_framing(),
        before in vec(any::<u8>(), 0..10),
        message in vec(any::<u8>(), 0..2 * MAX),
    ) {
        let mut out = before.clone();
        if framing.encode(&message, &mut out).is_err() {
            prop_assert_eq!(out, before);
        } else {
            prop_assert!(message.len() <= MAX && out.starts_with(&before));
            let mut decoder = framing.decoder();
            let Ok(Decoded::Frame { body, consumed }) = decoder.decode(&out[before.len()..]) else {
                // A delimiter may make an earlier message of it, or a later one.
                return Ok(());
            };
            prop_assert!(body.end <= consumed && consumed <= out.len() - before.len());
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

// ------------------------------------------------------------------ hostile bytes, hostile codecs

proptest! {
    #[test]
    fn garbage_never_panics_nor_waits_for_more_than_a_frame(
        framing in any_framing(),
        chunks in vec(vec(prop_oneof![b'a'..=b'b', b'0'..=b':', any::<u8>()], 0..40), 0..20),
    ) {
        let mut reader = Reader::new(&framing);
        for chunk in &chunks {
            reader.read(chunk);
        }
        // A delimiter less a byte, or a prefix that says nothing yet, and a body.
        prop_assert!(reader.pending_most < 16 + MAX, "{} bytes kept", reader.pending_most);
        for seen in reader.end() {
            prop_assert!(!matches!(seen, Seen::Frame(body) if body.len() > MAX + 3));
        }
    }

    #[test]
    fn whatever_a_codec_answers_the_decoder_keeps_its_word(
        answers in vec(any_answer(), 0..30),
        bytes in vec(any::<u8>(), 0..30),
        max in prop_oneof![0..40_usize, Just(usize::MAX)],
    ) {
        let mut decoder = Framing::custom(Scripted(answers)).max_frame(max).decoder();
        let (mut done, mut errors) = (0, 0);
        loop {
            let rest = &bytes[done..];
            match decoder.decode(rest) {
                Ok(Decoded::Frame { body, consumed }) => {
                    prop_assert!(consumed > 0 && consumed <= rest.len() && consumed <= max);
                    prop_assert!(body.start <= body.end && body.end <= consumed);
                    done += consumed;
                }
                Ok(Decoded::Skipped { consumed }) => {
                    prop_assert!(consumed > 0 && consumed <= rest.len());
                    done += consumed;
                }
                Ok(Decoded::Incomplete) => {
                    prop_assert!(rest.is_empty() || rest.len() < max);
                    break;
                }
                Err(why) if why.is_fatal() => {
                    prop_assert_eq!(decoder.decode(rest), Err(FrameError::Poisoned));
                    break;
                }
                Err(_) => errors += 1,
            }
            // Between two errors that are not fatal something was consumed.
            prop_assert!(errors <= done + 1, "{errors} errors in {done} bytes");
        }
        let at_end = decoder.decode_end(&bytes[done..]);
        prop_assert!(at_end != Ok(Decoded::Incomplete) || done == bytes.len());
    }
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let position = || prop_oneof![4 => 0..8_usize, 1 => Just(usize::MAX)];
    prop_oneof![
        4 => (position(), position(), position()).prop_map(|(begin, end, consumed)| {
            Answer::Frame { begin, end, consumed }
        }),
        2 => position().prop_map(Answer::Skipped),
        1 => Just(Answer::Incomplete),
        1 => Just(Answer::Reported),
    ]
}

// ------------------------------------------------------------------ limits

#[test]
fn a_delimited_message_without_end_is_thrown_away_in_bounded_memory() {
    let framing = Framing::delimiter(b"--\r\n").max_frame(MAX).skip_overlong();
    let mut reader = Reader::new(&framing);
    for _ in 0..1000 {
        reader.read(&[b'-'; 1000]);
    }
    assert!(reader.pending_most <= MAX + 3, "{} bytes kept", reader.pending_most);
    reader.read(b"\r\nok--\r\n");
    let error = Seen::Error(FrameError::TooLong { max: MAX, skipping: true });
    assert_eq!(reader.end(), [error, Seen::Skipped(1_000_002), Seen::Frame(b"ok".to_vec())]);
}

#[test]
fn the_default_maximum_of_each_is_met_exactly() {
    let decoded = |framing: &Framing, bytes: &[u8]| framing.decoder().decode(bytes);
    let too_long = |max| Err(FrameError::TooLong { max, skipping: false });
    let semicolon = Framing::delimiter(b";;");
    let message = [vec![b'x'; 8192], b";;".to_vec()].concat();
    let frame = Decoded::Frame { body: 0..8192, consumed: 8194 };
    assert_eq!(decoded(&semicolon, &message), Ok(frame));
    assert_eq!(decoded(&semicolon, &[b'x'; 8193]), too_long(8192));

    let varint = Framing::length_prefix(Width::Varint);
    assert_eq!(decoded(&varint, b"\x80\x80\x40"), Ok(Decoded::Incomplete));
    assert_eq!(decoded(&varint, b"\x81\x80\x40"), too_long(1 << 20));

    let own = Framing::custom(Netstrings);
    let mut wire = Vec::new();
    own.encode(&vec![b'x'; (1 << 20) - 9], &mut wire).expect("eight bytes and a comma beside");
    assert_eq!(wire.len(), 1 << 20);
    assert!(decoded(&own, &wire).is_ok());
    assert_eq!(decoded(&own, &wire[..(1 << 20) - 1]), Ok(Decoded::Incomplete));
    assert!(own.encode(&vec![b'x'; (1 << 20) - 8], &mut wire).is_err());
    assert_eq!(wire.len(), 1 << 20, "what was refused has left no trace");
    assert_eq!(
        decoded(&own, &[&b"1048568:"[..], &[b'x'; 1 << 20]].concat()[..1 << 20]),
        too_long(1 << 20)
    );
}
