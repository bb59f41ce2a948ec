//! Credentials of registries, from a file as `docker login` and Kubernetes' image pull secrets have it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;
use serde::Deserialize;

const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The name under which `docker login` keeps the credentials of Docker Hub.
const DOCKER_HUB_KEY: &str = "index.docker.io";

/// Where credentials are. The file is read whenever they are needed, so that new ones count without a
/// restart.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    file: Option<PathBuf>,
}

/// A user of a registry.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: SecretString,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize, Default)]
struct Entry {
    /// `USER:PASSWORD` in base64.
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Credentials {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file: file.filter(|file| !file.as_os_str().is_empty()) }
    }

    /// Those of a registry, by its host and port.
    ///
    /// # Errors
    /// The file cannot be read; names it and the setting, and nothing that it contains.
    pub(super) fn of(&self, registry: &str) -> anyhow::Result<Option<Login>> {
        let Some(path) = &self.file else { return Ok(None) };
        let about =
            || format!("credentials of registries (SLIPWAY_IMPORT_REGISTRY_AUTH_FILE): {}", path.display());
        let file = read(path).with_context(about)?;
        login(file, registry).with_context(about)
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let length_bytes = std::fs::metadata(path)?.len();
    ensure!(length_bytes <= MAX_FILE_BYTES, "expected at most {MAX_FILE_BYTES} bytes, found {length_bytes}");
    // The parser's message would quote what is at the place that it could not read.
    let place = |error: serde_json::Error| {
        anyhow::anyhow!(
            "expected {{\"auths\": {{REGISTRY: {{\"auth\": …}}}}}}; line {} is something else",
            error.line()
        )
    };
    serde_json::from_slice(&std::fs::read(path)?).map_err(place)
}

fn login(file: File, registry: &str) -> anyhow::Result<Option<Login>> {
    let wanted = if registry == "docker.io" { DOCKER_HUB_KEY } else { registry };
    let Some((_, entry)) = file.auths.into_iter().find(|(key, _)| host_of(key) == wanted) else {
        return Ok(None);
    };
    if entry.auth.is_empty() {
        let is_complete = !entry.username.is_empty() && !entry.password.is_empty();
        ensure!(is_complete, "the entry of {registry} has neither `auth` nor `username` and `password`");
        return Ok(Some(Login { user: entry.username, password: entry.password.into() }));
    }
    let decoded =
        BASE64_STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let both = decoded.as_deref().and_then(|decoded| decoded.split_once(':'));
    let (user, password) =
        both.with_context(|| format!("`auth` of {registry} is not USER:PASSWORD in base64"))?;
    Ok(Some(Login { user: user.to_owned(), password: password.to_owned().into() }))
}

/// Host and port of a key, which may be a whole URL.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn credentials_are_found_by_host_and_a_broken_file_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let both = BASE64_STANDARD.encode("robot:s3:cret");
        let text = format!(
            r#"{{"auths": {{"ghcr.io": {{"auth": "{both}"}}, "https://index.docker.io/v1/":
                {{"username": "u", "password": "p"}}, "bad.example": {{"auth": "!"}}}}, "credsStore": "x"}}"#
        );
        std::fs::write(&path, text).unwrap();
        let credentials = Credentials::new(Some(path.clone()));
        let of = |registry: &str| {
            let login = credentials.of(registry).unwrap();
            login.map(|login| (login.user, login.password.expose_secret().to_owned()))
        };
        assert_eq!(of("ghcr.io"), Some(("robot".to_owned(), "s3:cret".to_owned())));
        assert_eq!(of("docker.io"), Some(("u".to_owned(), "p".to_owned())));
        assert_eq!(of("quay.io"), None);
        let refused = format!("{:#}", credentials.of("bad.example").unwrap_err());
        assert!(refused.contains("`auth` of bad.example"), "{refused}");
        std::fs::write(&path, r#"{"auths": {"ghcr.io": "s3cret"}}"#).unwrap();
        let refused = format!("{:#}", credentials.of("ghcr.io").unwrap_err());
        assert!(refused.contains("SLIPWAY_IMPORT_REGISTRY_AUTH_FILE"), "{refused}");
        assert!(!refused.contains("s3cret"), "{refused}");
        assert!(Credentials::new(None).of("ghcr.io").unwrap().is_none());
    }
}
