use std::collections::BTreeMap;

use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;

const NOW_MS: u64 = 1_700_000_000_000;

fn token(expires_ms: Option<Value>) -> (ApiToken, Directory) {
    let token = ApiToken::generate().unwrap();
    let mut entry = json!({"principal": "ann", "secret_sha256": hex::encode(token.digest())});
    if let Some(expires_ms) = expires_ms {
        entry["expires_at_unix_ms"] = expires_ms;
    }
    let mut directory = Directory::default();
    directory.apply(&token_key(token.id()), Some(entry.to_string().as_bytes())).unwrap();
    (token, directory)
}

fn subject(name: &str, grants: &Value) -> Vec<u8> {
    json!({"subject": name, "grants": grants}).to_string().into_bytes()
}

fn granted(directory: &Directory, name: &str) -> Vec<(Scope, Role)> {
    directory.grants_of(name).list()
}

#[test]
fn a_token_ends_with_the_millisecond_that_it_names() {
    let now = i64::try_from(NOW_MS).unwrap();
    for (expires_ms, accepted) in [
        (None, true),
        (Some(json!(now + 1)), true),
        (Some(json!(now)), false),
        (Some(json!(now - 1)), false),
        (Some(json!(0)), false),
        (Some(json!(i64::MIN)), false),
        (Some(json!(i64::MAX)), true),
        (Some(Value::Null), true),
    ] {
        let (token, directory) = token(expires_ms.clone());
        let checked = directory.token(&token, NOW_MS);
        assert_eq!(checked.is_ok(), accepted, "{expires_ms:?}");
        if !accepted {
            assert_eq!(checked.unwrap_err(), Rejected::Expired);
        }
    }
    // A clock beyond all numbers ends every token that ends.
    let (token, directory) = token(Some(json!(i64::MAX)));
    assert_eq!(directory.token(&token, u64::MAX).unwrap_err(), Rejected::Expired);
    assert!(directory.token(&token, 0).is_ok());
}

#[test]
fn an_expired_token_with_a_wrong_secret_is_unknown() {
    // Whoever lacks the secret does not learn that there is such a token.
    let (token, directory) = token(Some(json!(1)));
    let guessed = format!("slp_{}_{}", token.id(), "0".repeat(64));
    let guessed = ApiToken::parse(&guessed).unwrap();
    assert_eq!(directory.token(&guessed, NOW_MS).unwrap_err(), Rejected::Unknown);
    assert_eq!(directory.token(&token, NOW_MS).unwrap_err(), Rejected::Expired);
    // The digest that stands for an unknown token is no password.
    let (other, _) = self::token(None);
    assert_eq!(Directory::default().token(&other, NOW_MS).unwrap_err(), Rejected::Unknown);
}

#[test]
fn roles_belong_to_the_subject_that_their_key_names() {
    let mut directory = Directory::default();
    let admin = json!([{"scope": "*", "role": "admin"}]);
    for (key, value) in [
        (subject_key("eve"), subject("ann", &admin)),
        (subject_key("Eve"), subject("eve", &admin)),
        (subject_key("eve "), subject("eve", &admin)),
        (format!("{SUBJECT_PREFIX}eve"), subject("eve", &admin)),
        (SUBJECT_PREFIX.to_owned(), subject("", &admin)),
        (subject_key("eve").to_uppercase(), subject("eve", &admin)),
    ] {
        let refused = directory.apply(&key, Some(&value));
        // A key of another kind is none of a subject.
        assert!(refused.is_err() || !key.starts_with(SUBJECT_PREFIX), "{key}");
        for name in ["eve", "ann", "Eve", "eve ", ""] {
            assert!(granted(&directory, name).is_empty(), "{key} gave {name} a role");
        }
    }
    let viewer = json!([{"scope": "model:m", "role": "viewer"}]);
    directory.apply(&subject_key("eve"), Some(&subject("eve", &viewer))).unwrap();
    assert_eq!(granted(&directory, "eve"), [(Scope::Model("m".into()), Role::Viewer)]);
    // The group of that name is another subject.
    assert!(granted(&directory, "group:eve").is_empty());
    // An entry that breaks takes the roles away.
    directory.apply(&subject_key("eve"), Some(b"{")).unwrap_err();
    assert!(granted(&directory, "eve").is_empty());
}

