//! What the registry publishes for the services that check their callers themselves, and the calls that they
//! report.

use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_access::{Caller, CheckConfig, Refused, Switch, Verifier, follow};
use slipway_api::events::{CallOutcome, ServiceCall};
use slipway_domain::access::{Role, Scope, token_digest};
use slipway_service_kit::health::Readiness;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::world::{ADMIN_TOKEN, World};

const LIMIT: Duration = Duration::from_secs(60);
const SERVICE_TOKEN: &str = "the token of the drift monitor, of 32 characters";

/// A service that follows this registry.
struct Follower {
    verifier: Verifier,
    _running: DropGuard,
}

impl Follower {
    async fn of(world: &World) -> Self {
        let bus = world.bus().await;
        let config = CheckConfig { auth: Switch::On, access_max_age_s: 3_600, trusted_proxies: Vec::new() };
        let verifier = Verifier::new(&config);
        let shutdown = CancellationToken::new();
        tokio::spawn(follow(bus, verifier.clone(), Readiness::default(), shutdown.clone()));
        Self { verifier, _running: shutdown.drop_guard() }
    }

    fn ask(&self, token: &str) -> Result<Caller, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
        self.verifier.authenticate(&headers, String::new())
    }

    async fn until(&self, what: &str, token: &str, holds: impl Fn(Result<Caller, Refused>) -> bool) {
        let begun = Instant::now();
        while !holds(self.ask(token)) {
            assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}; {:?}", self.ask(token));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn may(role: Role, scope: Scope) -> impl Fn(Result<Caller, Refused>) -> bool {
    move |caller| caller.is_ok_and(|caller| caller.may(role, &scope))
}

fn is_unknown(caller: Result<Caller, Refused>) -> bool {
    matches!(caller, Err(Refused::Unauthenticated(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_roles_reach_the_other_services_and_so_does_their_end() {
    let digest = format!(
        "--service-token-digests=drift-monitor={}",
        hex::encode(token_digest(SERVICE_TOKEN.as_bytes()))
    );
    let world = World::guarded(&[&digest]).await;
    let follower = Follower::of(&world).await;
    let churn = || Scope::Model("churn".into());
    let token = world.person("ann", &[("model:churn", "editor")]).await.token().to_owned();
    follower.until("ann is an editor of churn", &token, may(Role::Editor, churn())).await;
    assert!(!follower.ask(&token).unwrap().may(Role::Viewer, &Scope::Everything));
    follower.until("the administrator is known", ADMIN_TOKEN, may(Role::Admin, Scope::Everything)).await;
    // A service has no role at the others: their rules name it.
    let service = follower.ask(SERVICE_TOKEN).unwrap();
    assert_eq!((&*service.principal, service.grants.list().len()), ("slipway:drift-monitor", 0));
    let (status, me) = send(&world, SERVICE_TOKEN, Method::GET, "/api/v1/me").await;
    assert_eq!((status, &me["grants"][0]["role"]), (StatusCode::OK, &json!("viewer")), "{me}");

    let (status, _) =
        world.admin().send(Method::DELETE, "/api/v1/grants?subject=ann&scope=model:churn", json!({})).await;
    assert_eq!(status, StatusCode::OK);
    follower
        .until("ann's role is gone", &token, |caller| {
            caller.is_ok_and(|caller| !caller.may(Role::Viewer, &Scope::Model("churn".into())))
        })
        .await;
    let id = token.split('_').nth(1).unwrap();
    let (status, _) = world.admin().send(Method::DELETE, &format!("/api/v1/tokens/{id}"), json!({})).await;
    assert_eq!(status, StatusCode::OK);
    follower.until("ann's token is revoked", &token, is_unknown).await;
}

async fn send(world: &World, token: &str, method: Method, path: &str) -> (StatusCode, Value) {
    let request = world.http.request(method, format!("{}{path}", world.url)).bearer_auth(token);
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_here_and_calls_of_other_services_are_in_the_audit_trail() {
    let world = World::guarded(&[]).await;
    let ann = world.person("ann", &[("*", "viewer")]).await;
    let (status, _) = ann.send(Method::POST, "/api/v1/purge", json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let anonymous = world.raw(Method::GET, "/api/v1/models", "").await;
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    let call = ServiceCall {
        // What the body says of its service does not count.
        service: "launcher".into(),
        outcome: CallOutcome::Answered,
        principal: "ben".into(),
        credential: "token:0123456789abcdef".into(),
        origin: "10.0.0.7".into(),
        method: "POST".into(),
        path: "/api/v1/jobs".into(),
        status: 201,
        reason: String::new(),
        at_unix_ms: 1_700_000_000_000,
        omitted: None,
    };
    let (bus, id) = (world.bus().await, Uuid::now_v7());
    // Delivered twice, it is one row.
    for _ in 0..2 {
        bus.publish_event("slipway/launcher", id, &call).await.unwrap();
    }
    let begun = Instant::now();
    let rows = loop {
        let answer = world.admin().get("/api/v1/audit?entity=call&limit=100").await;
        let rows = answer["audit"].as_array().unwrap().clone();
        if rows.len() >= 3 {
            break rows;
        }
        assert!(begun.elapsed() < LIMIT, "{rows:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(rows.len(), 3, "{rows:?}");
    let found = |principal: &str| {
        let row = rows.iter().find(|row| row["principal"] == principal);
        row.unwrap_or_else(|| panic!("no row of {principal}: {rows:?}")).clone()
    };
    let (ann, ben, anonymous) = (found("ann"), found("ben"), found("anonymous"));
    assert_eq!(ann["what"], "refused");
    assert_eq!(ann["id"], "registry POST /api/v1/purge");
    assert_eq!((&ben["what"], &ben["id"]), (&json!("answered"), &json!("launcher POST /api/v1/jobs")));
    assert_eq!((&ben["origin"], &ben["credential"]), (&json!("10.0.0.7"), &json!("token:0123456789abcdef")));
    assert_eq!(
        (&anonymous["what"], &anonymous["id"]),
        (&json!("refused"), &json!("registry GET /api/v1/models"))
    );
}
