//! What an attacker might try: entries that nobody should have written, tokens that look like others, headers
//! that mean two things, and a token that is used while it is revoked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use slipway_access::directory::{subject_key, token_key};
use slipway_access::publish::Publisher;
use slipway_access::{ApiToken, Refused, Verifier};
use slipway_api::access::ACCESS_BUCKET;
use slipway_domain::access::{Role, Scope};
use slipway_runtime::clock::now_unix_ms;

use crate::following::{asked, config, connect, contents, following, headers, until};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table of attacks")]
async fn entries_that_cannot_be_used_give_no_rights_and_hide_no_others() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let verifier = Verifier::new(&config(86_400));
    let _following = following(&bus, &verifier);
    let (ann, eve) = (ApiToken::generate().unwrap(), ApiToken::generate().unwrap());
    Publisher::default().publish(&bus, contents(&[("ann", &ann)]), now_unix_ms()).await.unwrap();
    until("ann is known", || asked(&verifier, &ann).is_ok()).await;
    let store = bus.bucket(ACCESS_BUCKET).await.unwrap();
    let entry = |principal: &str| json!({"principal": principal, "secret_sha256": hex::encode(eve.digest())});
    let with = |change: &dyn Fn(&mut Value)| {
        let mut entry = entry("eve");
        change(&mut entry);
        entry.to_string()
    };
    let digest = hex::encode(eve.digest());
    // No marker shows when an entry was taken in, so each is followed by a token that is good.
    for (number, value) in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        "\u{0}".to_owned(),
        entry("admin").to_string(),
        entry("Admin").to_string(),
        entry("group:admins").to_string(),
        entry("slipway:drift-monitor").to_string(),
        entry("").to_string(),
        entry("eve ").to_string(),
        with(&|entry| entry["principal"] = json!(["eve"])),
        with(&|entry| entry["principal"] = json!(null)),
        with(&|entry| entry["secret_sha256"] = json!(&digest[1..])),
        with(&|entry| entry["secret_sha256"] = json!(format!("{digest}00"))),
        with(&|entry| entry["secret_sha256"] = json!("")),
        with(&|entry| entry["secret_sha256"] = json!(null)),
        with(&|entry| entry["expires_at_unix_ms"] = json!("never")),
        with(&|entry| entry["expires_at_unix_ms"] = json!(1e30)),
        with(&|entry| entry["expires_at_unix_ms"] = json!(-1)),
        with(&|entry| entry["expires_at_unix_ms"] = json!(0)),
    ]
    .into_iter()
    .enumerate()
    {
        store.put(token_key(eve.id()), value.clone().into_bytes().into()).await.unwrap();
        let marker = ApiToken::generate().unwrap();
        let good = json!({"principal": "ben", "secret_sha256": hex::encode(marker.digest())});
        store.put(token_key(marker.id()), good.to_string().into_bytes().into()).await.unwrap();
        until("the next entry is known", || asked(&verifier, &marker).is_ok()).await;
        assert!(matches!(asked(&verifier, &eve), Err(Refused::Unauthenticated(_))), "{number}: {value}");
        assert_eq!(asked(&verifier, &ann).unwrap(), "ann", "{number}: {value}");
    }
    // Roles under the key of another subject, roles that there are not, and scopes that mean nothing.
    let everything = json!([{"scope": "*", "role": "admin"}]);
    for (key, value) in [
        (subject_key("eve"), json!({"subject": "ben", "grants": everything})),
        (subject_key("eve"), json!({"subject": "eve", "grants": [{"scope": "*", "role": "root"}]})),
        (subject_key("eve"), json!({"subject": "eve", "grants": [{"scope": "**", "role": "admin"}]})),
        (subject_key("eve"), json!({"subject": "eve", "grants": {"*": "admin"}})),
        ("subject.eve".to_owned(), json!({"subject": "eve", "grants": everything})),
        ("subjects".to_owned(), json!({"subject": "eve", "grants": everything})),
    ] {
        store.put(&key, value.to_string().into_bytes().into()).await.unwrap();
    }
    store.put(token_key(eve.id()), entry("eve").to_string().into_bytes().into()).await.unwrap();
    until("eve is known", || asked(&verifier, &eve).is_ok()).await;
    let caller = verifier.authenticate(&headers(eve.reveal().expose_secret()), String::new()).unwrap();
    for role in [Role::Viewer, Role::Admin] {
        assert!(!caller.may(role, &Scope::Everything), "{caller:?}");
        assert!(!caller.may(role, &Scope::Model("churn".into())));
    }
    // The registry puts it right: entries that are not its own go.
    let mut publisher = Publisher::default();
    publisher.publish(&bus, contents(&[("ann", &ann)]), now_unix_ms()).await.unwrap();
    until("eve is gone", || asked(&verifier, &eve).is_err()).await;
    assert_eq!(asked(&verifier, &ann).unwrap(), "ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_cannot_be_used_leave_the_one_before() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let verifier = Verifier::new(&config(86_400));
    let _following = following(&bus, &verifier);
    let (ann, marker) = (ApiToken::generate().unwrap(), ApiToken::generate().unwrap());
    Publisher::default().publish(&bus, contents(&[("ann", &ann)]), now_unix_ms()).await.unwrap();
    until("ann is known", || asked(&verifier, &ann).is_ok()).await;
    let store = bus.bucket(ACCESS_BUCKET).await.unwrap();
    let head: Value = serde_json::from_slice(&store.get("head").await.unwrap().unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut head = head.clone();
        change(&mut head);
        head.to_string()
    };
    for value in [
        "{".to_owned(),
        "{}".to_owned(),
        with(&|head| head["job_role"] = json!("root")),
        with(&|head| head["enabled"] = json!("yes")),
        with(&|head| head["configured"][0]["sha256"] = json!("00")),
        with(&|head| head["published_at_unix_ms"] = json!(-1)),
    ] {
        store.put("head", value.into_bytes().into()).await.unwrap();
    }
    store.purge("head").await.unwrap();
    let good = json!({"principal": "ben", "secret_sha256": hex::encode(marker.digest())});
    store.put(token_key(marker.id()), good.to_string().into_bytes().into()).await.unwrap();
    until("what follows them is known", || asked(&verifier, &marker).is_ok()).await;
    assert_eq!(asked(&verifier, &ann).unwrap(), "ann");
    assert_eq!(verifier.job_role(), Role::Editor);
    let admin = headers("the administrator's token of the configuration");
    assert_eq!(&*verifier.authenticate(&admin, String::new()).unwrap().principal, "admin");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table of attacks")]
async fn tokens_and_headers_that_look_like_others_are_refused() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let verifier = Verifier::new(&config(86_400));
    let _following = following(&bus, &verifier);
    let (ann, ben) = (ApiToken::generate().unwrap(), ApiToken::generate().unwrap());
    let both = contents(&[("ann", &ann), ("ben", &ben)]);
    Publisher::default().publish(&bus, both, now_unix_ms()).await.unwrap();
    until("both are known", || asked(&verifier, &ann).is_ok() && asked(&verifier, &ben).is_ok()).await;
    let (token, other) = (ann.reveal(), ben.reveal());
    let (token, other) = (token.expose_secret(), other.expose_secret());
    let secret = other.rsplit('_').next().unwrap();
    let digest = hex::encode(ann.digest());
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let refused = |header: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(header).unwrap());
        let answer = verifier.authenticate(&headers, String::new());
        assert!(
            matches!(answer, Err(Refused::Unauthenticated(_))),
            "{}: {answer:?}",
            String::from_utf8_lossy(header)
        );
    };
    for header in [
        // Ann's id with Ben's secret; what is stored instead of the secret; parts of a token.
        format!("Bearer slp_{}_{secret}", ann.id()),
        format!("Bearer slp_{}_{digest}", ann.id()),
        format!("Bearer slp_{}_", ann.id()),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {token}0"),
        format!("Bearer {}", token.to_uppercase()),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},{other}"),
        format!("Bearer Bearer {token}"),
        format!("Bearer\u{a0}{token}"),
        format!("Token {token}"),
        format!("Digest {token}"),
        token.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        // The token of one with the name of another.
        basic(&format!("ben:{token}")),
        basic(&format!("admin:{token}")),
        basic(&format!("Ann:{token}")),
        basic(&format!("ann:{token}:")),
        basic(token),
        format!("Basic {token}"),
        "Basic ====".to_owned(),
    ] {
        refused(header.as_bytes());
    }
    refused(b"Bearer \xff\xfe");
    for header in [format!("bearer  {token}"), basic(&format!("ann:{token}")), basic(&format!(":{token}"))] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(header).unwrap());
        assert_eq!(&*verifier.authenticate(&headers, String::new()).unwrap().principal, "ann");
    }
    // Of two headers the first counts, whichever that is.
    let mut two = HeaderMap::new();
    two.append(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    two.append(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {other}")).unwrap());
    assert_eq!(&*verifier.authenticate(&two, String::new()).unwrap().principal, "ann");
    assert!(matches!(
        verifier.authenticate(&HeaderMap::new(), String::new()),
        Err(Refused::Unauthenticated(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_is_never_accepted_again_once_a_check_has_refused_it() {
    const CALLERS: usize = 4;
    const ROUNDS: usize = 20;
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let verifier = Verifier::new(&config(86_400));
    let _following = following(&bus, &verifier);
    let keeper = ApiToken::generate().unwrap();
    let mut publisher = Publisher::default();
    for round in 0..ROUNDS {
        let eve = ApiToken::generate().unwrap();
        let tokens = [("eve", &eve), ("keeper", &keeper)];
        publisher.publish(&bus, contents(&tokens), now_unix_ms()).await.unwrap();
        until("eve is known", || asked(&verifier, &eve).is_ok()).await;
        let (stop, barrier) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(CALLERS + 1)));
        let accepted = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (verifier, eve, keeper) = (verifier.clone(), eve.clone(), keeper.clone());
                let (stop, barrier, accepted) = (stop.clone(), barrier.clone(), accepted.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    let mut refused = false;
                    while !stop.load(Ordering::Relaxed) {
                        let is_accepted = asked(&verifier, &eve).is_ok();
                        assert!(!(refused && is_accepted), "accepted again");
                        refused |= !is_accepted;
                        accepted.fetch_add(u64::from(is_accepted), Ordering::Relaxed);
                        // What is read anew meanwhile takes nothing from others.
                        assert_eq!(asked(&verifier, &keeper).unwrap(), "keeper");
                    }
                    refused
                })
            })
            .collect();
        barrier.wait();
        // The bucket is read as a whole again in some of the rounds.
        if round % 5 == 4 {
            publisher = Publisher::default();
        }
        publisher.publish(&bus, contents(&tokens[1..]), now_unix_ms()).await.unwrap();
        until("eve is revoked", || asked(&verifier, &eve).is_err()).await;
        // Every check that begins now refuses it.
        let before = accepted.load(Ordering::SeqCst);
        assert!((0..1_000).all(|_| asked(&verifier, &eve).is_err()));
        let after = accepted.load(Ordering::SeqCst);
        assert!(after - before <= CALLERS as u64, "checks in flight at most: {before} {after}");
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            tokio::task::block_in_place(|| caller.join()).unwrap();
        }
    }
}
