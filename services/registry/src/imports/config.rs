//! Which addresses may be imported.

use std::path::PathBuf;

use slipway_domain::Invalid;

use super::oci::SCHEME;

const DEFAULT_MAX_BYTES: u64 = 1 << 40;

/// Settings of imports.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Imports")]
pub struct ImportConfig {
    /// Beginnings of the addresses from which models may be imported, separated by commas, e.g.
    /// `s3://models/,https://models.example.com/,oci://ghcr.io/org/`. Buckets are those of the artifact
    /// store, read with its credentials. Every caller who may register versions of some model can read
    /// everything there. [default: none]
    #[arg(long, env = "SLIPWAY_IMPORT_SOURCES", value_delimiter = ',', value_name = "PREFIXES")]
    pub import_sources: Vec<String>,
    /// Maximum size of one import, in bytes; of archives, of what they contain.
    #[arg(long, env = "SLIPWAY_IMPORT_MAX_BYTES", default_value_t = DEFAULT_MAX_BYTES, value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub import_max_bytes: u64,
    /// File with credentials of OCI registries, in the format of Docker's `config.json` and of Kubernetes'
    /// image pull secrets (`auths` with `auth`, or `username` and `password`). It is read again whenever
    /// credentials are needed. [default: none; registries are read anonymously]
    #[arg(long, env = "SLIPWAY_IMPORT_REGISTRY_AUTH_FILE", value_name = "FILE")]
    pub import_registry_auth_file: Option<PathBuf>,
}

impl Default for ImportConfig {
    fn default() -> Self {
        Self {
            import_sources: Vec::new(),
            import_max_bytes: DEFAULT_MAX_BYTES,
            import_registry_auth_file: None,
        }
    }
}

impl ImportConfig {
    /// Refuses an address that may not be imported.
    ///
    /// # Errors
    /// Names the setting that would allow it.
    pub(crate) fn check(&self, uri: &str) -> Result<(), Invalid> {
        let allowed =
            self.import_sources.iter().map(|prefix| prefix.trim()).filter(|prefix| !prefix.is_empty());
        if allowed.clone().any(|prefix| begins(uri, prefix)) {
            return Ok(());
        }
        let sources: Vec<&str> = allowed.collect();
        let sources = if sources.is_empty() { "none".to_owned() } else { sources.join(", ") };
        Err(Invalid::new(
            "uri",
            format!(
                "models may not be imported from {uri}: it begins with none of the allowed sources \
                 (SLIPWAY_IMPORT_SOURCES of the registry: {sources})"
            ),
        ))
    }
}

/// Whether an address begins with a prefix, at the end of one of its parts: `s3://a` is not `s3://ab/c`. A
/// repository of an OCI registry ends where its tag or digest begins, and a host is not one.
fn begins(uri: &str, prefix: &str) -> bool {
    let Some(rest) = uri.strip_prefix(prefix) else { return false };
    let is_repository = prefix.strip_prefix(SCHEME).is_some_and(|name| name.contains('/'));
    let is_at_end = rest.is_empty() || rest.starts_with('/') || is_repository && rest.starts_with([':', '@']);
    (prefix.ends_with('/') || is_at_end) && !uri.contains("/../")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_allowed_source_begins_may_be_imported() {
        let config = ImportConfig {
            import_sources: vec![
                "s3://models/".to_owned(),
                " https://example.com/a".to_owned(),
                String::new(),
                "oci://ghcr.io/org/m".to_owned(),
                "oci://quay.io".to_owned(),
            ],
            ..ImportConfig::default()
        };
        for uri in [
            "s3://models/fraud",
            "https://example.com/a",
            "https://example.com/a/b.onnx",
            "oci://ghcr.io/org/m:v1",
            "oci://ghcr.io/org/m@sha256:1",
            "oci://ghcr.io/org/m/n:1",
            "oci://quay.io/a:1",
        ] {
            assert_eq!(config.check(uri), Ok(()), "{uri}");
        }
        for uri in [
            "s3://other/fraud",
            "s3://models-2/fraud",
            "https://example.com/ab",
            "https://example.com.evil.com/a",
            "https://example.com/a/../b",
            "oci://ghcr.io/org/m2:v1",
            "oci://quay.io:8443/a:1",
            "oci://quay.io@evil.com/a:1",
        ] {
            let refused = config.check(uri).unwrap_err();
            assert!(refused.message.contains("SLIPWAY_IMPORT_SOURCES"), "{refused}");
        }
        assert!(ImportConfig::default().check("s3://models/x").unwrap_err().message.contains("none)"));
    }
}
