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

/// What stands between these delimiters.
pub(crate) fn delimited_model(
    delimiter: &[u8],
    mut bytes: &[u8],
    max: usize,
    skipping: bool,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let found = bytes.windows(delimiter.len()).position(|window| window == delimiter);
        let end = found.unwrap_or(bytes.len());
        let wire = found.map_or(end, |begin| begin + delimiter.len());
        if end <= max {
            seen.push(Seen::Frame(bytes[..end].to_vec()));
        } else {
            seen.push(Seen::Error(FrameError::TooLong { max, skipping }));
            if !skipping {
                break;
            }
            seen.push(Seen::Skipped(wire));
        }
        bytes = &bytes[wire..];
    }
    seen
}

/// So many bytes each.
pub(crate) fn fixed_model(len: usize, bytes: &[u8]) -> Vec<Seen> {
    let seen = |chunk: &[u8]| match chunk.len() {
        have if have < len => Seen::Error(FrameError::Unfinished { have }),
        _ => Seen::Frame(chunk.to_vec()),
    };
    bytes.chunks(len).map(seen).collect()
}

/// The frames behind varints, with numbers wide enough for anything.
pub(crate) fn varint_model(mut bytes: &[u8], max: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let unfinished = Seen::Error(FrameError::Unfinished { have: bytes.len() });
        let more = bytes.iter().take_while(|byte| **byte >= 0x80).count();
        let groups = bytes.iter().take(more + 1).rev();
        let length =
            groups.fold(0_u128, |sum, byte| sum.saturating_mul(128) | u128::from(byte & 127));
        if more >= 10 || more == 9 && bytes.len() > 9 && length > u128::from(u64::MAX) {
            seen.push(Seen::Error(FrameError::MalformedLength));
            break;
        }
        if bytes.len() == more {
            seen.push(unfinished);
            break;
        }
        if length > max as u128 {
            seen.push(Seen::Error(FrameError::TooLong { max, skipping: false }));
            break;
        }
        let Some((body, after)) = bytes[more + 1..].split_at_checked(length as usize) else {
            seen.push(unfinished);
            break;
        };
        seen.push(Seen::Frame(body.to_vec()));
        bytes = after;
    }
    seen
}

/// The netstrings of `bytes`, whose frames are at most `max` bytes long: nothing behind so many of them
/// is looked at.
pub(crate) fn netstring_model(mut bytes: &[u8], max: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let shown = &bytes[..bytes.len().min(max)];
        let unfinished = if bytes.len() >= max {
            FrameError::TooLong { max, skipping: false }
        } else {
            FrameError::Unfinished { have: bytes.len() }
        };
        let digits = shown.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(&shown[..digits]).expect("digits");
        let length: usize = text.parse().unwrap_or(0);
        let (begin, end) = (digits + 1, digits + 1 + length);
        let error = match (shown.get(digits), shown.get(end)) {
            (None, _) => unfinished,
            (Some(b':'), None) if digits > 0 => unfinished,
            (Some(b':'), Some(b',')) if digits > 0 => {
                seen.push(Seen::Frame(bytes[begin..end].to_vec()));
                bytes = &bytes[end + 1..];
                continue;
            }
            (Some(b':'), Some(_)) if digits > 0 => FrameError::custom("no comma"),
            _ => FrameError::custom("no length"),
        };
        seen.push(Seen::Error(error));
        break;
    }
    seen
}
