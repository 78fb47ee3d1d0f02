//! Characters that a person does not see, or that make others look like something else.
//!
//! Names and reasons come from strangers and are read by people before they sign, believe or confirm. What does something to a
//! terminal, turns the direction of writing (Unicode Standard Annex 9), or has no shape of its own has no place in a name, and is
//! replaced where it is only shown.

/// Whether a character does something to a terminal, turns what stands around it, ends a line, or cannot be seen.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Whether any character of a text is one that is not seen.
pub fn has_unseen(text: &str) -> bool {
    text.chars().any(is_unseen)
}

/// A text as it may be shown: U+FFFD stands for what is not seen.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_told_from_letters_of_all_scripts() {
        for c in [
            '\0',
            '\n',
            '\u{1b}',
            '\u{85}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0001}',
            '\u{e0041}',
        ] {
            assert!(is_unseen(c) && has_unseen(&format!("a{c}b")), "{c:?}");
            assert_eq!(plain(&format!("a{c}b")), "a\u{fffd}b");
        }
        for text in ["Zoë Müller", "李雷", "Ελένη", "שרה", "سارة", "a b–c … \u{a0}"] {
            assert!(!has_unseen(text), "{text}");
            assert_eq!(plain(text), text);
        }
    }
}
