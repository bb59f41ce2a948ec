//! What an `Authorization` header holds: a bearer token, or a token as the password of HTTP Basic, which is
//! how clients that know only user names and passwords send one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

/// A header that is neither of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 'Authorization: Bearer <token>', or Basic with the token as the password")]
pub struct Malformed;

/// A presented secret, not verified yet.
#[derive(Debug, Clone)]
pub struct Presented {
    /// Who they say they are, with Basic; the token's principal has to be the same.
    pub user: Option<String>,
    /// The token.
    pub secret: SecretString,
}

impl Presented {
    /// Reads the header's value.
    ///
    /// # Errors
    /// It is neither Bearer nor Basic, or is damaged.
    pub fn read(header: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(header).map_err(|_| Malformed)?;
        let (scheme, value) = text.trim().split_once(' ').ok_or(Malformed)?;
        let value = value.trim();
        if value.is_empty() {
            return Err(Malformed);
        }
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self { user: None, secret: value.to_owned().into() });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(Malformed);
        }
        let decoded = STANDARD.decode(value).map_err(|_| Malformed)?;
        let decoded = String::from_utf8(decoded).map_err(|_| Malformed)?;
        let (user, secret) = decoded.split_once(':').ok_or(Malformed)?;
        // Some clients insist on a name where there is none.
        let user = Some(user).filter(|user| !matches!(*user, "" | "token")).map(str::to_owned);
        Ok(Self { user, secret: secret.to_owned().into() })
    }

    /// Whether the name that was given, if any, is this principal's.
    pub fn names(&self, principal: &str) -> bool {
        self.user.as_deref().is_none_or(|user| user == principal)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn bearer_and_basic_carry_the_same_token() {
        for (header, user) in [
            ("Bearer secret".to_owned(), None),
            ("bearer  secret ".to_owned(), None),
            (basic("ann:secret"), Some("ann")),
            (basic("token:secret"), None),
            (basic(":secret"), None),
        ] {
            let presented = Presented::read(header.as_bytes()).unwrap();
            assert_eq!(presented.secret.expose_secret(), "secret", "{header}");
            assert_eq!(presented.user.as_deref(), user, "{header}");
        }
        let ann = Presented::read(basic("ann:s").as_bytes()).unwrap();
        assert!(ann.names("ann") && !ann.names("ben"));
    }

    #[test]
    fn other_headers_are_refused() {
        for header in ["", "Bearer", "Bearer ", "Digest x", "Basic ???", &basic("no-colon")] {
            assert_eq!(Presented::read(header.as_bytes()).unwrap_err(), Malformed, "{header}");
        }
        assert!(Presented::read(b"Bearer \xff").is_err());
    }
}
