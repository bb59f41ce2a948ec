//! What all steps of one import share.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::failure::ConfigError;
use crate::http::Server;
use crate::mark;
use crate::options::{Options, Registry};
use crate::report::Report;

/// One import.
pub(crate) struct Import {
    pub(crate) source: Server,
    pub(crate) target: Server,
    pub(crate) options: Options,
    pub(crate) report: Report,
    /// Runs and logged models with artifacts that the registry lacks: no version may pin what it has of them.
    pub(crate) incomplete: RefCell<HashSet<String>>,
}

impl Import {
    pub(crate) fn new(options: Options, registry: &Registry) -> Result<Self, ConfigError> {
        let concurrency = usize::from(options.concurrency);
        let source = Server::source(&options.source, concurrency).map_err(ConfigError::Source)?;
        let target = Server::target(&registry.address, concurrency, registry.token.as_ref());
        let target = target.map_err(ConfigError::Registry)?;
        if source.address == target.address {
            return Err(ConfigError::SameServer(source.address));
        }
        Ok(Self { source, target, options, report: Report::default(), incomplete: RefCell::default() })
    }

    pub(crate) fn concurrency(&self) -> usize {
        usize::from(self.options.concurrency)
    }

    /// The reason why nothing more can be copied, if a server is unreachable.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.source.gone().or_else(|| self.target.gone())
    }

    pub(crate) fn mark_incomplete(&self, id: &str) {
        self.incomplete.borrow_mut().insert(id.to_owned());
    }

    /// The digest which states that everything wanted is there.
    pub(crate) fn wanted_digest(&self, digest: &str) -> String {
        if self.options.skip_artifacts { digest.to_owned() } else { mark::with_artifacts(digest) }
    }
}
