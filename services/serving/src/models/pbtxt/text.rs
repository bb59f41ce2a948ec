//! Protocol Buffers' text form: tokens, messages, numbers.

use super::strings;

/// Deepest nesting of messages.
const MAX_DEPTH: usize = 32;

/// A field's value in Protocol Buffers' text form.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Scalar(String),
    Message(Vec<(String, Self)>),
}

/// The first scalar of a name.
pub(super) fn scalar<'value>(fields: &'value [(String, Value)], wanted: &str) -> Option<&'value str> {
    fields.iter().find_map(|(name, value)| match value {
        Value::Scalar(text) if name == wanted => Some(text.as_str()),
        _ => None,
    })
}

/// A number of a field.
///
/// # Errors
/// It is none, or out of the range of its type.
pub(super) fn number<T: TryFrom<i128>>(name: &str, value: &Value) -> Result<T, String> {
    let Value::Scalar(text) = value else { return Err(format!("{name} expects a number")) };
    let number = whole_number(text).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("{name} is '{text}'; expected a number"))
}

/// A whole number as it may be written: decimal, hexadecimal behind `0x`, or octal behind `0`.
pub(super) fn whole_number(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (radix, digits) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (16, digits),
        (None, Some(digits)) if !digits.is_empty() => (8, digits),
        _ => (10, digits),
    };
    // It would take a sign of its own.
    let is_digit = |letter: char| letter.is_digit(radix);
    digits
        .chars()
        .all(is_digit)
        .then(|| i128::from_str_radix(digits, radix).ok())?
        .map(|number| sign * number)
}

/// Names, numbers, strings (without their quotes) and punctuation.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => while letters.next_if(|letter| *letter != '\n').is_some() {},
            '"' | '\'' => {
                tokens.push(format!("\"{}", strings::literal(&mut letters, letter)));
            }
            '{' | '}' | '[' | ']' | ':' | ',' | ';' | '<' | '>' => tokens.push(letter.to_string()),
            letter if letter.is_whitespace() => {}
            letter => {
                let mut word = String::from(letter);
                while let Some(next) =
                    letters.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '.' | '-' | '+'))
                {
                    word.push(next);
                }
                tokens.push(word);
            }
        }
    }
    tokens
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<String>>;

/// The fields of a message.
///
/// # Errors
/// It does not parse, or is nested too deeply.
pub(super) fn message(tokens: &mut Tokens, depth: usize) -> Result<Vec<(String, Value)>, String> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply".to_owned());
    }
    let mut fields = Vec::new();
    while let Some(name) = tokens.next() {
        match name.as_str() {
            "}" | ">" if depth > 0 => return Ok(fields),
            "," | ";" => continue,
            _ => {}
        }
        let colon = tokens.next_if(|token| token == ":").is_some();
        match tokens.peek().map(String::as_str) {
            Some("[") => {
                tokens.next();
                loop {
                    match tokens.peek().map(String::as_str) {
                        Some("]") => break,
                        Some(",") => {}
                        Some(_) => {
                            fields.push((name.clone(), value(tokens, depth)?));
                            continue;
                        }
                        None => return Err(format!("the list {name} does not end")),
                    }
                    tokens.next();
                }
                tokens.next();
            }
            Some("{" | "<") => fields.push((name, value(tokens, depth)?)),
            Some(_) if colon => fields.push((name, value(tokens, depth)?)),
            _ => return Err(format!("{name} has no value")),
        }
    }
    if depth == 0 { Ok(fields) } else { Err("a message does not end".to_owned()) }
}

fn value(tokens: &mut Tokens, depth: usize) -> Result<Value, String> {
    match tokens.next().as_deref() {
        Some("{" | "<") => Ok(Value::Message(message(tokens, depth + 1)?)),
        Some(word) => Ok(Value::Scalar(match word.strip_prefix('"') {
            None => word.to_owned(),
            // Strings that stand side by side are one.
            Some(text) => {
                let mut text = text.to_owned();
                while let Some(more) = tokens.next_if(|token| token.starts_with('"')) {
                    text.push_str(more.get(1..).unwrap_or_default());
                }
                text
            }
        })),
        None => Err("a value is missing".to_owned()),
    }
}
