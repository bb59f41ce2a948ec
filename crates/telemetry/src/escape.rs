//! Text of users and services, made safe for a terminal.
//!
//! A terminal obeys escape sequences: they move the cursor, change what was printed, set the
//! clipboard (OSC 52) or hide the address of a link (OSC 8). Line breaks forge lines, and bidirectional
//! controls reorder what is read.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that move the cursor, change colors, start a line, or reorder the text around them.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// On one line: control characters, line breaks and bidirectional controls as `\n`, `\t`, `\x1b`, `\u{202e}`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// As [`one_line`], but line breaks and tabs stay.
pub fn block(text: &str) -> Cow<'_, str> {
    escaped(text, |character| matches!(character, '\n' | '\t'))
}

/// As [`block`], but a lone carriage return stays as well: the progress bars of a training script.
pub fn output(text: &str) -> Cow<'_, str> {
    escaped(text, |character| matches!(character, '\n' | '\t' | '\r'))
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

/// JSON that `serde_json` wrote, with the characters escaped that JSON allows in strings and that terminals
/// obey or reorder text by. The document stays the same.
pub fn json(text: &str) -> Cow<'_, str> {
    // Outside of strings JSON has line breaks and ASCII alone.
    let obeyed = |character: char| is_unsafe(character) && !character.is_ascii() || character == '\u{7f}';
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
        let link = "\u{1b}]8;;https://evil.example\u{1b}\\safe\u{1b}]8;;\u{1b}\\";
        let clipboard = "\u{1b}]52;c;cm0gLXJm\u{7}";
        for text in [link, clipboard] {
            assert!(!one_line(text).chars().any(is_unsafe) && one_line(text).contains("\\x1b]"), "{text:?}");
        }
        for code in (0..0x20).chain(0x7f..0xa0).chain(0x202a..0x202f).chain(0x2066..0x206a) {
            let text = format!("a{}b", char::from_u32(code).unwrap());
            assert!(!one_line(&text).chars().any(is_unsafe), "U+{code:04X}");
            let kept = block(&text).chars().filter(|character| is_unsafe(*character)).count();
            assert_eq!(kept, usize::from(matches!(code, 0x9 | 0xa)), "U+{code:04X}");
        }
        assert_eq!(output("\r 10 %\u{1b}[2J"), "\r 10 %\\x1b[2J");
        assert_eq!(block("a\n\tb\u{1b}[1m\r\n"), "a\n\tb\\x1b[1m\\r\n");
    }

    #[test]
    fn escaped_json_is_the_same_document() {
        // As `serde_json` writes it.
        let safe = json("{\n  \"name\": \"a\u{9b}31m\\u001b[0m\\n\u{7f}\u{202e}\u{2067}\u{2028}表\"\n}");
        let expected = "{\n  \"name\": \"a\\u009b31m\\u001b[0m\\n\\u007f\\u202e\\u2067\\u2028表\"\n}";
        assert_eq!(safe, expected);
    }
}
