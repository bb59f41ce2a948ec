//! Extensions of JWS that a header may demand. None is understood here, so a token that demands one is
//! refused: read without it, the token would say something else than its issuer meant.
//!
//! Sources: RFC 7515, section 4.1.11 (`crit`), and RFC 7797 (`b64`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Parameters that change how the rest of the token is read.
const CHANGING: [&str; 4] = ["crit", "b64", "zip", "enc"];

/// Refuses a token whose header has a parameter that would have to be understood.
///
/// # Errors
/// Which one, for people.
pub(super) fn refuse(token: &str) -> Result<(), String> {
    let header = token.split('.').next().unwrap_or_default();
    let unreadable = || "the token's header is not JSON in base64url".to_owned();
    let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|_| unreadable())?;
    let header: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    match CHANGING.iter().find(|name| header.contains_key(**name)) {
        None => Ok(()),
        Some(name) => Err(format!(
            "the token's header has the parameter '{name}', an extension that is not understood here (RFC \
             7515, section 4.1.11)"
        )),
    }
}
