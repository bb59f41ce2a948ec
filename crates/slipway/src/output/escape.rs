//! Text of users and services, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that move the cursor, change colors, start a line, or reorder the text around them.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// On one line: control characters, line breaks and bidirectional controls as `\n`, `\t`, `\x1b`, `\u{202e}`.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`one_line`], but line breaks and tabs stay.
pub(crate) fn block(text: &str) -> Cow<'_, str> {
    escaped(text, |character| matches!(character, '\n' | '\t'))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|character| is_unsafe(character) && !stays(character)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            character if !is_unsafe(character) || stays(character) => safe.push(character),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            // Writing to a string does not fail.
            character if u32::from(character) < 0x100 => {
                let _ = write!(safe, "\\x{:02x}", u32::from(character));
            }
            character => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(character));
            }
        }
    }
    Cow::Owned(safe)
}

/// JSON that `serde_json` wrote, with the control characters escaped that JSON allows in strings and terminals obey
/// (U+007F to U+009F). The document stays the same.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let obeyed = |character: char| matches!(character, '\u{7f}'..='\u{9f}');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if obeyed(character) {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(one_line("plain ü 表"), "plain ü 表");
        assert_eq!(one_line("a\nb\tc\rd"), "a\\nb\\tc\\rd");
        assert_eq!(one_line("\u{1b}]0;title\u{7}\u{9b}2J\u{7f}"), "\\x1b]0;title\\x07\\x9b2J\\x7f");
        assert_eq!(one_line("abc\u{202e}gpj.exe"), "abc\\u{202e}gpj.exe");
        assert_eq!(block("a\n\tb\u{1b}[1m\r\n"), "a\n\tb\\x1b[1m\\r\n");
    }

    #[test]
    fn escaped_json_is_the_same_document() {
        let value = serde_json::json!({"name": "a\u{9b}31m\u{1b}[0m\n"});
        let text = value.to_string();
        let safe = json(&text);
        assert!(!safe.chars().any(char::is_control), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
