//! Which addresses may be imported.

use slipway_domain::Invalid;

/// Settings of imports.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Imports")]
pub struct ImportConfig {
    /// Beginnings of the addresses from which models may be imported, separated by commas, e.g.
    /// `s3://models/,https://models.example.com/`. Buckets are those of the artifact store, read with its
    /// credentials. Every caller who may register versions of some model can read everything there. [default:
    /// none]
    #[arg(long, env = "SLIPWAY_IMPORT_SOURCES", value_delimiter = ',', value_name = "PREFIXES")]
    pub import_sources: Vec<String>,
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

/// Whether an address begins with a prefix, at the end of one of its parts: `s3://a` is not `s3://ab/c`.
fn begins(uri: &str, prefix: &str) -> bool {
    let Some(rest) = uri.strip_prefix(prefix) else { return false };
    (prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')) && !uri.contains("/../")
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
            ],
        };
        for uri in ["s3://models/fraud", "https://example.com/a", "https://example.com/a/b.onnx"] {
            assert_eq!(config.check(uri), Ok(()), "{uri}");
        }
        for uri in [
            "s3://other/fraud",
            "s3://models-2/fraud",
            "https://example.com/ab",
            "https://example.com.evil.com/a",
            "https://example.com/a/../b",
        ] {
            let refused = config.check(uri).unwrap_err();
            assert!(refused.message.contains("SLIPWAY_IMPORT_SOURCES"), "{refused}");
        }
        assert!(ImportConfig::default().check("s3://models/x").unwrap_err().message.contains("none)"));
    }
}
