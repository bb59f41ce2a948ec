//! The token file: who may call which deployments. It holds digests, never tokens.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use slipway_http_server::json;

/// Most tokens of a file.
const MAX_TOKENS: usize = 10_000;
/// Longest name of a token; it is a label of metrics.
const MAX_NAME_BYTES: usize = 128;
/// Stands for every deployment.
pub const ALL_MODELS: &str = "*";

/// What a token is known by: SHA-256 of its text.
pub(crate) type TokenDigest = [u8; 32];

/// The token file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// All tokens that are good.
    pub tokens: Vec<TokenEntry>,
}

/// One token of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Names it in metrics and logs; each name once.
    pub name: String,
    /// SHA-256 of the token, 64 hexadecimal digits.
    pub sha256: String,
    /// Deployments that it may call; `*` is all of them, and the server's settings.
    pub models: Vec<String>,
    /// From then on it is refused; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// What a token may do.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(super) name: String,
    pub(super) all: bool,
    pub(super) models: HashSet<String>,
    pub(super) expires_at_unix_ms: Option<u64>,
    pub(super) uses: Counter,
}

/// The file, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    // Looked up by digest, so the time of a look-up says nothing about any token.
    grants: HashMap<TokenDigest, Grant>,
}

impl Grant {
    /// Whether it may call a deployment.
    pub(crate) fn takes(&self, model: &str) -> bool {
        self.all || self.models.contains(model)
    }

    /// Whether it ended.
    pub(crate) fn is_over(&self, now_unix_ms: u64) -> bool {
        self.expires_at_unix_ms.is_some_and(|end| end <= now_unix_ms)
    }
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not the JSON of one.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        json::read(bytes).map_err(|error| error.to_string())
    }

    /// Refuses a file that serving would not read.
    ///
    /// # Errors
    /// Names the entry, and what was expected.
    pub fn check(self) -> Result<(), String> {
        Rules::of(self, |_| Counter::default()).map(|_rules| ())
    }
}

impl Rules {
    /// Reads a file; `uses` gives the counter of a token by its name.
    ///
    /// # Errors
    /// It does not parse, or an entry means nothing: names the entry and what was expected, and never says a
    /// digest.
    pub(crate) fn parse(bytes: &[u8], uses: impl Fn(&str) -> Counter) -> Result<Self, String> {
        Self::of(TokenFile::parse(bytes)?, uses)
    }

    fn of(file: TokenFile, uses: impl Fn(&str) -> Counter) -> Result<Self, String> {
        if file.tokens.len() > MAX_TOKENS {
            return Err(format!("{} tokens; expected at most {MAX_TOKENS}", file.tokens.len()));
        }
        let mut grants = HashMap::with_capacity(file.tokens.len());
        let mut names = HashSet::new();
        for (at, entry) in file.tokens.into_iter().enumerate() {
            let (digest, grant) =
                read(entry, &uses).map_err(|(field, wanted)| format!("tokens[{at}].{field}: {wanted}"))?;
            if !names.insert(grant.name.clone()) {
                return Err(format!("tokens[{at}].name: '{}' is taken already", grant.name));
            }
            if let Some(twin) = grants.insert(digest, grant) {
                return Err(format!("tokens[{at}].sha256: the same as of '{}'", twin.name));
            }
        }
        Ok(Self { grants })
    }

    /// What a token may do.
    pub(crate) fn grant(&self, digest: &TokenDigest) -> Option<&Grant> {
        self.grants.get(digest)
    }

    /// How many tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.grants.len()
    }
}

type Refusal = (&'static str, String);

fn read(entry: TokenEntry, uses: impl Fn(&str) -> Counter) -> Result<(TokenDigest, Grant), Refusal> {
    let TokenEntry { name, sha256, models, expires_at } = entry;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err(("name", format!("expected 1 to {MAX_NAME_BYTES} bytes without control characters")));
    }
    let mut digest = TokenDigest::default();
    hex::decode_to_slice(&sha256, &mut digest)
        .map_err(|_odd| ("sha256", "expected the 64 hexadecimal digits of a SHA-256".to_owned()))?;
    if models.is_empty() || models.iter().any(String::is_empty) {
        return Err(("models", format!("expected names of deployments, or \"{ALL_MODELS}\"")));
    }
    let all = models.iter().any(|model| model == ALL_MODELS);
    let expires_at_unix_ms = expires_at.map(|at| u64::try_from(at.timestamp_millis()).unwrap_or_default());
    let uses = uses(&name);
    Ok((digest, Grant { name, all, models: models.into_iter().collect(), expires_at_unix_ms, uses }))
}

#[cfg(test)]
mod tests {
    use slipway_domain::access::token_digest;

    use super::*;

    fn rules(text: &str) -> Result<Rules, String> {
        Rules::parse(text.as_bytes(), |_| Counter::default())
    }

    #[test]
    fn a_token_may_what_its_entry_says() {
        let (one, all) =
            (hex::encode(token_digest(b"one")), hex::encode(token_digest(b"all")).to_uppercase());
        let rules = rules(&format!(
            r#"{{"tokens": [{{"name": "one", "sha256": "{one}", "models": ["a", "b"], "expires_at": "1970-01-01T00:00:01+00:00"}},
                            {{"name": "all", "sha256": "{all}", "models": ["*"]}}]}}"#
        ))
        .unwrap();
        let grant = |token: &[u8]| rules.grant(&token_digest(token));
        let one = grant(b"one").unwrap();
        assert!(one.takes("a") && one.takes("b") && !one.takes("c") && !one.takes("*"));
        assert!(!one.is_over(999) && one.is_over(1_000));
        let all = grant(b"all").unwrap();
        assert!(all.takes("c") && !all.is_over(u64::MAX));
        assert!(grant(b"other").is_none());
        assert_eq!(rules.len(), 2);
    }

    #[test]
    fn an_entry_that_means_nothing_is_refused_by_name() {
        let sha256 = "0".repeat(64);
        let entry = |name: &str, sha256: &str, models: &str| {
            format!(r#"{{"name": "{name}", "sha256": "{sha256}", "models": {models}}}"#)
        };
        let good = entry("a", &sha256, r#"["m"]"#);
        for (text, expected) in [
            ("".to_owned(), "EOF"),
            (entry("", &sha256, r#"["m"]"#), "tokens[0].name"),
            (entry("a", "abc", r#"["m"]"#), "tokens[0].sha256"),
            (entry("a", &sha256, "[]"), "tokens[0].models"),
            (format!("{good}, {good}"), "tokens[1].name: 'a' is taken"),
            (format!("{good}, {}", entry("b", &sha256, r#"["m"]"#)), "tokens[1].sha256: the same as of 'a'"),
            (good.replace("models", "model"), "unknown field `model`"),
            (good.replace("}", r#", "expires_at": "soon"}"#), "input contains invalid characters"),
        ] {
            let text = if text.is_empty() { text } else { format!(r#"{{"tokens": [{text}]}}"#) };
            let refused = rules(&text).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
            assert!(!refused.contains(&sha256), "{refused}");
        }
    }
}
