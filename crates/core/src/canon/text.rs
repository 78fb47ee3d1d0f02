//! Strings as they stand in canonical text.

/// How many bytes at the start of `text` stand in a canonical string as they are: all up to the first quote,
/// backslash or control. Looks at eight bytes at once, since most of what is read and written is text.
pub(super) fn plain_len(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // The highest bit of each byte that is zero; exact up to the first of them.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let escapes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * u64::from(b' ')) & !word & HIGH;
        let found = quotes | escapes | controls;
        if found != 0 {
            return i * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = |b: &u8| *b >= b' ' && *b != b'"' && *b != b'\\';
    words.len() * 8 + rest.iter().take_while(|b| plain(b)).count()
}

/// Appends a string with its quotes.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let (plain, after) = rest.split_at(plain_len(rest.as_bytes()));
        out.push_str(plain);
        let Some(byte) = after.bytes().next() else { break };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            8 => out.push_str("\\b"),
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            12 => out.push_str("\\f"),
            b'\r' => out.push_str("\\r"),
            control => out.push_str(&format!("\\u{control:04x}")),
        }
        rest = &after[1..];
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::plain_len;

    #[test]
    fn plain_text_ends_at_the_first_quote_backslash_or_control_wherever_it_stands() {
        for end in 0..24 {
            for sign in [b'"', b'\\', 0, 8, b'\n', 31] {
                // What differs from these signs by one bit or by one, and what has the highest bit, is plain.
                for plain in [b' ', b'!', b'#', b'[', b']', 127, 128, 0xa2, 0xdc, 255] {
                    let mut text = vec![plain; 24];
                    assert_eq!(plain_len(&text), 24, "{plain}");
                    text[end] = sign;
                    assert_eq!(plain_len(&text), end, "{sign} behind {plain}");
                    text[end..].fill(sign);
                    assert_eq!(plain_len(&text), end, "{sign} behind {plain}");
                }
            }
        }
    }
}
