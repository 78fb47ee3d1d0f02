//! The members of a canonical object without reading what they hold.

use super::text::plain_len;

/// One member after the other: the key as it stands between its quotes, and the text of the value.
///
/// It counts on canonical text: where that does not go on as an object must, nothing more comes.
#[derive(Debug, Clone)]
pub struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    /// Those of a text; none of anything but an object.
    pub(super) fn of(text: &'a str) -> Self {
        Self(text.strip_prefix('{').unwrap_or_default())
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        let (key, rest) = rest.split_at_checked(string_len(rest.as_bytes())?)?;
        let rest = rest.strip_prefix(':')?;
        let (value, rest) = rest.split_at_checked(value_len(rest.as_bytes())?)?;
        // Behind the last one stands a brace, and nothing that begins with a quote.
        self.0 = rest.strip_prefix(',').unwrap_or_default();
        Some((key.get(1..key.len() - 1)?, value))
    }
}

/// The bytes of the string that stands at the beginning, with its quotes.
fn string_len(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    if text.first() != Some(&b'"') {
        return None;
    }
    loop {
        at += plain_len(text.get(at..)?);
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

/// The bytes of the value that stands at the beginning.
fn value_len(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => at += string_len(text.get(at..)?)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            b',' | b':' if depth > 0 => at += 1,
            b'0'..=b'9' | b'a'..=b'z' | b'-' | b'+' | b'.' | b'E' => at += scalar_len(text.get(at..)?),
            _ => return None,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The bytes of the number or word that stands at the beginning.
fn scalar_len(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(byte)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::canon::Canonical;

    #[test]
    fn members_stand_as_they_are_written() {
        let text = r#"{"a":"x\"y\\","b":[{"c":[]},"]"],"c":-1.5e+3,"d":null,"e\n":{},"é":{"z":"}"}}"#;
        let canonical = Canonical::parse(text).unwrap();
        assert_eq!(canonical.as_str(), text);
        let fields: Vec<(&str, &str)> = canonical.fields().collect();
        let expected = [
            ("a", r#""x\"y\\""#),
            ("b", r#"[{"c":[]},"]"]"#),
            ("c", "-1.5e+3"),
            ("d", "null"),
            (r"e\n", "{}"),
            ("é", r#"{"z":"}"}"#),
        ];
        assert_eq!(fields, expected);
        for none in ["[1]", "1", "\"a\"", "{}"] {
            assert_eq!(Canonical::parse(none).unwrap().fields().count(), 0, "{none}");
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "[a\"\\\\,:{}\\[\\]é\n]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map("[a\"\\\\é]{0,3}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn members_are_those_that_a_reader_of_json_finds(value in value()) {
            let canonical = Canonical::of(&value).unwrap();
            let found: Vec<(String, String)> = canonical
                .fields()
                .map(|(key, value)| (serde_json::from_str(&format!("\"{key}\"")).unwrap(), value.to_owned()))
                .collect();
            let expected: Vec<(String, String)> =
                canonical.parts().into_iter().map(|(key, value)| (key.into_owned(), value.to_owned())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC*|\\{[\\[\\]{}\",:0-9e.a-z\\\\é -]*") {
            let _ = super::Fields::of(&text).count();
        }
    }
}
