//! Callers are checked by what was published, whatever is reachable at that moment.

use std::time::{Duration, Instant};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use slipway_access::audit::calls;
use slipway_access::policy::{Policy, Requirement, Resource, Rule, rule};
use slipway_access::publish::{Contents, Publisher};
use slipway_access::{ApiToken, CheckConfig, Gate, Refused, Switch, Verifier, follow, guard};
use slipway_api::access::{ConfiguredToken, GrantEntry, SubjectEntry, TokenEntry};
use slipway_domain::access::{Role, Scope, token_digest};
use slipway_event_bus::{EventBus, NatsConfig};
use slipway_runtime::clock::now_unix_ms;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_testkit::TestNats;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn connect(nats: &TestNats) -> EventBus {
    let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
    assert!(bus.wait_for_resources(&CancellationToken::new()).await);
    bus
}

pub(crate) fn config(access_max_age_s: u64) -> CheckConfig {
    CheckConfig { auth: Switch::On, access_max_age_s, trusted_proxies: Vec::new() }
}

pub(crate) fn grant(role: &str) -> Vec<GrantEntry> {
    vec![GrantEntry { scope: "*".into(), role: role.into() }]
}

/// Contents with the tokens of these principals, each with the role viewer.
pub(crate) fn contents(tokens: &[(&str, &ApiToken)]) -> Contents {
    let entry = |principal: &str, token: &ApiToken| TokenEntry {
        principal: principal.into(),
        secret_sha256: hex::encode(token.digest()),
        expires_at_unix_ms: None,
    };
    let subjects = tokens
        .iter()
        .map(|(principal, _)| SubjectEntry { subject: (*principal).into(), grants: grant("viewer") });
    Contents {
        enabled: true,
        tokens: tokens.iter().map(|(name, token)| (token.id().to_owned(), entry(name, token))).collect(),
        subjects: subjects.collect(),
        configured: vec![ConfiguredToken {
            sha256: hex::encode(token_digest(b"the administrator's token of the configuration")),
            principal: "admin".into(),
            credential: "admin-token".into(),
            grants: grant("admin"),
        }],
        job_role: "editor".into(),
        oidc: None,
    }
}

pub(crate) fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    headers
}

