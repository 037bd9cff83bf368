//! What the bytes say, found the slow and plain way: the decoders must agree.

use switchboard::codec::{FrameError, Width};

use crate::reader::Seen;

/// The lines of `bytes`.
pub(crate) fn lines_model(bytes: &[u8], max: usize, skipping: bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    for wire in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line = match wire.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => wire,
        };
        if line.len() <= max {
            seen.push(Seen::Frame(line.to_vec()));
            continue;
        }
        seen.push(Seen::Error(FrameError::TooLong { max, skipping }));
        if !skipping {
            break;
        }
        seen.push(Seen::Skipped(wire.len()));
    }
    seen
}

/// The frames of `bytes`, with numbers wide enough for anything.
pub(crate) fn prefix_model(width: Width, mut bytes: &[u8], max: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let unfinished = Seen::Error(FrameError::Unfinished { have: bytes.len() });
        let Some((head, rest)) = bytes.split_at_checked(size_of_width(width)) else {
            seen.push(unfinished);
            break;
        };
        let announced = announced(width, head);
        if let Ok(length @ ..0) = i32::try_from(announced) {
            seen.push(Seen::Error(FrameError::NegativeLength { length }));
            break;
        }
        let Some(length) = usize::try_from(announced).ok().filter(|length| *length <= max) else {
            seen.push(Seen::Error(FrameError::TooLong { max, skipping: false }));
            break;
        };
        let Some((body, after)) = rest.split_at_checked(length) else {
            seen.push(unfinished);
            break;
        };
        seen.push(Seen::Frame(body.to_vec()));
        bytes = after;
    }
    seen
}

fn size_of_width(width: Width) -> usize {
    match width {
        Width::U8 => 1,
        Width::U16Be | Width::U16Le => 2,
        _ => 4,
    }
}

fn announced(width: Width, head: &[u8]) -> i64 {
    let big_endian = matches!(width, Width::U8 | Width::U16Be | Width::U32Be);
    let add = |sum: i64, byte: &u8| (sum << 8) | i64::from(*byte);
    let length = if big_endian { head.iter().fold(0, add) } else { head.iter().rev().fold(0, add) };
    if width == Width::I32Le && length >= 1 << 31 { length - (1 << 32) } else { length }
}
