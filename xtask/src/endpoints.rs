//! `endpoints.json` of a running platform: addresses of its services and servers, and process IDs.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// The file, whatever services the platform has.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints(Value);

impl Endpoints {
    /// Reads the file in a platform's data directory.
    pub(crate) fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("endpoints.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Self(value))
    }

    /// URL of a part, e.g. of `registry` or `serving_http`.
    pub(crate) fn url(&self, part: &str) -> anyhow::Result<&str> {
        self.0[part].as_str().with_context(|| format!("endpoints.json has no {part}"))
    }

    /// Process ID of a service or server that the platform started.
    pub(crate) fn pid(&self, process: &str) -> anyhow::Result<u32> {
        let pid = self.0["pids"][process].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.with_context(|| format!("endpoints.json has no process of {process}"))
    }

    /// Names of all processes that the platform started, with their IDs.
    pub(crate) fn pids(&self) -> impl Iterator<Item = (&str, u32)> {
        let pids = self.0["pids"].as_object().into_iter().flatten();
        pids.filter_map(|(name, pid)| Some((name.as_str(), u32::try_from(pid.as_u64()?).ok()?)))
    }

    /// The whole document.
    pub(crate) const fn document(&self) -> &Value {
        &self.0
    }
}
