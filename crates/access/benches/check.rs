//! What it costs to check a caller: `cargo xtask bench access`.
//!
//! A check is what the guard does before the handler of a request: read the header, find the token and its
//! roles, and decide by the rule of the route. Figures are CPU time of this thread, the least of several
//! rounds, so that other load on the machine hardly counts. Fails if a check is over its limit.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use slipway_access::directory::{EntriesDigest, subject_key, token_key};
use slipway_access::policy::{Decision, Policy, Requirement, Resource, Rule, decide, rule};
use slipway_access::{ApiToken, CheckConfig, Switch, Verifier};
use slipway_domain::access::{Role, Scope};
use slipway_runtime::clock::now_unix_ms;
use slipway_testkit::TestIssuer;

/// A check that takes longer would be felt by predictions.
const LIMIT_NS: u64 = 5_000;
const ROUNDS: usize = 20;
const CHECKS_PER_ROUND: u64 = 2_000;
const AUDIENCE: &str = "slipway";

static RULES: [Rule; 1] = [rule(
    "GET",
    "/api/v1/deployments/{name}",
    Requirement::Role(Role::Viewer, Resource::OfPath("name", "deployment")),
)];

/// Entries as the registry publishes them.
#[derive(Default)]
struct Entries(BTreeMap<String, String>);

impl Entries {
    fn token(&mut self, principal: &str) -> ApiToken {
        let token = ApiToken::generate().unwrap();
        let entry = json!({"principal": principal, "secret_sha256": hex::encode(token.digest())});
        self.0.insert(token_key(token.id()), entry.to_string());
        token
    }

    fn subject(&mut self, subject: &str, models: usize) {
        let grant = |number: usize| json!({"scope": format!("model:m-{number}"), "role": "viewer"});
        let grants: Vec<Value> = (0..models).map(grant).collect();
        let entry = json!({"subject": subject, "grants": grants});
        self.0.insert(subject_key(subject), entry.to_string());
    }

    /// A verifier that knows these entries.
    fn verifier(mut self, oidc: Value, folder: &Path) -> Verifier {
        let mut digest = EntriesDigest::default();
        self.0.iter().for_each(|(key, value)| digest.toggle(key, value.as_bytes()));
        let head = json!({"published_at_unix_ms": now_unix_ms(), "enabled": true, "configured": [],
            "digest": digest.to_string(), "job_role": "editor", "oidc": oidc});
        self.0.insert("head".to_owned(), head.to_string());
        let file = folder.join(format!("{}.json", self.0.len()));
        std::fs::write(&file, serde_json::to_vec(&self.0).unwrap()).unwrap();
        let config = CheckConfig { auth: Switch::On, access_max_age_s: 86_400, trusted_proxies: Vec::new() };
        Verifier::with_copy(&config, file)
    }
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    headers
}

/// Nanoseconds that this thread has run (proc_pid_schedstat: the first number).
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// CPU time of one call, the least of several rounds.
fn measured(calls: u64, mut call: impl FnMut()) -> u64 {
    let rounds = (0..ROUNDS).map(|_| {
        let begun = cpu_ns();
        (0..calls).for_each(|_| call());
        (cpu_ns() - begun) / calls
    });
    rounds.min().unwrap()
}

struct Checks {
    policy: Policy,
    over: Vec<String>,
}

impl Checks {
    fn check(&self, verifier: &Verifier, headers: &HeaderMap) -> bool {
        let rule =
            self.policy.find(&Method::GET, Some("/api/v1/deployments/{name}"), "/api/v1/deployments/d");
        let caller = verifier.authenticate(black_box(headers), String::new()).unwrap();
        decide(rule, &caller, &Scope::Model("m-0".to_owned()), verifier.job_role()) == Decision::Allowed
    }

    /// A check that is repeated, as of a client that sends many requests.
    fn repeated(&mut self, name: &str, verifier: &Verifier, token: &str) {
        let headers = headers(token);
        assert!(self.check(verifier, &headers), "{name}");
        let cost_ns = measured(CHECKS_PER_ROUND, || {
            black_box(self.check(verifier, &headers));
        });
        println!("| {name} | {:.2} |", cost_ns as f64 / 1_000.0);
        if cost_ns > LIMIT_NS {
            self.over.push(format!("{name}: {cost_ns} ns"));
        }
    }
}

/// A verifier that has never seen the token checks its signature.
fn first(name: &str, checks: &Checks, issuer: &TestIssuer, algorithm: &str, verifier: &Verifier) {
    let mut tokens = (0..ROUNDS * 20).map(|number| {
        let mut claims = issuer.claims("ann", AUDIENCE, &["g-0", "g-1"]);
        claims["jti"] = number.into();
        headers(&issuer.token(algorithm, &claims))
    });
    let mut all: Vec<HeaderMap> = tokens.by_ref().collect();
    let cost_ns = measured(20, || assert!(checks.check(verifier, &all.pop().unwrap())));
    println!("| {name} | {:.2} |", cost_ns as f64 / 1_000.0);
}

fn main() {
    // Cargo runs benchmarks of tests, too, with arguments of its own.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let issuer = runtime.block_on(slipway_testkit::issuer());
    let oidc = json!({"issuer": issuer.url, "audience": AUDIENCE, "principal_claim": "sub",
        "groups_claim": "groups", "keys": issuer.keys()});
    let folder = tempfile::tempdir().unwrap();
    let mut checks = Checks { policy: Policy::new(&RULES), over: Vec::new() };
    println!("| check | CPU µs |\n|---|---|");

    let mut few = Entries::default();
    few.subject("ann", 1);
    let ann = few.token("ann");
    checks.repeated(
        "API token, 1 grant",
        &few.verifier(Value::Null, folder.path()),
        ann.reveal().expose_secret(),
    );

    let mut entries = Entries::default();
    entries.subject("ann", 1_000);
    entries.subject("ben", 1);
    entries.subject("group:g-0", 1_000);
    entries.subject("group:g-1", 1_000);
    let (ann, ben) = (entries.token("ann"), entries.token("ben"));
    (0..10_000).for_each(|number| _ = entries.token(&format!("p-{number}")));
    let verifier = entries.verifier(oidc, folder.path());
    checks.repeated("API token, 1 000 grants", &verifier, ann.reveal().expose_secret());
    checks.repeated(
        "API token, 1 grant, 10 000 tokens in the table",
        &verifier,
        ben.reveal().expose_secret(),
    );
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        first(&format!("OIDC token, {algorithm}, first"), &checks, &issuer, algorithm, &verifier);
        let token = issuer.token(algorithm, &issuer.claims("ann", AUDIENCE, &["g-0", "g-1"]));
        let name = format!("OIDC token, {algorithm}, 2 groups, 3 000 grants, repeated");
        checks.repeated(&name, &verifier, &token);
    }
    assert!(checks.over.is_empty(), "over {LIMIT_NS} ns: {:?}", checks.over);
}