#[test]
fn of_several_roles_the_greatest_counts_and_those_that_mean_nothing_do_not() {
    let mut directory = Directory::default();
    let grants = json!([
        {"scope": "model:m", "role": "viewer"}, {"scope": "model:m", "role": "deployer"},
        {"scope": "model:m", "role": "editor"}, {"scope": "model:n", "role": "owner"},
        {"scope": "model:", "role": "admin"}, {"scope": "experiment:01", "role": "admin"},
        {"scope": "experiment:-1", "role": "admin"}, {"scope": "", "role": "admin"},
        {"scope": "* ", "role": "admin"}, {"scope": "model:o", "role": "Admin"},
    ]);
    directory.apply(&subject_key("ann"), Some(&subject("ann", &grants))).unwrap();
    assert_eq!(granted(&directory, "ann"), [(Scope::Model("m".into()), Role::Deployer)]);
}

#[test]
fn what_is_known_stays_while_heads_are_damaged_and_ages() {
    let mut directory = Directory::default();
    assert!(!directory.is_enabled() && directory.published_at_ms().is_none());
    // Before it is known which role jobs have, nobody may submit one for less than the greatest.
    assert_eq!(directory.job_role(), Role::Admin);
    let head = |at_ms: u64, enabled: bool| {
        json!({"published_at_unix_ms": at_ms, "enabled": enabled, "digest": directory_digest(),
            "configured": [], "job_role": "viewer"})
        .to_string()
    };
    directory.apply(HEAD_KEY, Some(head(1, true).as_bytes())).unwrap();
    for damaged in [&b""[..], b"{}", b"\xff", b"{\"enabled\":true}"] {
        directory.apply(HEAD_KEY, Some(damaged)).unwrap_err();
        assert_eq!(directory.published_at_ms(), Some(1));
    }
    directory.apply(HEAD_KEY, None).unwrap();
    assert_eq!((directory.published_at_ms(), directory.is_enabled()), (Some(1), true));
    directory.apply(HEAD_KEY, Some(head(2, false).as_bytes())).unwrap();
    assert!(!directory.is_enabled() && directory.is_consistent());
    // As a registry publishes it whose access control was turned off: what it vouched for before ends.
    directory.apply(HEAD_KEY, Some(head(3, true).as_bytes())).unwrap();
    let off = serde_json::to_vec(&Head { published_at_unix_ms: 4, digest: directory_digest(), ..off() });
    directory.apply(HEAD_KEY, Some(&off.unwrap())).unwrap();
    assert!(!directory.is_enabled() && directory.configured(&[0; 32]).is_none());
}

fn off() -> Head {
    let (digest, job_role) = (String::new(), String::new());
    Head { published_at_unix_ms: 0, enabled: false, digest, configured: Vec::new(), job_role, oidc: None }
}

fn directory_digest() -> String {
    EntriesDigest::default().to_string()
}

#[test]
fn keys_and_settings_that_are_published_again_keep_what_was_verified() {
    let oidc = |audience: &str| {
        json!({"issuer": "https://i.example", "audience": audience, "principal_claim": "sub",
            "groups_claim": "groups", "keys": []})
    };
    let head = |audience: &str, at_ms: u64| {
        json!({"published_at_unix_ms": at_ms, "enabled": true, "digest": directory_digest(),
            "configured": [], "job_role": "viewer", "oidc": oidc(audience)})
        .to_string()
    };
    let mut directory = Directory::default();
    let mut published = |audience: &str, at_ms: u64| {
        directory.apply(HEAD_KEY, Some(head(audience, at_ms).as_bytes())).unwrap();
        directory.oidc().unwrap()
    };
    let first = published("a", 1);
    assert!(Arc::ptr_eq(&first, &published("a", 2)), "a heartbeat changes nothing");
    let other = published("b", 3);
    assert!(!Arc::ptr_eq(&first, &other));
    assert!(!Arc::ptr_eq(&first, &published("a", 4)), "what was verified before the change is not trusted");
}

