//! Identity tokens, checked against an issuer that answers over HTTP; and callers, checked by what the
//! registry published.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod attacks;
mod audit;
mod following;
mod identity;
mod streams;

use serde_json::{Value, json};
use slipway_access::oidc::{Oidc, OidcConfig, Refused};
use slipway_testkit::TestIssuer;

const AUDIENCE: &str = "registry";

fn verifier(issuer: &str) -> Oidc {
    // reqwest asks for a provider also where nothing is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = OidcConfig {
        oidc_issuer: Some(issuer.to_owned()),
        oidc_audience: AUDIENCE.to_owned(),
        oidc_principal_claim: "sub".to_owned(),
        oidc_groups_claim: "groups".to_owned(),
    };
    Oidc::new(&config).unwrap().unwrap()
}

async fn refused(oidc: &Oidc, token: &str) -> String {
    match oidc.verify(token).await.unwrap_err() {
        Refused::Token(why) => why,
        Refused::Issuer(why) => panic!("the issuer is there: {why}"),
    }
}

fn changed(issuer: &TestIssuer, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = issuer.claims("ann", AUDIENCE, &[]);
    change(&mut claims);
    issuer.token("ES256", &claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_issuer_are_accepted_whatever_they_are_signed_with() {
    let issuer = slipway_testkit::issuer().await;
    let oidc = verifier(&issuer.url);
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = issuer.token(algorithm, &issuer.claims("ann", AUDIENCE, &["data", "ops"]));
        let identity = oidc.verify(&token).await.unwrap();
        assert_eq!((identity.principal.as_str(), identity.groups.len()), ("ann", 2), "{algorithm}");
    }
    let several = changed(&issuer, |claims| claims["aud"] = json!(["other", AUDIENCE]));
    oidc.verify(&several).await.unwrap();
    assert_eq!(issuer.asked(), 1, "the keys are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_with_anything_wrong_are_refused_with_the_reason() {
    let issuer = slipway_testkit::issuer().await;
    let oidc = verifier(&issuer.url);
    type Change = fn(&mut Value);
    let wrong: [(&str, Change); 8] = [
        ("has expired", |claims| claims["exp"] = json!(1)),
        ("not valid yet", |claims| claims["nbf"] = json!(9_999_999_999_u64)),
        ("another issuer", |claims| claims["iss"] = json!("https://elsewhere.example")),
        ("another audience", |claims| claims["aud"] = json!("other")),
        ("lacks the claim 'exp'", |claims| _ = claims.as_object_mut().unwrap().remove("exp")),
        ("lacks the claim 'aud'", |claims| _ = claims.as_object_mut().unwrap().remove("aud")),
        ("lacks the claim 'iss'", |claims| _ = claims.as_object_mut().unwrap().remove("iss")),
        ("lacks the claim 'sub'", |claims| _ = claims.as_object_mut().unwrap().remove("sub")),
    ];
    for (why, change) in wrong {
        let text = refused(&oidc, &changed(&issuer, change)).await;
        assert!(text.contains(why), "{why}: {text}");
    }
    let good = issuer.token("ES256", &issuer.claims("ann", AUDIENCE, &[]));
    let parts: Vec<&str> = good.split('.').collect();
    let other = issuer.token("ES256", &issuer.claims("ben", AUDIENCE, &[]));
    let forged = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    assert!(refused(&oidc, &forged).await.contains("signature is wrong"));
    assert!(!refused(&oidc, "not.a.token").await.is_empty());
    assert!(refused(&oidc, &"x".repeat(20_000)).await.contains("bytes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_that_have_to_be_understood_are_refused() {
    let issuer = slipway_testkit::issuer().await;
    let oidc = verifier(&issuer.url);
    let claims = issuer.claims("ann", AUDIENCE, &[]);
    for header in [
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": ["b64"], "b64": true}),
        json!({"crit": ["exp"], "exp": 1}),
        json!({"crit": ["alg"]}),
        json!({"crit": []}),
        json!({"crit": null}),
        json!({"crit": "exp"}),
        json!({"crit": {"exp": true}}),
        json!({"b64": false}),
        json!({"zip": "DEF"}),
    ] {
        for algorithm in ["RS256", "ES256", "EdDSA"] {
            refused(&oidc, &issuer.token_with(algorithm, &header, &claims)).await;
        }
    }
    let why = refused(&oidc, &issuer.token_with("ES256", &json!({"crit": ["x"], "x": 1}), &claims)).await;
    assert!(why.contains("'crit'"), "{why}");
    // What need not be understood is ignored.
    oidc.verify(&issuer.token_with("ES256", &json!({"x": 1, "jku": "https://evil.example"}), &claims))
        .await
        .unwrap();
    // A key is for the algorithm that its document says, and for no other.
    let rsa = issuer.token("RS256", &claims);
    oidc.verify(&rsa).await.unwrap();
    refused(&oidc, &issuer.token_with("RS256", &json!({"alg": "EdDSA"}), &claims)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_tokens_and_shared_secrets_are_never_accepted() {
    let issuer = slipway_testkit::issuer().await;
    let oidc = verifier(&issuer.url);
    let claims = issuer.claims("ann", AUDIENCE, &[]);
    for algorithm in ["none", "HS256", "HS512", "PS256", "ES384"] {
        oidc.verify(&issuer.token(algorithm, &claims)).await.unwrap_err();
    }
    // The key of one algorithm does not verify another.
    let ec = issuer.token("ES256", &claims);
    let (header, rest) = ec.split_once('.').unwrap();
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let confused = header.replace("\"alg\":\"ES256\"", "\"alg\":\"EdDSA\"");
    assert_ne!(confused, header);
    let confused = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(confused));
    refused(&oidc, &confused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_known_is_asked_for_and_not_too_often() {
    let issuer = slipway_testkit::issuer().await;
    let oidc = verifier(&issuer.url);
    let old = issuer.token("EdDSA", &issuer.claims("ann", AUDIENCE, &[]));
    oidc.verify(&old).await.unwrap();
    issuer.rotate();
    let new = issuer.token("EdDSA", &issuer.claims("ann", AUDIENCE, &[]));
    // It was asked a moment ago, so this token has to wait; strangers cannot make us ask for each token of
    // theirs.
    for _ in 0..20 {
        assert!(refused(&oidc, &new).await.contains("none of the issuer's"));
    }
    assert_eq!(issuer.asked(), 1);
    // A registry that has not asked yet takes it at once, and does not know the old one.
    let fresh = verifier(&issuer.url);
    fresh.verify(&new).await.unwrap();
    assert!(refused(&fresh, &old).await.contains("none of the issuer's"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_or_another_is_named() {
    let issuer = slipway_testkit::issuer().await;
    let token = issuer.token("ES256", &issuer.claims("ann", AUDIENCE, &[]));
    let nowhere = verifier(&format!("http://127.0.0.1:{}", slipway_testkit::free_port().unwrap()));
    assert!(matches!(nowhere.verify(&token).await, Err(Refused::Issuer(_))));
    // Its document is of another issuer than the one configured.
    let other = verifier(&format!("{}/", issuer.url));
    match other.verify(&token).await {
        Err(Refused::Issuer(why)) => assert!(why.contains(&issuer.url), "{why}"),
        answer => panic!("{answer:?}"),
    }
    for wrong in ["http://issuer.example", "issuer", "ftp://127.0.0.1"] {
        let config = OidcConfig { oidc_issuer: Some(wrong.to_owned()), ..OidcConfig::default() };
        assert!(Oidc::new(&config).unwrap_err().to_string().contains("SLIPWAY_OIDC_ISSUER"), "{wrong}");
    }
}