pub(crate) fn asked(verifier: &Verifier, token: &ApiToken) -> Result<String, Refused> {
    let caller = verifier.authenticate(&headers(token.reveal().expose_secret()), String::new())?;
    Ok(caller.principal.to_string())
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn following(bus: &EventBus, verifier: &Verifier) -> DropGuard {
    let shutdown = CancellationToken::new();
    tokio::spawn(follow(bus.clone(), verifier.clone(), Readiness::default(), shutdown.clone()));
    shutdown.drop_guard()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_accepted_once_published_and_refused_once_revoked_on_every_replica() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let replicas = [Verifier::new(&config(3_600)), Verifier::new(&config(3_600))];
    let _running = replicas.each_ref().map(|verifier| following(&bus, verifier));
    let (ann, ben) = (ApiToken::generate().unwrap(), ApiToken::generate().unwrap());
    // Before the registry has published anything it is not known who may do what, which is no refusal of the
    // token.
    assert!(matches!(asked(&replicas[0], &ann), Err(Refused::Unavailable(_))));

    let mut publisher = Publisher::default();
    publisher.publish(&bus, contents(&[("ann", &ann), ("ben", &ben)]), now_unix_ms()).await.unwrap();
    for replica in &replicas {
        until("ann is known", || asked(replica, &ann).is_ok_and(|name| name == "ann")).await;
        let other = ApiToken::generate().unwrap();
        assert!(matches!(asked(replica, &other), Err(Refused::Unauthenticated(_))));
        let admin = headers("the administrator's token of the configuration");
        let admin = replica.authenticate(&admin, String::new()).unwrap();
        assert!(admin.may(Role::Admin, &Scope::Everything) && &*admin.credential == "admin-token");
    }
    // A publisher that knows nothing of the earlier one finds what differs.
    Publisher::default().publish(&bus, contents(&[("ben", &ben)]), now_unix_ms()).await.unwrap();
    for replica in &replicas {
        until("ann's token is revoked", || asked(replica, &ann).is_err()).await;
        assert_eq!(asked(replica, &ben).unwrap(), "ben");
    }
    // A replica that starts later reads the same.
    let late = Verifier::new(&config(3_600));
    let _running = following(&bus, &late);
    until("ben is known", || asked(&late, &ben).is_ok()).await;
    assert!(matches!(asked(&late, &ann), Err(Refused::Unauthenticated(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_checked_without_nats_until_what_is_known_is_too_old() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let (long, short) = (Verifier::new(&config(86_400)), Verifier::new(&config(3_600)));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("access.json");
    let kept = Verifier::with_copy(&config(86_400), copy.clone());
    let _running = [following(&bus, &long), following(&bus, &short), following(&bus, &kept)];
    let ann = ApiToken::generate().unwrap();
    // Published two hours ago, by a registry that has been unreachable since.
    let earlier = now_unix_ms() - 2 * 3_600_000;
    Publisher::default().publish(&bus, contents(&[("ann", &ann)]), earlier).await.unwrap();
    until("ann is known", || asked(&long, &ann).is_ok()).await;
    until("what is known is too old", || {
        let asked = asked(&short, &ann);
        matches!(asked, Err(Refused::Unavailable(why)) if why.contains("SLIPWAY_ACCESS_MAX_AGE_S"))
    })
    .await;
    until("there is a copy", || copy.exists()).await;
    nats.kill().await;
    assert_eq!(asked(&long, &ann).unwrap(), "ann");
    // A service that starts now knows what it knew before.
    assert_eq!(asked(&Verifier::with_copy(&config(86_400), copy.clone()), &ann).unwrap(), "ann");
    let too_old = Verifier::with_copy(&config(3_600), copy.clone());
    assert!(matches!(asked(&too_old, &ann), Err(Refused::Unavailable(_))));
    let text = std::fs::read_to_string(&copy).unwrap();
    assert!(!text.contains(ann.reveal().expose_secret().rsplit('_').next().unwrap()));
    // A damaged copy is none.
    let torn = folder.path().join("torn.json");
    std::fs::write(&torn, &text[..text.len() / 2]).unwrap();
    assert!(asked(&Verifier::with_copy(&config(86_400), torn), &ann).is_err());
    // A token that is revoked while this service is not connected is refused as soon as it is.
    nats.start_again().await;
    let bus = connect(&nats).await;
    let mut publisher = Publisher::default();
    until_published(&mut publisher, &bus).await;
    until("the revocation arrives", || matches!(asked(&long, &ann), Err(Refused::Unauthenticated(_)))).await;
    until("what is known is current again", || {
        matches!(asked(&short, &ann), Err(Refused::Unauthenticated(_)))
    })
    .await;
}

async fn until_published(publisher: &mut Publisher, bus: &EventBus) {
    let started = Instant::now();
    while let Err(error) = publisher.publish(bus, contents(&[]), now_unix_ms()).await {
        assert!(started.elapsed() < LIMIT, "{error:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

static RULES: [Rule; 3] = [
    rule("GET", "/health", Requirement::Open),
    rule("GET", "/things/{name}", Requirement::Role(Role::Viewer, Resource::Everything)),
    rule("DELETE", "/things/{name}", Requirement::Role(Role::Deployer, Resource::Everything)),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_is_missing_in_the_protocols_own_shape() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let verifier = Verifier::new(&config(3_600));
    let _running = following(&bus, &verifier);
    let ann = ApiToken::generate().unwrap();
    Publisher::default().publish(&bus, contents(&[("ann", &ann)]), now_unix_ms()).await.unwrap();
    until("ann is known", || asked(&verifier, &ann).is_ok()).await;

    let (calls, sender) = calls("launcher", &Metrics::new());
    let shutdown = CancellationToken::new();
    let sending = tokio::spawn(sender.run(bus.clone(), shutdown.clone()));
    let things = get(|| async { "shown" }).delete(|| async { "deleted" });
    let routes = Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/things/{name}", things)
        .route("/forgotten", post(|| async { "done" }))
        .layer(from_fn_with_state(Gate::new(Policy::new(&RULES), Some(verifier), calls), guard));
    let ask = async |method: Method, path: &str, token: Option<&str>, grpc: bool| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if grpc {
            request = request.header("content-type", "application/grpc");
        }
        routes.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap()
    };
    let token = ann.reveal();
    let token = Some(token.expose_secret());
    assert_eq!(ask(Method::GET, "/health", None, false).await.status(), StatusCode::OK);
    assert_eq!(ask(Method::GET, "/things/a", token, false).await.status(), StatusCode::OK);
    let anonymous = ask(Method::GET, "/things/a", None, false).await;
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(anonymous.headers()["www-authenticate"], "Bearer realm=\"slipway\"");
    let denied = ask(Method::DELETE, "/things/a", token, false).await;
    assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    let body = axum::body::to_bytes(denied.into_body(), 10_000).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body["detail"],
        "'ann': the role deployer is needed on everything; this caller has the role viewer"
    );
    // A route that no rule lists is refused to the administrator too.
    let admin = Some("the administrator's token of the configuration");
    assert_eq!(ask(Method::POST, "/forgotten", admin, false).await.status(), StatusCode::FORBIDDEN);
    let over_grpc = ask(Method::GET, "/things/a", None, true).await;
    assert_eq!(over_grpc.status(), StatusCode::OK);
    assert_eq!(over_grpc.headers()["grpc-status"], "16");

    // The refused calls, and the one that changed something, are on their way into the audit trail.
    assert_eq!(ask(Method::DELETE, "/things/a", admin, false).await.status(), StatusCode::OK);
    shutdown.cancel();
    sending.await.unwrap();
    let stream = bus.jetstream().get_stream("SLIPWAY_EVENTS").await.unwrap();
    let last = stream.get_last_raw_message_by_subject("slipway.launcher.call.answered").await.unwrap();
    let call: Value = serde_json::from_slice(&last.payload).unwrap();
    assert_eq!((&call["principal"], &call["path"]), (&"admin".into(), &"/things/a".into()));
    let refused = stream.get_last_raw_message_by_subject("slipway.launcher.call.refused").await.unwrap();
    let refused: Value = serde_json::from_slice(&refused.payload).unwrap();
    assert_eq!((&refused["principal"], &refused["status"]), (&"anonymous".into(), &401.into()));
}
