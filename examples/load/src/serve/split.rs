//! Messages in the stream that the reference server receives. It knows no ids: it frames as any server would.
use crate::framing::Framing;

/// Where the first message lies in `bytes`, and how many bytes it takes in all.
pub(crate) fn next(framing: Framing, bytes: &[u8]) -> Option<(usize, usize, usize)> {
    match framing {
        Framing::Lines => {
            let end = bytes.iter().position(|&byte| byte == b'\n')?;
            Some((0, end, end + 1))
        }
        Framing::Length { bytes: width, big } => {
            let width = usize::from(width);
            let prefix = bytes.get(..width)?;
            let len = prefix.iter().enumerate().fold(0usize, |len, (n, &byte)| {
                let place = if big { width - 1 - n } else { n };
                len | usize::from(byte) << (8 * place)
            });
            (bytes.len() >= width + len).then_some((width, width + len, width + len))
        }
        Framing::Fixed(len) => (bytes.len() >= len).then_some((0, len, len)),
        // Whatever a read brings is a message.
        Framing::Raw => (!bytes.is_empty()).then_some((0, bytes.len(), bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::next;
    use crate::framing::Framing;

    #[test]
    fn each_framing_finds_its_first_message() {
        assert_eq!(next(Framing::Lines, b"ab\ncd"), Some((0, 2, 3)));
        assert_eq!(next(Framing::Lines, b"ab"), None);
        let le = Framing::Length { bytes: 4, big: false };
        assert_eq!(next(le, b"\x02\0\0\0abc"), Some((4, 6, 6)));
        assert_eq!(next(le, b"\x02\0\0\0a"), None);
        assert_eq!(next(Framing::Length { bytes: 2, big: true }, b"\0\x01x"), Some((2, 3, 3)));
        assert_eq!(next(Framing::Fixed(3), b"abcd"), Some((0, 3, 3)));
        assert_eq!(next(Framing::Raw, b"abcd"), Some((0, 4, 4)));
    }
}
