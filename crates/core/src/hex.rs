//! Lower-case hexadecimal, the only spelling in which hashes are written.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes `bytes` as lower-case hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.extend(digits(*byte).map(char::from));
    }
    out
}

/// The two digits of a byte.
pub const fn digits(byte: u8) -> [u8; 2] {
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

/// Reads exactly `N` bytes from `2 * N` hexadecimal digits of either case; anything else is `None`.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(out)
}

const fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        assert_eq!(encode(&[0, 255, 16]), "00ff10");
        assert_eq!(decode::<3>("00Ff10"), Some([0, 255, 16]));
        assert_eq!(decode::<3>("00ff1"), None);
        assert_eq!(decode::<3>("00ff1g"), None);
        assert_eq!(decode::<3>("00ff1é"), None);
    }
}
