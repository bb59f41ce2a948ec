//! Responses that outlast their caller's token or role, behind the guard, over a real connection.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use secrecy::ExposeSecret as _;
use slipway_access::audit::calls;
use slipway_access::policy::{Policy, Requirement, Resource, Rule, rule};
use slipway_access::publish::{Contents, Publisher};
use slipway_access::{ApiToken, Gate, Resolve, Resolved, Verifier, guard};
use slipway_api::access::{GrantEntry, SubjectEntry};
use slipway_domain::access::{Role, Scope};
use slipway_http_server::Problem;
use slipway_runtime::clock::now_unix_ms;
use slipway_service_kit::metrics::Metrics;

use crate::following::{asked, config, connect, contents, following, until};

static RULES: [Rule; 3] = [
    rule("GET", "/events", Requirement::Authenticated),
    rule("GET", "/text", Requirement::Role(Role::Viewer, Resource::Everything)),
    rule("GET", "/models/{name}/bytes", Requirement::Role(Role::Viewer, Resource::OfPath("name", "thing"))),
];

/// Things belong to the model of their name; one that is called `unknown` cannot be looked up.
#[derive(Debug)]
struct ByName;

impl Resolve for ByName {
    fn scope_of<'a>(&'a self, _kind: &'static str, name: &'a str) -> Resolved<'a> {
        Box::pin(async move {
            match name {
                "unknown" => Err(Problem::unavailable("the database")),
                "absent" => Ok(None),
                name => Ok(Some(Scope::Model(name.to_owned()))),
            }
        })
    }
}

/// Something every fifty milliseconds, for ever.
fn endless() -> impl futures::Stream<Item = Result<&'static str, Infallible>> {
    stream::repeat("more\n").then(|more| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(more)
    })
}

async fn serve(verifier: &Verifier) -> String {
    let (calls, sender) = calls("launcher", &Metrics::new());
    // Nothing is sent in these tests.
    drop(sender);
    let events =
        || async { Sse::new(endless().map(|more| more.map(|more| Event::default().data(more.trim())))) };
    let text = || async { ([("content-type", "text/plain")], Body::from_stream(endless())) };
    let bytes = || async { Body::from_stream(endless()) };
    let gate = Gate::new(Policy::new(&RULES), Some(verifier.clone()), calls).resolving(ByName);
    let routes = Router::new()
        .route("/events", get(events))
        .route("/text", get(text))
        .route("/models/{name}/bytes", get(bytes))
        .layer(from_fn_with_state(gate, guard));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

fn subject(name: &str, scope: &str) -> SubjectEntry {
    let grants = vec![GrantEntry { scope: scope.into(), role: "viewer".into() }];
    SubjectEntry { subject: name.into(), grants }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_ends_with_the_token_or_the_role_and_says_why() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let verifier = Verifier::new(&config(86_400));
    let _following = following(&bus, &verifier);
    let (ann, ben) = (ApiToken::generate().unwrap(), ApiToken::generate().unwrap());
    let mut publisher = Publisher::default();
    let with_roles =
        |subjects: Vec<SubjectEntry>, tokens: &[(&str, &ApiToken)]| Contents { subjects, ..contents(tokens) };
    let both = [("ann", &ann), ("ben", &ben)];
    let roles = || vec![subject("ann", "*"), subject("ben", "model:m")];
    publisher.publish(&bus, with_roles(roles(), &both), now_unix_ms()).await.unwrap();
    until("both are known", || asked(&verifier, &ann).is_ok() && asked(&verifier, &ben).is_ok()).await;
    let (url, http) = (serve(&verifier).await, reqwest::Client::new());
    let open = async |path: &str, token: &ApiToken| {
        let request = http.get(format!("{url}{path}")).bearer_auth(token.reveal().expose_secret());
        request.send().await.unwrap()
    };
    for (path, status) in [
        ("/models/n/bytes", StatusCode::FORBIDDEN),
        ("/models/absent/bytes", StatusCode::FORBIDDEN),
        ("/models/unknown/bytes", StatusCode::SERVICE_UNAVAILABLE),
        // The name is compared as it is, not as the path spells it.
        ("/models/%6D/bytes", StatusCode::OK),
        ("/models/m%2Fn/bytes", StatusCode::FORBIDDEN),
        ("/models/M/bytes", StatusCode::FORBIDDEN),
        ("/text", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(open(path, &ben).await.status(), status, "{path}");
    }
    let events = open("/events", &ann).await;
    let text = open("/text", &ann).await;
    let bytes = open("/models/m/bytes", &ben).await;
    let mut kept = open("/events", &ben).await;

    // Ann's token is revoked, and Ben has lost his role on the model.
    let roles = vec![subject("ben", "model:other")];
    publisher.publish(&bus, with_roles(roles, &both[1..]), now_unix_ms()).await.unwrap();
    let events = events.text().await.unwrap();
    assert!(events.ends_with("event: error\ndata: the token is unknown or was revoked\n\n"), "{events}");
    assert!(events.starts_with("data: more\n\n"), "{events}");
    let mut text = text.bytes_stream();
    let (mut read, mut was_cut) = (String::new(), false);
    while let Some(chunk) = text.next().await {
        match chunk {
            Ok(chunk) => read.push_str(std::str::from_utf8(&chunk).unwrap()),
            Err(_cut) => was_cut = true,
        }
    }
    assert!(was_cut && read.ends_with("\n==> ended: the token is unknown or was revoked <==\n"), "{read}");
    bytes.bytes().await.expect_err("the download is not whole");
    assert!(kept.chunk().await.unwrap().is_some(), "what Ben may still do goes on");
}
