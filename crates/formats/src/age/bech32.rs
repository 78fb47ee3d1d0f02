//! Bech32 (BIP 173) without its limit of 90 characters: how keys of age are spelled.

const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const CHECK_DIGITS: usize = 6;
/// Longest text that is looked at, in characters.
const CHARS_MAX: usize = 200;

fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, value| {
        let top = sum >> 25;
        let sum = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
        GENERATORS.iter().enumerate().fold(sum, |sum, (bit, generator)| match (top >> bit) & 1 {
            0 => sum,
            _ => sum ^ generator,
        })
    })
}

fn prefix_values(prefix: &str) -> impl Iterator<Item = u8> + '_ {
    prefix.bytes().map(|b| b >> 5).chain([0]).chain(prefix.bytes().map(|b| b & 31))
}

/// Bits in groups of `from` as groups of `to`; `None` where what is left over at the end says something.
fn regroup(values: &[u8], from: u32, to: u32, pads: bool) -> Option<Vec<u8>> {
    let (mut held, mut bits, mut out) = (0u32, 0u32, Vec::new());
    let mask = (1u32 << to) - 1;
    for value in values {
        held = ((held << from) | u32::from(*value)) & 0xffff;
        bits += from;
        while bits >= to {
            bits -= to;
            out.push(u8::try_from((held >> bits) & mask).ok()?);
        }
    }
    let rest = (held << (to - bits)) & mask;
    match pads {
        true if bits > 0 => out.push(u8::try_from(rest).ok()?),
        false if bits >= from || rest != 0 => return None,
        _ => {}
    }
    Some(out)
}

/// Spells bytes, in small letters.
pub fn encode(prefix: &str, bytes: &[u8]) -> String {
    let data = regroup(bytes, 8, 5, true).unwrap_or_default();
    let all = prefix_values(prefix).chain(data.iter().copied()).chain([0; CHECK_DIGITS]);
    let sum = polymod(all) ^ 1;
    let check = (0..CHECK_DIGITS).map(|i| (sum >> (5 * (CHECK_DIGITS - 1 - i))) as u8 & 31);
    let digits = data.iter().copied().chain(check);
    let digits = digits.map(|value| DIGITS.get(usize::from(value)).map_or('q', |d| char::from(*d)));
    format!("{prefix}1{}", digits.collect::<String>())
}

/// Reads what [`encode`] wrote, all of it in small letters or all in capitals. `prefix` is in small letters.
pub fn decode(prefix: &str, text: &str) -> Option<Vec<u8>> {
    let is_mixed =
        text.bytes().any(|b| b.is_ascii_lowercase()) && text.bytes().any(|b| b.is_ascii_uppercase());
    if is_mixed || !text.is_ascii() || text.len() > CHARS_MAX {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let digits = lower.strip_prefix(prefix)?.strip_prefix('1')?;
    let value = |b: u8| DIGITS.iter().position(|d| *d == b).and_then(|at| u8::try_from(at).ok());
    let values: Vec<u8> = digits.bytes().map(value).collect::<Option<_>>()?;
    let (data, _) = values.split_at_checked(values.len().checked_sub(CHECK_DIGITS)?)?;
    let is_right = polymod(prefix_values(prefix).chain(values.iter().copied())) == 1;
    if is_right { regroup(data, 5, 8, false) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_valid_ones_of_bip_173_are_read_and_the_invalid_ones_are_not() {
        assert_eq!(decode("a", "A12UEL5L"), Some(vec![]));
        assert_eq!(encode("a", &[]), "a12uel5l");
        let all = "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w";
        let read = decode("split", all).unwrap();
        assert_eq!(encode("split", &read), all);
        for (prefix, bad) in [
            ("a", "a12uEL5L"),
            ("a", "a12uel5m"),
            ("b", "a12uel5l"),
            ("a", "a1"),
            ("a", "a"),
            ("a", ""),
            ("a", "a1éel5l"),
            ("split", &all.replace("check", "cheak")),
            ("split", &all.replace('3', "b")),
        ] {
            assert_eq!(decode(prefix, bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_and_one_wrong_letter_is_found(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
            digit in 0usize..32,
        ) {
            let text = encode("age", &bytes);
            prop_assert_eq!(decode("age", &text), Some(bytes.clone()));
            prop_assert_eq!(decode("age", &text.to_uppercase()), Some(bytes));
            let mut wrong = text.clone().into_bytes();
            let at = 4 + at.index(wrong.len() - 4);
            wrong[at] = DIGITS[digit];
            let wrong = String::from_utf8(wrong).unwrap();
            prop_assert_eq!(decode("age", &wrong).is_some(), wrong == text);
        }
    }
}
