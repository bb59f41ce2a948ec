//! Callers with tokens and roles of their own.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{ADMIN_TOKEN, World};

/// Somebody with a token, and what it may do.
pub(crate) struct Person<'world> {
    pub(super) world: &'world World,
    pub(super) token: String,
}

impl World {
    /// A person with these roles.
    pub(crate) async fn person(&self, name: &str, grants: &[(&str, &str)]) -> Person<'_> {
        for (scope, role) in grants {
            let body = json!({"subject": name, "scope": scope, "role": role});
            let (status, answer) = self.admin().send(Method::PUT, "/api/v1/grants", body).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
        let body = json!({"name": "test", "principal": name});
        let (status, answer) = self.admin().send(Method::POST, "/api/v1/tokens", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        Person { world: self, token: answer["token"].as_str().unwrap().to_owned() }
    }

    pub(crate) fn admin(&self) -> Person<'_> {
        Person { world: self, token: ADMIN_TOKEN.to_owned() }
    }
}

impl Person<'_> {
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = self.world.http.request(method.clone(), format!("{}{path}", self.world.url));
        request = request.bearer_auth(&self.token);
        if method != Method::GET {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, json!({})).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// The typed client of REST v1, with this person's token.
    pub(crate) fn client(&self) -> slipway_client::Registry {
        let client = slipway_client::Client::new(&self.world.url).unwrap();
        client.with_token(Some(self.token.clone().into())).into()
    }

    /// An answer as text.
    pub(crate) async fn text(&self, path: &str) -> String {
        let request = self.world.http.get(format!("{}{path}", self.world.url)).bearer_auth(&self.token);
        request.send().await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, &mlflow(path), body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// A refusal in MLflow's shape that says which role is missing where.
    pub(crate) async fn denied(&self, method: Method, path: &str, body: Value, words: [&str; 2]) {
        let (status, answer) = self.send(method, &mlflow(path), body).await;
        assert_eq!(
            (status, &answer["error_code"]),
            (StatusCode::FORBIDDEN, &json!("PERMISSION_DENIED")),
            "{path}"
        );
        let message = answer["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{path}: {message}");
    }

    pub(crate) async fn put_file(&self, path: &str, bytes: &[u8]) -> StatusCode {
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.world.url);
        let request = self.world.http.put(url).bearer_auth(&self.token).body(bytes.to_vec());
        request.send().await.unwrap().status()
    }

    pub(crate) async fn file(&self, path: &str) -> StatusCode {
        self.send(Method::GET, &format!("/api/2.0/mlflow-artifacts/artifacts/{path}"), json!({})).await.0
    }

    pub(crate) async fn experiment(&self, name: &str) -> String {
        let made = self.post("experiments/create", json!({ "name": name })).await;
        made["experiment_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn run(&self, experiment: &str) -> String {
        let made = self.post("runs/create", json!({"experiment_id": experiment})).await;
        made["run"]["info"]["run_id"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn mlflow(path: &str) -> String {
    format!("/api/2.0/mlflow/{path}")
}
