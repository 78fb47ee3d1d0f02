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
    // Looked at in the end alone: hundreds of thousands of hashes are read, and none of them is wrong.
    let mut seen = 0;
    for (byte, pair) in out.iter_mut().zip(text.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| VALUES[usize::from(digit)]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen <= 15).then_some(out)
}

/// What each digit stands for; what is none is above all of them.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        let digit = DIGITS[value as usize];
        values[digit as usize] = value;
        values[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};

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

    #[test]
    fn each_byte_has_its_two_digits_in_either_case_and_no_other_sign_is_one() {
        for byte in 0..=255 {
            let text = encode(&[byte]);
            assert_eq!(decode(&text), Some([byte]));
            assert_eq!(decode(&text.to_uppercase()), Some([byte]));
        }
        for sign in (0..128_u8).filter(|sign| !sign.is_ascii_hexdigit()).map(char::from) {
            assert_eq!([decode::<1>(&format!("0{sign}")), decode::<1>(&format!("{sign}0"))], [None, None]);
        }
    }
}
