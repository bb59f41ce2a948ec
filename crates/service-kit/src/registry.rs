//! How a service reaches the registry and other services, and which token it shows there.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::SecretString;
use slipway_grpc_client::{Token, TracedChannel, channel, channel_with_token};
use slipway_runtime::task;
use tokio_util::sync::CancellationToken;

use crate::watch;

/// The file with the token of a service.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TokenFile {
    /// File with the token that this service sends to the registry and to other services, e.g. of a Secret of
    /// Kubernetes. It is read again when it changes. [default: none]
    #[arg(long, env = "SLIPWAY_SERVICE_TOKEN_FILE", value_name = "FILE")]
    pub service_token_file: Option<PathBuf>,
}

/// The token with which this service authenticates to the registry and to other services.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct RegistryToken {
    /// Token that this service sends to the registry; required if access control of the registry is on,
    /// unless --service-token-file is set.
    #[arg(
        long,
        env = "SLIPWAY_REGISTRY_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "service_token_file"
    )]
    pub registry_token: Option<SecretString>,
    /// The file that has it.
    #[command(flatten)]
    pub file: TokenFile,
}

impl RegistryToken {
    /// This token.
    pub fn of(token: impl Into<SecretString>) -> Self {
        Self { registry_token: Some(token.into()), file: TokenFile::default() }
    }

    /// The token for the channels of this process. A token file is followed as long as the process lives:
    /// resolve it once, not once per channel.
    ///
    /// # Errors
    /// The token or its file cannot be used; names the setting.
    pub fn resolve(&self) -> anyhow::Result<ServiceToken> {
        match &self.registry_token {
            Some(token) => {
                let token = Token::new(token)
                    .context("the registry's token (--registry-token or SLIPWAY_REGISTRY_TOKEN)")?;
                Ok(ServiceToken(Some(token)))
            }
            None => Ok(ServiceToken(self.file.follow()?)),
        }
    }
}

/// The token that this process sends to other services, if it has one. Clones are one token: all of them
/// change when its file does.
#[derive(Debug, Clone, Default)]
pub struct ServiceToken(Option<Token>);

impl TokenFile {
    /// The token in the file, where one is configured. It follows the file as long as the process lives; a
    /// file that cannot be used leaves the token as it is.
    ///
    /// # Errors
    /// The file cannot be read, or has no token that a header can carry.
    fn follow(&self) -> anyhow::Result<Option<Token>> {
        let Some(path) = self.service_token_file.clone() else { return Ok(None) };
        let setting = || {
            format!("the token file {} (--service-token-file or SLIPWAY_SERVICE_TOKEN_FILE)", path.display())
        };
        let known = watch::read(std::slice::from_ref(&path)).map_err(anyhow::Error::msg);
        let known = known.with_context(setting)?;
        let token = Token::new(&read(&known).with_context(setting)?).with_context(setting)?;
        let replaced = token.clone();
        let followed = watch::watch(vec![path.clone()], known, CancellationToken::new(), move |contents| {
            let read =
                contents.as_ref().map_err(|why| anyhow::anyhow!("{why}")).and_then(|files| read(files));
            match read.and_then(|secret| replaced.replace(&secret)) {
                Ok(()) => tracing::info!(file = %path.display(), "token of this service replaced"),
                Err(error) => refused(&path, &error),
            }
        });
        drop(task::detached("service-token", followed));
        Ok(Some(token))
    }
}

fn refused(path: &Path, error: &anyhow::Error) {
    let (error, file) = (format!("{error:#}"), path.display());
    tracing::error!(error, %file, "token file invalid; the previous token is sent");
}

fn read(files: &[Vec<u8>]) -> anyhow::Result<SecretString> {
    let bytes = files.first().map(Vec::as_slice).unwrap_or_default();
    let text =
        std::str::from_utf8(bytes).map_err(|_| anyhow::anyhow!("expected a token, not binary data"))?;
    anyhow::ensure!(!text.trim().is_empty(), "expected a token, the file is empty");
    Ok(text.trim().to_owned().into())
}

const URL: &str = "the registry's address (--registry-url or SLIPWAY_REGISTRY_URL)";

/// A channel to the registry, with the token if there is one.
///
/// # Errors
/// The URL is not the address of a service; names the setting.
pub fn registry_channel(url: &str, token: &ServiceToken) -> anyhow::Result<TracedChannel> {
    channel(url).context(URL)?;
    service_channel(url, token)
}

/// A channel to the registry, with the token in the file if there is one.
///
/// # Errors
/// As of [`registry_channel`], or the file cannot be used.
pub fn registry_channel_by_file(url: &str, file: &TokenFile) -> anyhow::Result<Option<TracedChannel>> {
    channel(url).context(URL)?;
    file.follow()?.map(|token| channel_with_token(url, &token)).transpose()
}

/// A channel to another service, with the token if there is one.
///
/// # Errors
/// The URL is not the address of a service.
pub fn service_channel(url: &str, token: &ServiceToken) -> anyhow::Result<TracedChannel> {
    match &token.0 {
        Some(token) => channel_with_token(url, token),
        None => channel(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_is_refused_by_the_names_of_the_setting() {
        let token = ServiceToken::default();
        for url in ["http://127.0.0.1:5000", "http://registry", "http://[::1]:5000/"] {
            assert!(registry_channel(url, &token).is_ok(), "{url}");
        }
        let with_token = RegistryToken::of("t0ken".to_owned()).resolve().unwrap();
        for url in ["", "foo", "localhost:30418", "ftp://host", "https://host", "http://"] {
            for token in [&token, &with_token] {
                let refused = format!("{:#}", registry_channel(url, token).unwrap_err());
                assert!(refused.contains("--registry-url or SLIPWAY_REGISTRY_URL"), "{refused}");
                assert!(refused.contains(&format!("`{url}` is not")) && refused.contains("http://HOST:PORT"));
            }
        }
    }

    #[tokio::test]
    async fn a_token_that_no_header_can_carry_is_refused_by_its_setting() {
        let token = RegistryToken::of("t0\nken".to_owned());
        let refused = format!("{:#}", token.resolve().unwrap_err());
        assert!(refused.contains("SLIPWAY_REGISTRY_TOKEN") && !refused.contains("ken:"), "{refused}");
    }

    #[tokio::test]
    async fn a_token_file_that_cannot_be_used_is_refused_by_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credential");
        let file = TokenFile { service_token_file: Some(path.clone()) };
        let token = RegistryToken { registry_token: None, file };
        let refused = || format!("{:#}", token.resolve().unwrap_err());
        for (contents, why) in [
            (None, "No such file"),
            (Some(&b" \n"[..]), "the file is empty"),
            (Some(&b"t0\nken"[..]), "not allowed in a header"),
            (Some(&b"\xff\xfe"[..]), "not binary data"),
        ] {
            if let Some(contents) = contents {
                std::fs::write(&path, contents).unwrap();
            }
            let refused = refused();
            assert!(refused.contains("SLIPWAY_SERVICE_TOKEN_FILE") && refused.contains(why), "{refused}");
            assert!(!refused.contains("ken:"), "{refused}");
        }
    }
}
