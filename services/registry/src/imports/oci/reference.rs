//! Names of artifacts and images: `oci://REGISTRY/REPOSITORY:TAG` and `oci://REGISTRY/REPOSITORY@sha256:…`.

use anyhow::{anyhow, ensure};
use reqwest::Url;

/// Begins the address of an artifact or an image.
pub(crate) const SCHEME: &str = "oci://";
const MAX_REPOSITORY_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;
/// Docker Hub is called by one name, and answers under another one.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// A manifest of a repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Root of the registry's API.
    pub(super) base: Url,
    /// Host and port as the address has them, under which credentials are listed.
    pub(super) registry: String,
    pub(super) repository: String,
    /// A tag, or a digest.
    pub(super) version: String,
}

impl Reference {
    /// Reads an address.
    ///
    /// # Errors
    /// It has another form; says which one is expected.
    pub(crate) fn parse(uri: &str) -> anyhow::Result<Self> {
        let expected = || {
            anyhow!(
                "expected oci://REGISTRY/REPOSITORY:TAG or oci://REGISTRY/REPOSITORY@sha256:DIGEST, got {uri}"
            )
        };
        let (registry, rest) =
            uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(expected)?;
        let (named, digest) = match rest.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (rest, None),
        };
        let (repository, tag) = match named.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (named, None),
        };
        ensure!(tag.is_none_or(is_tag), "{uri}: `{}` is no tag", tag.unwrap_or_default());
        ensure!(
            digest.is_none_or(|digest| sha256_of(digest).is_some()),
            "{uri}: expected a digest sha256:… of 64 hexadecimal digits, got `{}`",
            digest.unwrap_or_default()
        );
        let version = digest.or(tag).ok_or_else(expected)?;
        ensure!(is_repository(repository), "{uri}: `{repository}` is no name of a repository");
        let base = base_of(registry).ok_or_else(|| {
            anyhow!("{uri}: expected the host of a registry, e.g. ghcr.io, got `{registry}`")
        })?;
        Ok(Self {
            base,
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            version: version.to_owned(),
        })
    }

    /// Whether it names one content for good.
    #[cfg(test)]
    fn is_digest(&self) -> bool {
        sha256_of(&self.version).is_some()
    }

    /// Address of a manifest or a blob of the repository.
    pub(super) fn url(&self, kind: &str, version: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(&format!("v2/{}/{kind}/{version}", self.repository))?)
    }
}

/// The hexadecimal digits of a SHA-256 digest.
pub(super) fn sha256_of(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix("sha256:")?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    (digits.len() == 64 && digits.bytes().all(is_digit)).then_some(digits)
}

/// Whether a host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Root of the API of a registry: by HTTPS, and on this machine by HTTP.
fn base_of(registry: &str) -> Option<Url> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let names_host = registry == "localhost" || registry.contains(['.', ':']);
    if !names_host || !registry.bytes().all(is_host) {
        return None;
    }
    let host = if registry == DOCKER_HUB { DOCKER_HUB_HOST } else { registry };
    let url = Url::parse(&format!("https://{host}/")).ok()?;
    if !is_loopback(&url) {
        return Some(url);
    }
    Url::parse(&format!("http://{host}/")).ok()
}

fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().all(|byte| is_letter(byte) || b"._-".contains(&byte))
            && part.bytes().next().is_some_and(is_letter)
            && part.bytes().last().is_some_and(is_letter)
    };
    name.len() <= MAX_REPOSITORY_BYTES && name.split('/').all(is_part)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_TAG_BYTES).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_registry_a_repository_and_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (uri, base, repository, version) in [
            ("oci://ghcr.io/org/fraud:v1", "https://ghcr.io/", "org/fraud", "v1"),
            ("oci://localhost:5000/m:latest", "http://localhost:5000/", "m", "latest"),
            ("oci://127.0.0.1:5000/m:1", "http://127.0.0.1:5000/", "m", "1"),
            ("oci://[::1]:5000/m:1", "http://[::1]:5000/", "m", "1"),
            ("oci://docker.io/library/m:1", "https://registry-1.docker.io/", "library/m", "1"),
            (&format!("oci://ghcr.io/m@{digest}"), "https://ghcr.io/", "m", &digest),
            (&format!("oci://ghcr.io/m:v2@{digest}"), "https://ghcr.io/", "m", &digest),
        ] {
            let parsed = Reference::parse(uri).unwrap();
            let found = (parsed.base.as_str(), parsed.repository.as_str(), parsed.version.as_str());
            assert_eq!(found, (base, repository, version), "{uri}");
            assert_eq!(parsed.is_digest(), version == digest, "{uri}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_what_is_expected() {
        for (uri, text) in [
            ("oci://ghcr.io/org/fraud", "expected oci://REGISTRY/REPOSITORY:TAG"),
            ("oci://ghcr.io", "expected oci://REGISTRY/REPOSITORY:TAG"),
            ("oci://org/fraud:v1", "expected the host of a registry"),
            ("oci://user@ghcr.io/fraud:v1", "expected the host of a registry"),
            ("oci://ghcr.io/../fraud:v1", "`../fraud` is no name of a repository"),
            ("oci://ghcr.io/Fraud:v1", "`Fraud` is no name of a repository"),
            ("oci://ghcr.io//fraud:v1", "`/fraud` is no name of a repository"),
            ("oci://ghcr.io/fraud:v/1", "`v/1` is no tag"),
            ("oci://ghcr.io/fraud?x:v1", "is no name of a repository"),
            ("oci://ghcr.io/fraud@sha256:12", "expected a digest sha256:"),
            ("oci://ghcr.io/fraud@md5:12", "expected a digest sha256:"),
        ] {
            let refused = Reference::parse(uri).unwrap_err().to_string();
            assert!(refused.contains(text), "{uri}: {refused}");
        }
    }
}
