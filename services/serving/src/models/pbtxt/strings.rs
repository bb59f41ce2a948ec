//! Strings in Protocol Buffers' text form.

use std::iter::Peekable;
use std::str::Chars;

/// The text of a string whose `quote` was just read, up to the quote that ends it.
pub(super) fn literal(letters: &mut Peekable<Chars<'_>>, quote: char) -> String {
    // Escapes may make up a letter byte by byte.
    let mut bytes = Vec::new();
    let mut buffer = [0; 4];
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => escaped(letters, &mut bytes),
            letter if letter == quote => break,
            letter => bytes.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What stands behind a backslash.
fn escaped(letters: &mut Peekable<Chars<'_>>, into: &mut Vec<u8>) {
    let Some(letter) = letters.next() else { return };
    match letter {
        'a' => into.push(0x07),
        'b' => into.push(0x08),
        'f' => into.push(0x0c),
        'n' => into.push(b'\n'),
        'r' => into.push(b'\r'),
        't' => into.push(b'\t'),
        'v' => into.push(0x0b),
        '0'..='7' => {
            let first = letter.to_digit(8).unwrap_or(0);
            into.push(digits(letters, first, 8, 2).to_le_bytes()[0]);
        }
        'x' | 'X' => into.push(digits(letters, 0, 16, 2).to_le_bytes()[0]),
        'u' | 'U' => {
            let code = digits(letters, 0, 16, if letter == 'u' { 4 } else { 8 });
            let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            into.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        // Quotes, backslashes, and what has no meaning.
        other => into.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The number that begins with `first` and goes on with at most so many digits.
fn digits(letters: &mut Peekable<Chars<'_>>, first: u32, radix: u32, most: usize) -> u32 {
    let mut number = first;
    for _ in 0..most {
        let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(radix)) else { break };
        letters.next();
        number = number.wrapping_mul(radix).wrapping_add(digit);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_what_they_stand_for() {
        for (text, expected) in [
            (r#"plain" more"#, "plain"),
            (r#"\143\x41\n\"'\\"#, "cA\n\"'\\"),
            (r#"\0611\x411"#, "11A1"),
            (r#"\303\244 \xC3\xa4 \u00e4 \U0001F600"#, "ä ä ä 😀"),
            (r#"\377"#, "\u{fffd}"),
            (r#"ends\"#, "ends"),
        ] {
            assert_eq!(literal(&mut text.chars().peekable(), '"'), expected, "{text}");
        }
    }
}
