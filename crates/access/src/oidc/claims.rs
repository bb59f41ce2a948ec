//! Who a token is about: its principal and groups.

use serde_json::{Map, Value};

use super::{OidcConfig, Refused};

/// Groups of one caller that count; directories that list more list the important ones first or are asked to
/// filter.
const MAX_GROUPS: usize = 500;
const MAX_NAME_BYTES: usize = 256;
/// Clocks may differ by this.
pub(super) const LEEWAY_S: u64 = 30;

/// What a token says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The caller's name.
    pub principal: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// End of the token, Unix seconds.
    pub expires_unix_s: u64,
}

impl Identity {
    /// Unix time in milliseconds until which the token is accepted: clocks may differ.
    pub(crate) const fn accepted_until_ms(&self) -> u64 {
        self.expires_unix_s.saturating_add(LEEWAY_S).saturating_mul(1_000)
    }

    pub(super) fn read(claims: &Map<String, Value>, config: &OidcConfig) -> Result<Self, Refused> {
        let name = &config.oidc_principal_claim;
        let principal = claim(claims, name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty() && text.len() <= MAX_NAME_BYTES)
            .ok_or_else(|| {
                Refused::Token(format!("the token lacks the claim '{name}', which names the caller"))
            })?;
        let groups = match claim(claims, &config.oidc_groups_claim) {
            Some(Value::String(group)) => vec![group.clone()],
            Some(Value::Array(groups)) => groups
                .iter()
                .filter_map(Value::as_str)
                .filter(|group| group.len() <= MAX_NAME_BYTES)
                .take(MAX_GROUPS)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        };
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        Ok(Self { principal: principal.to_owned(), groups, expires_unix_s: expires as u64 })
    }
}

/// A claim by its name, also where the name holds dots, or by a path through objects.
fn claim<'claims>(claims: &'claims Map<String, Value>, name: &str) -> Option<&'claims Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let (first, rest) = name.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claims: Value, groups_claim: &str) -> Result<Identity, Refused> {
        let config = OidcConfig {
            oidc_principal_claim: "sub".into(),
            oidc_groups_claim: groups_claim.into(),
            ..OidcConfig::default()
        };
        Identity::read(claims.as_object().unwrap(), &config)
    }

    #[test]
    fn groups_are_a_list_a_text_or_further_in() {
        let groups = |claims: Value, name: &str| read(claims, name).unwrap().groups;
        assert_eq!(groups(json!({"sub": "a", "groups": ["x", 1, "y"]}), "groups"), ["x", "y"]);
        assert_eq!(groups(json!({"sub": "a", "groups": "x"}), "groups"), ["x"]);
        assert_eq!(groups(json!({"sub": "a", "realm": {"roles": ["x"]}}), "realm.roles"), ["x"]);
        assert_eq!(groups(json!({"sub": "a", "https://x.y/g": ["x"]}), "https://x.y/g"), ["x"]);
        assert!(groups(json!({"sub": "a"}), "groups").is_empty());
    }

    #[test]
    fn a_token_without_a_name_is_about_nobody() {
        assert!(read(json!({"exp": 1}), "groups").is_err());
        assert!(read(json!({"sub": ""}), "groups").is_err());
    }
}
