//! The words of an expression.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(f64),
    Sign(&'static str),
}

/// Longer signs first.
const SIGNS: [&str; 21] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "(", ")", "[", "]", ",", ".", "+", "-", "{",
    "}",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '\'' || first == '"' {
            quoted(rest, first)?
        } else if first.is_ascii_digit() {
            let end = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.').unwrap_or(rest.len());
            let number = rest[..end].parse().map_err(|_| format!("`{}` is no number", &rest[..end]))?;
            (Token::Number(number), end)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let is_part = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
            let end = rest.find(|sign| !is_part(sign)).unwrap_or(rest.len());
            (Token::Name(rest[..end].to_owned()), end)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("`{first}` is not understood"))?;
            (Token::Sign(sign), sign.len())
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut signs = text.char_indices().skip(1);
    while let Some((at, sign)) = signs.next() {
        match sign {
            '\\' => {
                let (_, escaped) = signs.next().ok_or("a string has no end")?;
                value.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    '\\' | '\'' | '"' => escaped,
                    other => return Err(format!("`\\{other}` is not understood")),
                });
            }
            sign if sign == quote => return Ok((Token::Text(value), at + sign.len_utf8())),
            sign => value.push(sign),
        }
    }
    Err("a string has no end".to_owned())
}
