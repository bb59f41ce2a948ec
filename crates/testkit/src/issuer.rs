//! An OIDC issuer: discovery document, keys, and tokens that it signs as a real one does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

/// ring makes no RSA keys; this one signs nothing but tests.
const RSA_KEY: &[u8] = include_bytes!("../fixtures/issuer-rsa.pk8");

struct Keys {
    generation: usize,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

impl Keys {
    fn make(generation: usize) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Self {
            generation,
            ec: EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).expect("the key just made"),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("the key just made"),
            rsa: RsaKeyPair::from_pkcs8(RSA_KEY).expect("the key alongside this file"),
        }
    }

    fn kid(&self, algorithm: &str) -> String {
        format!("{algorithm}-{}", self.generation)
    }

    fn public(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(self.rsa.public_key());
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": self.kid("ES256"), "use": "sig", "x": text(&point[1..33]),
                "y": text(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": self.kid("EdDSA"),
                "x": text(self.ed.public_key().as_ref())},
            {"kty": "RSA", "kid": self.kid("RS256"), "use": "sig", "alg": "RS256", "n": text(&rsa.n),
                "e": text(&rsa.e)},
            {"kty": "oct", "kid": "shared", "k": text(b"a public test secret")},
            {"kty": "of a later year", "kid": "odd"},
        ]})
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "ES256" => self.ec.sign(&random, message).expect("a signature").as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            "RS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            _ => Vec::new(),
        }
    }
}

struct Shared {
    url: String,
    keys: Mutex<Keys>,
    asked: AtomicUsize,
}

/// A running issuer; it ends with the test.
pub struct TestIssuer {
    shared: Arc<Shared>,
    /// `http://127.0.0.1:<port>`, also its name.
    pub url: String,
}

impl TestIssuer {
    /// A token with these claims, signed by `ES256`, `EdDSA` or `RS256`; any other name leaves the signature
    /// empty.
    pub fn token(&self, algorithm: &str, claims: &Value) -> String {
        self.token_with(algorithm, &json!({}), claims)
    }

    /// [`Self::token`] with further parameters in its header, which may replace the usual ones.
    pub fn token_with(&self, algorithm: &str, parameters: &Value, claims: &Value) -> String {
        let keys = self.shared.keys.lock().expect("no test panics here");
        let mut header = json!({"alg": algorithm, "kid": keys.kid(algorithm), "typ": "JWT"});
        for (name, value) in parameters.as_object().into_iter().flatten() {
            header[name] = value.clone();
        }
        let message =
            format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()));
        let signature = keys.sign(algorithm, message.as_bytes());
        format!("{message}.{}", text(&signature))
    }

    /// The usual claims for `audience`, an hour long.
    pub fn claims(&self, subject: &str, audience: &str, groups: &[&str]) -> Value {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later than 1970");
        json!({"iss": self.url, "sub": subject, "aud": audience, "exp": now.as_secs() + 3_600,
            "groups": groups})
    }

    /// Its public keys as JSON Web Keys, as they are now.
    pub fn keys(&self) -> Value {
        self.shared.keys.lock().expect("no test panics here").public()["keys"].take()
    }

    /// Signs with new keys from now on; the old ones are withdrawn.
    pub fn rotate(&self) {
        let mut keys = self.shared.keys.lock().expect("no test panics here");
        *keys = Keys::make(keys.generation + 1);
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

pub(crate) async fn start() -> TestIssuer {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let shared =
        Arc::new(Shared { url: url.clone(), keys: Mutex::new(Keys::make(1)), asked: AtomicUsize::new(0) });
    let app = Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/keys", get(keys))
        .with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, app).await });
    TestIssuer { shared, url }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"issuer": shared.url, "jwks_uri": format!("{}/keys", shared.url)}))
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    Json(shared.keys.lock().expect("no test panics here").public())
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
