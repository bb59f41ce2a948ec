//! The tokens of the token file, as long as the process runs.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_runtime::clock::now_unix_ms;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::watch;
use tokio_util::sync::CancellationToken;

use super::rules::{Grant, Rules, TokenDigest};
use super::{Need, Refusal};
use crate::failure::Kind;

/// The rules of the file, which change with it.
#[derive(Debug)]
pub(super) struct TokensInFile {
    rules: Arc<RwLock<Arc<Rules>>>,
    metrics: FileMetrics,
    path: PathBuf,
    /// Its contents at the start.
    known: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    token: String,
}

#[derive(Debug, Clone, Default)]
struct FileMetrics {
    uses: Family<TokenLabels, Counter>,
    tokens: Gauge,
    errors: Counter,
}

impl FileMetrics {
    fn register(metrics: &Metrics) -> Self {
        let file = Self::default();
        metrics.register("serving_token_uses", "Requests by token", file.uses.clone());
        metrics.register("serving_tokens", "Tokens of the token file", file.tokens.clone());
        let errors = "Invalid changes of the token file";
        metrics.register("serving_token_file_errors", errors, file.errors.clone());
        file
    }

    fn uses(&self, token: &str) -> Counter {
        self.uses.get_or_create_owned(&TokenLabels { token: token.to_owned() })
    }
}

impl TokensInFile {
    /// # Errors
    /// The file cannot be used.
    pub(super) fn load(path: PathBuf, metrics: &Metrics) -> anyhow::Result<Self> {
        let metrics = FileMetrics::register(metrics);
        let known = watch::read(std::slice::from_ref(&path));
        let rules = known.as_ref().map_err(Clone::clone).and_then(|known| read(known, &metrics));
        let rules = rules
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("the token file {} (--tokens-file)", path.display()))?;
        let known = known.unwrap_or_default();
        Ok(Self { rules: Arc::new(RwLock::new(Arc::new(rules))), metrics, path, known })
    }

    /// Follows the file until the shutdown.
    pub(super) async fn watch(&self, shutdown: CancellationToken) {
        let (paths, known) = (vec![self.path.clone()], self.known.clone());
        let (rules, metrics, path) = (Arc::clone(&self.rules), self.metrics.clone(), self.path.clone());
        watch::watch(paths, known, shutdown, move |contents| {
            match contents.as_ref().map_err(Clone::clone).and_then(|files| read(files, &metrics)) {
                Ok(read) => {
                    tracing::info!(tokens = read.len(), "token file changed");
                    *rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                }
                Err(error) => {
                    metrics.errors.inc();
                    let file = path.display();
                    tracing::error!(error, %file, "token file invalid; the previous rules stay in force");
                }
            }
        })
        .await;
    }

    fn rules(&self) -> Arc<Rules> {
        // The lock is held for one pointer; a panic cannot leave it half-written.
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the file has this token, expired or not.
    pub(super) fn knows(&self, digest: &TokenDigest) -> bool {
        self.rules().grant(digest).is_some()
    }

    /// Counts a use of a token.
    ///
    /// # Errors
    /// It is unknown or has expired.
    pub(super) fn uses(&self, digest: &TokenDigest) -> Result<(), Refusal> {
        self.with_grant(digest, |grant| {
            grant.uses.inc();
            Ok(())
        })
    }

    /// # Errors
    /// The token expired or was removed, or is not for this.
    pub(super) fn check(&self, digest: &TokenDigest, need: Need<'_>) -> Result<(), Refusal> {
        self.with_grant(digest, |grant| {
            let allowed = match need {
                Need::Nothing | Need::AnyToken => true,
                Need::Model(model) | Need::Labels(model) => grant.takes(model),
                Need::AllModels => grant.all,
                Need::Unlisted => false,
            };
            if allowed {
                return Ok(());
            }
            let name = &grant.name;
            let message = match need {
                Need::Model(model) | Need::Labels(model) => {
                    format!("the token '{name}' is not for model '{model}'")
                }
                Need::Unlisted => format!("the token '{name}': no rule allows this method of this route"),
                _ => format!("the token '{name}' is not for all models, which this operation requires"),
            };
            Err(Refusal::new("not-allowed", Kind::Forbidden, message))
        })
    }

    pub(super) fn name_of(&self, digest: &TokenDigest) -> Option<String> {
        self.rules().grant(digest).map(|grant| grant.name.clone())
    }

    pub(super) fn takes(&self, digest: &TokenDigest, deployment: &str) -> bool {
        self.rules().grant(digest).is_some_and(|grant| grant.takes(deployment))
    }

    fn with_grant(
        &self,
        digest: &TokenDigest,
        ask: impl FnOnce(&Grant) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let rules = self.rules();
        let Some(grant) = rules.grant(digest) else {
            return Err(Refusal::new("unknown-token", Kind::Unauthenticated, "the token is unknown"));
        };
        if grant.is_over(now_unix_ms()) {
            let message = format!("the token '{}' has expired", grant.name);
            return Err(Refusal::new("expired-token", Kind::Unauthenticated, message));
        }
        ask(grant)
    }
}

/// The rules in the file that was read.
fn read(files: &[Vec<u8>], metrics: &FileMetrics) -> Result<Rules, String> {
    let bytes = files.first().map(Vec::as_slice).unwrap_or_default();
    let rules = Rules::parse(bytes, |name| metrics.uses(name))?;
    metrics.tokens.set(i64::try_from(rules.len()).unwrap_or(i64::MAX));
    Ok(rules)
}
