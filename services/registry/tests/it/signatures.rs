//! Signed versions, over signatures that the real `model-signing` package made.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../crates/model-signing/tests/fixtures/", $name))
    };
}

const FILES: [(&str, &[u8]); 4] = [
    ("MLmodel", fixture!("model/MLmodel")),
    ("data.txt", fixture!("model/data.txt")),
    ("data/weights.bin", fixture!("model/data/weights.bin")),
    ("notes.md", b"other than when it was signed, which the signer allowed\n"),
];
const SIGNATURE: &[u8] = fixture!("p256.sig");

impl World {
    pub(crate) async fn api(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}/api/v1/{path}", self.url));
        let response = request.json(&body).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn trust(&self, name: &str, pem: &[u8]) -> Value {
        let body = json!({"pem": std::str::from_utf8(pem).unwrap(), "description": "the team's"});
        let (status, answer) = self.api(Method::PUT, &format!("signing-keys/{name}"), body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn registered(&self, files: &[(&str, &[u8])]) -> String {
        let id = self.logged_model(files).await;
        let (status, made) = self.version("m", &id).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        made["model_version"]["version"].as_str().unwrap().to_owned()
    }

    async fn attach(&self, version: &str, bundle: &[u8]) -> (StatusCode, Value) {
        let path = format!("/api/v1/models/m/versions/{version}/signature");
        let response = self.raw(Method::PUT, &path, bundle.to_vec()).await;
        (response.status(), response.json().await.unwrap())
    }

    async fn signing(&self, version: &str) -> Value {
        self.get(&format!("/api/v1/models/m/versions/{version}")).await["signing"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_among_the_files_counts_as_soon_as_its_key_is_trusted() {
    let world = World::begin().await;
    let signed = world.registered(&[&FILES[..], &[("model.sig", SIGNATURE)]].concat()).await;
    assert_eq!(world.signing(&signed).await["state"], "untrusted_key");
    world.trust("release", fixture!("p256.pub")).await;
    let verdict = world.signing(&signed).await;
    assert_eq!((&verdict["state"], &verdict["key"]), (&json!("valid"), &json!("release")), "{verdict}");

    let mut changed = FILES;
    changed[2].1 = b"one byte more or less";
    let changed = world.registered(&[&changed[..], &[("model.sig", SIGNATURE)]].concat()).await;
    let verdict = world.signing(&changed).await;
    assert_eq!(verdict["state"], "mismatch", "{verdict}");
    assert_eq!(verdict["differences"], json!([{"path": "data/weights.bin", "kind": "changed"}]));

    // Several signatures, one a line: one that is good suffices.
    let claims = [fixture!("keyless.sig"), &b"\n"[..], fixture!("p384.sig"), b"\n"].concat();
    let claimed = world.registered(&[&FILES[..], &[("claims.jsonl", &claims)]].concat()).await;
    assert_eq!(world.signing(&claimed).await["state"], "untrusted_key");
    world.trust("other", fixture!("p384.pub")).await;
    let verdict = world.signing(&claimed).await;
    // The signer of `p384.sig` did not ignore claims.jsonl, but a signature cannot sign itself.
    assert_eq!((&verdict["state"], &verdict["key"]), (&json!("valid"), &json!("other")), "{verdict}");

    let garbage = world.registered(&[&FILES[..], &[("model.sig", b"\x00\xff")]].concat()).await;
    assert_eq!(world.signing(&garbage).await["state"], "malformed");
    let plain = world.registered(&FILES).await;
    assert_eq!(world.signing(&plain).await["state"], "unsigned");
    assert_eq!(world.api(Method::DELETE, "signing-keys/release", Value::Null).await.0, StatusCode::OK);
    assert_eq!(world.signing(&signed).await["state"], "untrusted_key", "trust that is gone is gone for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_attached_shown_and_taken_away() {
    let world = World::begin().await;
    let version = world.registered(&FILES).await;
    world.trust("roots", fixture!("root.pem")).await;
    let (status, refused) = world.attach(&version, b"{}").await;
    assert_eq!((status, &refused["field"]), (StatusCode::BAD_REQUEST, &json!("body")), "{refused}");
    let (status, answer) = world.attach(&version, fixture!("keyless.sig")).await;
    assert_eq!((status, &answer["state"]), (StatusCode::OK, &json!("not_verifiable")), "{answer}");
    let (_, answer) = world.attach(&version, fixture!("certificate.sig")).await;
    assert_eq!((&answer["state"], &answer["signer"]), (&json!("valid"), &json!("CN=Model Team")), "{answer}");
    let path = format!("/api/v1/models/m/versions/{version}/signature");
    let shown = world.get(&path).await;
    assert_eq!((&shown["key"], &shown["signatures"][0]["found_in"]), (&json!("roots"), &json!("attached")));
    assert_eq!(
        shown["signatures"].as_array().unwrap().len(),
        1,
        "a new one takes the place of the one before"
    );
    let bundle = world.raw(Method::GET, &format!("{path}/bundle"), "").await;
    assert_eq!(bundle.bytes().await.unwrap().as_ref(), fixture!("certificate.sig"));
    let path = format!("models/m/versions/{version}/signature");
    assert_eq!(world.api(Method::DELETE, &path, Value::Null).await.1["state"], "unsigned");
    assert_eq!(world.api(Method::DELETE, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
    let events = world.events("slipway.registry.model-version.signed", 2).await;
    assert_eq!(events.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_by_page_and_wrong_ones_are_refused_by_field() {
    let world = World::begin().await;
    let key = world.trust("b", fixture!("p521.pub")).await;
    assert_eq!((&key["kind"], &key["of"]), (&json!("public-key"), &json!("ecdsa-p521")));
    world.trust("a", fixture!("root.pem")).await;
    let first = world.get("/api/v1/signing-keys?limit=1").await;
    assert_eq!(first["signing_keys"][0]["of"], "CN=Fixture Root");
    let token = first["next_page_token"].as_str().unwrap();
    let rest = world.get(&format!("/api/v1/signing-keys?limit=1&page_token={token}")).await;
    assert_eq!((&rest["signing_keys"][0]["name"], rest.get("next_page_token")), (&json!("b"), None));
    let private = std::str::from_utf8(fixture!("p256.key")).unwrap();
    let public = std::str::from_utf8(fixture!("p256.pub")).unwrap();
    for (name, body, field) in [
        ("a", json!({"pem": private}), "pem"),
        ("a", json!({}), "pem"),
        ("a%20b", json!({"pem": public}), "name"),
        ("a", json!({"pem": public, "description": "x".repeat(1_001)}), "description"),
    ] {
        let (status, problem) = world.api(Method::PUT, &format!("signing-keys/{name}"), body).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
        assert!(!problem.to_string().contains("BEGIN"), "no key is told back");
    }
    assert_eq!(world.api(Method::GET, "signing-keys/c", Value::Null).await.0, StatusCode::NOT_FOUND);
}
