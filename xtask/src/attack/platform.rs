//! The platform that is attacked.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::build::{Programs, run};
use crate::endpoints::Endpoints;

/// Keys of `endpoints.json` whose ports speak HTTP to users.
pub(super) const SERVICES: [&str; 5] =
    ["registry", "launcher", "rollout_controller", "drift_monitor", "serving_http"];

/// A running platform with access control on.
#[derive(Debug)]
pub(super) struct Platform {
    slipway: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) endpoints: Endpoints,
    pub(super) admin_token: String,
    pub(super) http: Client,
}

impl Platform {
    pub(super) fn start(programs: &Programs, data_dir: &Path) -> anyhow::Result<Self> {
        let slipway = programs.slipway.clone();
        if data_dir.exists() {
            let _ = Command::new(&slipway).arg("down").arg("--data-dir").arg(data_dir).output();
            std::fs::remove_dir_all(data_dir)
                .with_context(|| format!("cannot remove {}", data_dir.display()))?;
        }
        let up = ["up", "--ports", "auto", "--auth", "on", "--detach"];
        run(Command::new(&slipway).args(up).arg("--data-dir").arg(data_dir))?;
        let read = |name: &str| {
            let path = data_dir.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let endpoints = Endpoints::read(data_dir)?;
        let admin_token = read("admin-token")?.trim().to_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().timeout(std::time::Duration::from_secs(30)).build()?;
        Ok(Self { slipway, data_dir: data_dir.to_path_buf(), endpoints, admin_token, http })
    }

    pub(super) fn stop(&self) -> anyhow::Result<()> {
        run(Command::new(&self.slipway).arg("down").arg("--data-dir").arg(&self.data_dir))
    }

    /// `http://127.0.0.1:5000` of a service.
    pub(super) fn address(&self, service: &str) -> String {
        let address = self.endpoints.url(service).unwrap_or_default();
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
    }

    /// A request as the administrator, as a browser would send it that holds the administrator's credentials.
    pub(super) fn as_admin(&self, method: Method, service: &str, path: &str) -> RequestBuilder {
        self.as_bearer(&self.admin_token, method, service, path)
    }

    /// A request with a token.
    pub(super) fn as_bearer(&self, token: &str, method: Method, service: &str, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.address(service))).bearer_auth(token)
    }

    /// A request of the administrator that has to succeed.
    pub(super) async fn done(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.as_admin(method, "registry", path).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        anyhow::ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}
