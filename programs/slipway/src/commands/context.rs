//! What all commands over the public APIs share.

use std::borrow::Cow;
use std::io::Read as _;

use anyhow::Context as _;
use clap::Args;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;
use slipway_api::rest::PageQuery;
use slipway_client::{DriftMonitor, Launcher, Registry, RolloutController, Serving};
use slipway_http_server::json;

use crate::connection::Connection;
use crate::endpoints::Endpoints;
use crate::location::Location;

/// Paging of a list.
#[derive(Debug, Clone, Args)]
pub struct Paging {
    /// Maximum number of items.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Continues after the page that printed this token.
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

impl Paging {
    pub(crate) fn page(&self) -> PageQuery {
        PageQuery { limit: Some(self.limit), page_token: self.page_token.clone() }
    }
}

/// What commands share: the addresses of the services, the form of the output, and the caller's token.
pub(crate) struct Context {
    location: Location,
    pub(crate) json: bool,
}

impl Context {
    /// For the platform that the options name.
    ///
    /// # Errors
    /// No platform runs there.
    pub(crate) async fn open(connection: &Connection) -> anyhow::Result<Self> {
        Ok(Self { location: Location::find(connection).await?, json: connection.json })
    }

    pub(crate) const fn endpoints(&self) -> &Endpoints {
        &self.location.endpoints
    }

    pub(crate) fn registry(&self) -> anyhow::Result<Registry> {
        Ok(self.client("registry")?.into())
    }

    pub(crate) fn launcher(&self) -> anyhow::Result<Launcher> {
        Ok(self.client("launcher")?.into())
    }

    pub(crate) fn serving(&self) -> anyhow::Result<Serving> {
        // A token of serving's own token file.
        let own = std::env::var("SLIPWAY_SERVING_TOKEN").ok().map(SecretString::from);
        let client = self.client("serving_http")?;
        Ok(if own.is_some() { client.with_token(own) } else { client }.into())
    }

    pub(crate) fn rollout_controller(&self) -> anyhow::Result<RolloutController> {
        let actor = ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
        Ok(self.client("rollout_controller")?.acting_as(actor).into())
    }

    pub(crate) fn drift_monitor(&self) -> anyhow::Result<DriftMonitor> {
        Ok(self.client("drift_monitor")?.into())
    }

    /// A client of a service. Every service gets the caller's token.
    fn client(&self, endpoint: &str) -> anyhow::Result<slipway_client::Client> {
        Ok(slipway_client::Client::new(self.endpoints().url(endpoint)?)?
            .with_token(self.location.token.clone()))
    }
}

/// A body from a file, or from standard input for `-`.
///
/// # Errors
/// The file cannot be read, or is neither the JSON nor the YAML of such a body; the message names the field.
pub(crate) fn read_body<T: DeserializeOwned>(path: &str) -> anyhow::Result<T> {
    let text = read_text(path)?;
    let text = as_json(&text).with_context(|| path.to_owned())?;
    json::read(text.as_bytes()).with_context(|| path.to_owned())
}

/// JSON as it is, so that an error names its line; YAML as JSON.
pub(crate) fn as_json(text: &str) -> anyhow::Result<Cow<'_, str>> {
    if text.trim_start().starts_with(['{', '[']) {
        return Ok(Cow::Borrowed(text));
    }
    let document: Value = serde_saphyr::from_str(text)
        .map_err(|error| anyhow::anyhow!("expected JSON or YAML: {}", one_line(&error.to_string())))?;
    anyhow::ensure!(
        document.is_object() || document.is_array(),
        "expected an object or a list, in JSON or YAML"
    );
    Ok(Cow::Owned(document.to_string()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// JSON or YAML from a file, or from standard input for `-`.
pub(crate) fn read_json(path: &str) -> anyhow::Result<Value> {
    let text = read_text(path)?;
    let text = as_json(&text).with_context(|| path.to_owned())?;
    serde_json::from_str(&text).with_context(|| format!("{path} is not valid JSON"))
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn read_text(path: &str) -> anyhow::Result<String> {
    if path != "-" {
        return std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_read_as_json_and_json_stays_as_it_is() {
        let json = "  {\"a\": [1, 2.5]}";
        assert_eq!(as_json(json).unwrap(), json);
        let yaml = "# a job\nname: train\ncommand: [python, train.py]\nenv:\n  EPOCHS: \"3\"\n\
                    resources: {cpus: 2}\n";
        let read: Value = serde_json::from_str(&as_json(yaml).unwrap()).unwrap();
        let expected = json!({
            "name": "train", "command": ["python", "train.py"], "env": {"EPOCHS": "3"},
            "resources": {"cpus": 2},
        });
        assert_eq!(read, expected);
        for text in ["", "just text", "a: [1", "a: 1\na: 2\n", "a: 1\n---\nb: 2\n"] {
            let error = as_json(text).unwrap_err().to_string();
            assert!(error.starts_with("expected ") && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
