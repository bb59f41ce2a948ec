//! The token that this command line shows the registry, and the administrator's token of a platform on this
//! machine.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_access::ApiToken;

use crate::endpoints::write_atomically;

/// What callers of the registry set where its access is on.
const VARIABLE: &str = "SLIPWAY_TOKEN";
const ADMIN_VARIABLE: &str = "SLIPWAY_ADMIN_TOKEN";

/// Where the administrator's token lies, readable by the platform's owner alone.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin-token")
}

/// The caller's own token: from SLIPWAY_TOKEN.
pub(crate) fn own() -> Option<SecretString> {
    variable(VARIABLE)
}

/// The caller's own token, or the administrator's where the platform in that directory is the caller's.
pub(crate) fn for_platform(data_dir: &Path) -> Option<SecretString> {
    own().or_else(|| read(data_dir))
}

/// The administrator's token of the platform: the one in SLIPWAY_ADMIN_TOKEN, or one that is made once and
/// kept.
///
/// # Errors
/// The disk refuses, or there is no randomness.
pub(crate) fn administrators(data_dir: &Path) -> anyhow::Result<SecretString> {
    if let Some(token) = variable(ADMIN_VARIABLE).or_else(|| read(data_dir)) {
        return Ok(token);
    }
    let token = ApiToken::generate().context("cannot create the administrator's token")?.reveal();
    let line = format!("{}\n", token.expose_secret());
    write_atomically(&path(data_dir), line.as_bytes(), 0o600)?;
    Ok(token)
}

fn read(data_dir: &Path) -> Option<SecretString> {
    let text = std::fs::read_to_string(path(data_dir)).ok()?;
    Some(text.trim()).filter(|text| !text.is_empty()).map(Into::into)
}

fn variable(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty()).map(|value| value.trim().into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_administrators_token_is_made_once_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = administrators(folder.path()).unwrap();
        assert!(ApiToken::parse(made.expose_secret()).is_some());
        let mode = std::fs::metadata(path(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(administrators(folder.path()).unwrap().expose_secret(), made.expose_secret());
    }
}