#[test]
fn a_token_of_the_configuration_is_found_by_the_whole_of_it() {
    let secret = SecretString::from("the administrator's token".to_owned());
    let digest = token_digest(secrecy::ExposeSecret::expose_secret(&secret).as_bytes());
    let head = json!({"published_at_unix_ms": 1, "enabled": true, "digest": "", "job_role": "editor",
        "configured": [{"sha256": hex::encode(digest), "principal": "admin", "credential": "admin-token",
            "grants": [{"scope": "*", "role": "admin"}]}]});
    let mut directory = Directory::default();
    directory.apply(HEAD_KEY, Some(head.to_string().as_bytes())).unwrap();
    assert_eq!(&*directory.configured(&digest).unwrap().principal, "admin");
    for other in ["the administrator's toke", "the administrator's token ", "", &hex::encode(digest)] {
        assert!(directory.configured(&token_digest(other.as_bytes())).is_none(), "{other}");
    }
    assert!(directory.configured(&[0; 32]).is_none());
}

/// A change of the bucket: a key out of few, and a value out of few, or none.
fn change() -> impl Strategy<Value = (String, Option<Vec<u8>>)> {
    let names = ["ann", "ben", "group:a"];
    let grants = prop::sample::select(vec![
        json!([{"scope": "*", "role": "viewer"}]),
        json!([{"scope": "model:m", "role": "admin"}]),
        json!([]),
        json!("broken"),
    ]);
    let roles = (prop::sample::select(names.to_vec()), prop::option::of(grants))
        .prop_map(|(name, grants)| (subject_key(name), grants.map(|grants| subject(name, &grants))));
    let digests = prop::sample::select(vec!["0".repeat(64), "f".repeat(64), "x".to_owned()]);
    let tokens = (0_u8..3, prop::option::of(digests)).prop_map(|(id, digest)| {
        let entry = digest.map(|digest| json!({"principal": "ann", "secret_sha256": digest}).to_string());
        (format!("{TOKEN_PREFIX}{id}"), entry.map(String::into_bytes))
    });
    prop_oneof![roles, tokens]
}

proptest! {
    /// Whatever happened to the bucket, a directory that followed it holds what one does that reads it now.
    #[test]
    fn following_comes_to_the_same_as_reading(changes in prop::collection::vec(change(), 0..40)) {
        let (mut followed, mut bucket) = (Directory::default(), BTreeMap::new());
        for (key, value) in &changes {
            let _ = followed.apply(key, value.as_deref());
            match value {
                Some(value) => bucket.insert(key.clone(), value.clone()),
                None => bucket.remove(key),
            };
        }
        let mut read = Directory::default();
        for (key, value) in bucket.iter().rev() {
            let _ = read.apply(key, Some(value));
        }
        prop_assert_eq!(followed.digest(), read.digest());
        for name in ["ann", "ben", "group:a", "a"] {
            prop_assert_eq!(granted(&followed, name), granted(&read, name));
        }
        let tokens = |directory: &Directory| {
            let mut ids: Vec<String> = directory.tokens.keys().cloned().collect();
            ids.sort_unstable();
            ids
        };
        prop_assert_eq!(tokens(&followed), tokens(&read));
        // And once everything is deleted, nothing is left.
        for key in bucket.keys() {
            followed.apply(key, None).unwrap();
        }
        prop_assert_eq!(followed.entries_digest(), EntriesDigest::default());
        prop_assert!(followed.tokens.is_empty() && followed.subjects.is_empty() && followed.names.is_empty());
    }
}
