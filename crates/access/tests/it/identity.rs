//! Identity tokens at a service that is not the registry: it asks no issuer and no registry, and has the keys
//! that the registry published.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use slipway_access::oidc::{Oidc, OidcConfig};
use slipway_access::publish::{Contents, Publisher};
use slipway_access::{ApiToken, Caller, Refused, Verifier};
use slipway_api::access::{GrantEntry, OidcHead, SubjectEntry};
use slipway_domain::access::{Role, Scope};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use slipway_testkit::{TestIssuer, TestNats};
use tokio_util::sync::DropGuard;

use crate::following::{config, connect, contents, following, headers, until};

const AUDIENCE: &str = "slipway";
const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

/// An issuer, and a service that follows what a registry published of it.
struct World {
    issuer: TestIssuer,
    nats: TestNats,
    bus: EventBus,
    publisher: Publisher,
    verifier: Verifier,
    _following: DropGuard,
}

fn subject(name: &str, scope: &str, role: &str) -> SubjectEntry {
    SubjectEntry { subject: name.into(), grants: vec![GrantEntry { scope: scope.into(), role: role.into() }] }
}

impl World {
    async fn begin() -> Self {
        let (issuer, nats) = (slipway_testkit::issuer().await, slipway_testkit::nats().await);
        let bus = connect(&nats).await;
        let verifier = Verifier::new(&config(86_400));
        let following = following(&bus, &verifier);
        let publisher = Publisher::default();
        let mut world = Self { issuer, nats, bus, publisher, verifier, _following: following };
        world.publish(world.contents()).await;
        let first = world.issuer.token("ES256", &world.claims());
        until("the keys have arrived", || world.ask(&first).is_ok()).await;
        world
    }

    fn head(&self) -> OidcHead {
        OidcHead {
            issuer: self.issuer.url.clone(),
            audience: AUDIENCE.into(),
            principal_claim: "sub".into(),
            groups_claim: "groups".into(),
            keys: self.issuer.keys().as_array().unwrap().clone(),
        }
    }

    fn contents(&self) -> Contents {
        let subjects = vec![
            subject("ann", "model:own", "editor"),
            subject("group:data", "model:shared", "viewer"),
            // Whoever is in a group that is called like a principal has not its roles.
            subject("admin", "*", "admin"),
        ];
        Contents { subjects, oidc: Some(self.head()), ..contents(&[]) }
    }

    async fn publish(&mut self, contents: Contents) {
        self.publisher.publish(&self.bus, contents, now_unix_ms()).await.unwrap();
    }

    fn claims(&self) -> Value {
        self.issuer.claims("ann", AUDIENCE, &["data", "admin"])
    }

    fn ask(&self, token: &str) -> Result<Caller, Refused> {
        self.verifier.authenticate(&headers(token), String::new())
    }

