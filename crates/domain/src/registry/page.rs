//! Page tokens: opaque to clients, a position within an order to the store.

use super::violation::{Broken, Subject, Violation};

const MAX_TOKEN_CHARS: usize = 4_096;

/// Wraps a position, e.g. the last row's sort key, as a token that is safe in a URL.
pub fn encode_page_token(position: &str) -> String {
    hex::encode(position)
}

/// The position in a token that [`encode_page_token`] made. An empty token is the first page, `None`.
pub fn decode_page_token(token: &str) -> Result<Option<String>, Violation> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = if token.len() <= MAX_TOKEN_CHARS { hex::decode(token).ok() } else { None };
    let position = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    position.map(Some).ok_or_else(|| Violation::new("page_token", Subject::PageToken, token, Broken::Foreign))
}
