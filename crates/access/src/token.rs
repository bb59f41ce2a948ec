//! API tokens: `slp_<id>_<secret>`. The id finds the row, the secret is kept as its SHA-256 alone.

use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_domain::access::token_digest;
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "slp_";
const ID_BYTES: usize = 8;
/// 256 bits cannot be guessed, so storing one round of SHA-256 is enough.
const SECRET_BYTES: usize = 32;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// A token as its holder has it. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct ApiToken {
    id: String,
    secret: SecretString,
}

impl ApiToken {
    /// A new one, from the operating system's generator.
    ///
    /// # Errors
    /// The generator fails.
    pub fn generate() -> Result<Self, NoRandomness> {
        let random = SystemRandom::new();
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        random.fill(&mut id).map_err(|_| NoRandomness)?;
        random.fill(&mut secret).map_err(|_| NoRandomness)?;
        Ok(Self { id: hex::encode(id), secret: hex::encode(secret).into() })
    }

    /// Reads one; `None` where the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |part: &str, bytes: usize| {
            part.len() == 2 * bytes && part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        };
        (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES))
            .then(|| Self { id: id.to_owned(), secret: secret.to_owned().into() })
    }

    /// The public part.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token, to be shown once.
    pub fn reveal(&self) -> SecretString {
        format!("{PREFIX}{}_{}", self.id, self.secret.expose_secret()).into()
    }

    /// What is stored: SHA-256 of the secret part's text.
    pub fn digest(&self) -> [u8; 32] {
        token_digest(self.secret.expose_secret().as_bytes())
    }
}

/// Compares in a time that says nothing about where two digests differ.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_it_was_written_and_shows_no_secret() {
        let token = ApiToken::generate().unwrap();
        let text = token.reveal();
        let read = ApiToken::parse(text.expose_secret()).unwrap();
        assert_eq!(read.id(), token.id());
        assert!(same(&read.digest(), &token.digest()));
        assert!(!same(&read.digest(), &ApiToken::generate().unwrap().digest()));
        let secret = text.expose_secret().rsplit('_').next().unwrap().to_owned();
        assert!(!format!("{token:?}").contains(&secret));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let text = ApiToken::generate().unwrap().reveal().expose_secret().to_owned();
        for wrong in ["", "slp_", "slp_a_b", &text[1..], &text[..text.len() - 1], &text.to_uppercase()] {
            assert!(ApiToken::parse(wrong).is_none(), "{wrong}");
        }
    }
}