    fn refusal(&self, token: &str) -> String {
        match self.ask(token) {
            Err(Refused::Unauthenticated(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn changed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.issuer.token("ES256", &claims)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_has_its_roles_and_those_of_its_groups_with_everything_else_down() {
    let world = World::begin().await;
    // No registry runs, and nobody answers at the issuer's address for this service: it never asks.
    world.nats.kill().await;
    for algorithm in ALGORITHMS {
        let caller = world.ask(&world.issuer.token(algorithm, &world.claims())).unwrap();
        assert_eq!((&*caller.principal, &*caller.credential), ("ann", "oidc"), "{algorithm}");
        assert!(caller.may(Role::Editor, &Scope::Model("own".into())));
        assert!(caller.may(Role::Viewer, &Scope::Model("shared".into())));
        assert!(!caller.may(Role::Editor, &Scope::Model("shared".into())));
        assert!(!caller.may(Role::Viewer, &Scope::Everything));
    }
    assert_eq!(world.issuer.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_claim_is_checked_as_at_the_registry() {
    let world = World::begin().await;
    world.nats.kill().await;
    type Change = fn(&mut Value);
    let wrong: [(&str, Change); 17] = [
        ("has expired", |claims| claims["exp"] = json!(1)),
        ("has expired", |claims| claims["exp"] = json!(now_s() - 32)),
        ("not valid yet", |claims| claims["nbf"] = json!(now_s() + 3_600)),
        ("another issuer", |claims| claims["iss"] = json!("https://elsewhere.example")),
        ("another issuer", |claims| claims["iss"] = json!(format!("{}/", claims["iss"].as_str().unwrap()))),
        ("another audience", |claims| claims["aud"] = json!("mlops")),
        ("another audience", |claims| claims["aud"] = json!(["mlops", "Slipway"])),
        ("another audience", |claims| claims["aud"] = json!([])),
        ("lacks the claim 'exp'", |claims| _ = claims.as_object_mut().unwrap().remove("exp")),
        ("lacks the claim 'aud'", |claims| _ = claims.as_object_mut().unwrap().remove("aud")),
        ("lacks the claim 'iss'", |claims| _ = claims.as_object_mut().unwrap().remove("iss")),
        ("lacks the claim 'sub'", |claims| _ = claims.as_object_mut().unwrap().remove("sub")),
        ("lacks the claim 'sub'", |claims| claims["sub"] = json!(7)),
        ("is reserved", |claims| claims["sub"] = json!("admin")),
        ("reserved name", |claims| claims["sub"] = json!("\u{430}dmin")),
        ("reserved for this platform", |claims| claims["sub"] = json!("slipway:drift-monitor")),
        ("can be taken for a group", |claims| claims["sub"] = json!("group:data")),
    ];
    for (why, change) in wrong {
        let refused = world.refusal(&world.changed(change));
        assert!(refused.contains(why), "expected '{why}': {refused}");
    }
    // Clocks may differ by half a minute.
    world.ask(&world.changed(|claims| claims["exp"] = json!(now_s() - 5))).unwrap();
    world.ask(&world.changed(|claims| claims["nbf"] = json!(now_s() + 5))).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_ask_for_something_else_are_refused() {
    let world = World::begin().await;
    world.nats.kill().await;
    let claims = world.claims();
    for parameters in [
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"crit": null}),
        json!({"b64": false}),
        json!({"zip": "DEF"}),
        json!({"enc": "A256GCM"}),
    ] {
        for algorithm in ALGORITHMS {
            let why = world.refusal(&world.issuer.token_with(algorithm, &parameters, &claims));
            assert!(why.contains("extension that is not understood"), "{parameters}: {why}");
        }
    }
    for kid in [json!("ES256-0"), json!("shared"), json!("odd"), json!(""), json!("ES256-1 ")] {
        let why = world.refusal(&world.issuer.token_with("ES256", &json!({"kid": kid}), &claims));
        assert!(why.contains("none of the issuer's"), "{kid}: {why}");
    }
    // The key of one algorithm is not that of another, and the published shared secret is none.
    for (algorithm, kid) in [("ES256", "EdDSA-1"), ("EdDSA", "ES256-1"), ("RS256", "ES256-1")] {
        let why = world.refusal(&world.issuer.token_with(algorithm, &json!({"kid": kid}), &claims));
        assert!(why.contains("none of the issuer's"), "{why}");
    }
    for algorithm in ["none", "HS256", "HS512", "PS256", "ES384"] {
        assert!(!world.refusal(&world.issuer.token(algorithm, &claims)).is_empty());
    }
    // A token without a key's name is verified by the only key of its kind.
    world.ask(&world.issuer.token_with("EdDSA", &json!({"kid": null}), &claims)).unwrap();
    for garbage in ["a.b.c", "..", ".a.", "ey.ey.ey", &"x.".repeat(20_000)] {
        world.refusal(garbage);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_issuer_withdrew_ends_what_it_signed_also_where_it_was_verified_before() {
    let mut world = World::begin().await;
    let old = world.issuer.token("ES256", &world.claims());
    world.ask(&old).unwrap();
    let before = world.head();
    world.issuer.rotate();
    let new = world.issuer.token("ES256", &world.claims());
    // Signed with a key that was not published yet.
    assert!(world.refusal(&new).contains("as the registry last read them"));
    // While issuers rotate, both keys are published.
    let mut both = world.head();
    both.keys.extend(before.keys);
    world.publish(Contents { oidc: Some(both), ..world.contents() }).await;
    until("the new key has arrived", || world.ask(&new).is_ok()).await;
    world.ask(&old).unwrap();
    world.publish(world.contents()).await;
    until("the old key is gone", || world.ask(&old).is_err()).await;
    world.ask(&new).unwrap();
    // Another audience, and in the end no issuer at all, count for tokens that were verified, too.
    let other = OidcHead { audience: "other".into(), ..world.head() };
    world.publish(Contents { oidc: Some(other), ..world.contents() }).await;
    until("the audience is another one", || world.ask(&new).is_err()).await;
    world.publish(world.contents()).await;
    until("the audience is the first one", || world.ask(&new).is_ok()).await;
    world.publish(Contents { oidc: None, ..world.contents() }).await;
    until("there is no issuer", || world.ask(&new).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_of_a_group_change_for_tokens_that_were_verified_before() {
    let mut world = World::begin().await;
    let token = world.issuer.token("EdDSA", &world.claims());
    let shared = Scope::Model("shared".into());
    assert!(world.ask(&token).unwrap().may(Role::Viewer, &shared));
    let mut contents = world.contents();
    contents.subjects.retain(|subject| subject.subject != "group:data");
    world.publish(contents).await;
    until("the group has no role", || !world.ask(&token).unwrap().may(Role::Viewer, &shared)).await;
    let mut contents = world.contents();
    contents.subjects.push(subject("group:data2", "*", "admin"));
    contents.subjects[1] = subject("group:data", "model:shared", "deployer");
    world.publish(contents).await;
    until("the group is a deployer", || world.ask(&token).unwrap().may(Role::Deployer, &shared)).await;
    assert!(!world.ask(&token).unwrap().may(Role::Viewer, &Scope::Everything));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_token_ends_at_its_own_time_and_with_what_is_known_of_it() {
    let mut world = World::begin().await;
    // Thirty seconds of tolerance have passed but for a moment.
    let short = world.changed(|claims| claims["exp"] = json!(now_s() - 28));
    world.ask(&short).unwrap();
    until("it has expired", || world.ask(&short).is_err()).await;
    assert!(world.refusal(&short).contains("expired"));
    // A registry that turned access control off vouches for nobody.
    let token = world.issuer.token("ES256", &world.claims());
    world.ask(&token).unwrap();
    world.publish(Contents::default()).await;
    until("access control is off", || matches!(world.ask(&token), Err(Refused::Unavailable(_)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_publishes_the_keys_that_it_reads_and_goes_on_with_them_while_the_issuer_is_away() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut world = World::begin().await;
    let config = OidcConfig {
        oidc_issuer: Some(world.issuer.url.clone()),
        oidc_audience: AUDIENCE.to_owned(),
        oidc_principal_claim: "sub".to_owned(),
        oidc_groups_claim: "groups".to_owned(),
    };
    let registry = Oidc::new(&config).unwrap().unwrap();
    let published = registry.published().await;
    // Keys of kinds that verify nothing here are left out.
    assert_eq!(published.keys.len(), 3, "{:?}", published.keys);
    assert!(!json!(published.keys).to_string().contains("\"k\""), "a shared secret is never published");
    world.publish(Contents { oidc: Some(published.clone()), ..world.contents() }).await;
    let token = world.issuer.token("RS256", &world.claims());
    until("the keys have arrived", || world.ask(&token).is_ok()).await;
    assert_eq!(registry.published().await, published, "within a minute they are not asked for again");
    assert_eq!(world.issuer.asked(), 1);
    // An API token of the same name has the same roles, and its own credential.
    let own = ApiToken::generate().unwrap();
    let mut both = contents(&[("ann", &own)]);
    both.oidc = Some(published);
    world.publish(both).await;
    until("ann's token is known", || crate::following::asked(&world.verifier, &own).is_ok()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let caller = world.ask(&token).unwrap();
    assert!(caller.may(Role::Viewer, &Scope::Everything) && &*caller.credential == "oidc");
}
