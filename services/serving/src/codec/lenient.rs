//! NaN and Infinity as Python writes them.
//!
//! `json.dumps(float("nan"))` gives the bare word `NaN`, which is no JSON. Clients send it for missing
//! values, and Triton takes it, so a body that does not parse gets a second chance with these words put in
//! quotes.

use slipway_http_server::json::JsonError;

/// Parses JSON; bare `NaN`, `Infinity` and `-Infinity` count as the strings of the same text.
pub(super) fn parse<T>(json: &[u8], read: impl Fn(&[u8]) -> Result<T, JsonError>) -> Result<T, JsonError> {
    match read(json) {
        // What is JSON has no bare words before the fault.
        Err(error) if !error.is_json => quote_bare_words(json).map_or(Err(error), |quoted| read(&quoted)),
        read => read,
    }
}

/// The text with bare words quoted; `None` where there are none.
fn quote_bare_words(json: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut quoted = Vec::with_capacity(json.len() + 64);
    let (mut at, mut in_string, mut found) = (0, false, false);
    while let Some(byte) = json.get(at) {
        if in_string && *byte == b'\\' {
            quoted.extend_from_slice(json.get(at..(at + 2).min(json.len())).unwrap_or_default());
            at += 2;
            continue;
        }
        if *byte == b'"' {
            in_string = !in_string;
        }
        let rest = json.get(at..).unwrap_or_default();
        match WORDS.into_iter().find(|word| !in_string && rest.starts_with(word)) {
            Some(word) => {
                quoted.push(b'"');
                quoted.extend_from_slice(word);
                quoted.push(b'"');
                at += word.len();
                found = true;
            }
            None => {
                quoted.push(*byte);
                at += 1;
            }
        }
    }
    found.then_some(quoted)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use slipway_http_server::json;

    use super::*;

    fn read(json: &[u8]) -> Result<Value, JsonError> {
        parse(json, |json| json::read(json))
    }

    #[test]
    fn bare_words_are_quoted_outside_of_strings_only() {
        let text = br#"{"a":[NaN,-Infinity,Infinity],"b":"NaN \" NaN"}"#;
        let value = read(text).unwrap();
        assert_eq!(value, serde_json::json!({"a": ["NaN", "-Infinity", "Infinity"], "b": "NaN \" NaN"}));
        assert!(!read(b"{\"a\":[1,]}").unwrap_err().is_json);
    }
}
