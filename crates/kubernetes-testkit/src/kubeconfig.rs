//! How a client reaches the API server, and as whom.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What a client needs to reach the API server as one user. Everything is PEM.
#[derive(Clone)]
pub struct Credentials {
    /// Base URL of the API server.
    pub server: String,
    /// Certificate of the authority that signed the server's certificate.
    pub authority: String,
    /// The user's certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Credentials {
    /// A kubeconfig that contains everything and names no other file. JSON is YAML.
    pub fn kubeconfig(&self) -> Value {
        let encoded = |pem: &str| STANDARD.encode(pem);
        let user = json!({
            "client-certificate-data": encoded(&self.certificate),
            "client-key-data": encoded(&self.key),
        });
        let cluster = json!({
            "server": self.server,
            "certificate-authority-data": encoded(&self.authority),
        });
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "current-context": "test",
        })
    }

    /// Reads a kubeconfig that [`Credentials::kubeconfig`] made.
    pub(crate) fn parse(kubeconfig: &Value) -> Option<Self> {
        let decoded = |value: &Value| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok();
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let user = &kubeconfig["users"][0]["user"];
        Some(Self {
            server: cluster["server"].as_str()?.to_owned(),
            authority: decoded(&cluster["certificate-authority-data"])?,
            certificate: decoded(&user["client-certificate-data"])?,
            key: decoded(&user["client-key-data"])?,
        })
    }
}

/// Without the key.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_contains_all_that_a_client_needs() {
        let credentials = Credentials {
            server: "https://127.0.0.1:6443".to_owned(),
            authority: "authority".to_owned(),
            certificate: "certificate".to_owned(),
            key: "key".to_owned(),
        };
        let read = Credentials::parse(&credentials.kubeconfig()).unwrap();
        assert_eq!(read.server, credentials.server);
        assert_eq!((read.authority, read.certificate), (credentials.authority, credentials.certificate));
        assert_eq!(read.key, credentials.key);
        assert!(!format!("{:?}", Credentials::parse(&Value::Null)).contains("key"));
    }
}
