//! `slipway registry import`: copies everything of an MLflow server into the registry.
//!
//! The order is: experiments, runs with their files, logged models with theirs, what is left of the runs that refer to
//! those, registered models, versions, aliases. Each thing is marked when it is complete, so an import that was
//! interrupted goes on where it was.

mod artifacts;
mod batch;
mod body;
mod experiments;
mod http;
mod json;
mod logged_models;
mod mark;
mod models;
mod report;
mod runs;
mod uri;
mod versions;

use std::cell::RefCell;
use std::collections::HashSet;
use std::process::ExitCode;

use clap::Args;

use crate::Endpoints;
use crate::cli::Connection;
use crate::output;
use crate::token;
use http::{Failure, Server};
use report::Report;

/// Requests to each of the two servers at a time.
const DEFAULT_CONCURRENCY: u16 = 8;
/// MLflow's server stalls on its own database connections beyond this.
const MAX_CONCURRENCY: i64 = 64;

/// Options of the import.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Address of the MLflow server, e.g. http://old:5000.
    #[arg(long, value_name = "URL")]
    from: String,
    /// Address of the registry [default: the platform in --data-dir].
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Only this experiment with its runs and logged models; copies no registered models unless --model is given. Can be
    /// repeated.
    #[arg(long, value_name = "NAME")]
    experiment: Vec<String>,
    /// Only this registered model with its versions; copies no experiments unless --experiment is given. Can be repeated.
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Skips artifacts, and the model versions that require them.
    #[arg(long)]
    no_artifacts: bool,
    /// Shows what would be copied and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Maximum concurrent requests to each of the two servers.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONCURRENCY)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_CONCURRENCY))]
    concurrency: u16,
}

impl Options {
    /// Neither experiments nor models were named, so all of both are meant.
    fn everything(&self) -> bool {
        self.experiment.is_empty() && self.model.is_empty()
    }

    fn wants_experiment(&self, name: &str) -> bool {
        self.everything() || self.experiment.iter().any(|wanted| wanted == name)
    }
}

/// One import.
struct Import {
    source: Server,
    target: Server,
    options: Options,
    report: Report,
    /// Runs and logged models whose files are not all in the registry: no version may pin what is there.
    incomplete: RefCell<HashSet<String>>,
}

impl Import {
    fn concurrency(&self) -> usize {
        usize::from(self.options.concurrency)
    }

    /// Why nothing more can be done, if so.
    fn stopped(&self) -> Option<String> {
        self.source.gone().or_else(|| self.target.gone())
    }

    fn mark_incomplete(&self, id: &str) {
        self.incomplete.borrow_mut().insert(id.to_owned());
    }

    /// The digest that says that everything wanted is there.
    fn wanted_digest(&self, digest: &str) -> String {
        if self.options.no_artifacts { digest.to_owned() } else { mark::with_artifacts(digest) }
    }

    async fn run(&self) -> Result<(), Failure> {
        let experiments = experiments::copy(self).await?;
        let pending = runs::copy(self, &experiments).await;
        let known = logged_models::copy(self, &experiments).await;
        runs::finish(self, pending, &known, &experiments).await;
        experiments::finish(self, &experiments).await;
        models::copy(self, &experiments.roots).await;
        Ok(())
    }
}

pub(crate) fn run(connection: &Connection, options: Options) -> anyhow::Result<ExitCode> {
    // The token of this machine's administrator is for this machine's registry alone.
    let (to, token) = match &options.to {
        Some(to) => (to.clone(), token::own()),
        None => (Endpoints::read(&connection.data_dir)?.registry, token::for_platform(&connection.data_dir)),
    };
    let concurrency = usize::from(options.concurrency);
    let import = Import {
        source: Server::source(&options.from, concurrency).map_err(|error| error.context("--from"))?,
        target: Server::target(&to, concurrency, token).map_err(|error| error.context("--to"))?,
        options,
        report: Report::default(),
        incomplete: RefCell::default(),
    };
    if import.source.address == import.target.address {
        anyhow::bail!("--from and the registry are the same server: {}", import.source.address);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(import.report.with_progress(import.run()))?;
    let (dry_run, stopped) = (import.options.dry_run, import.stopped());
    if connection.json {
        output::json(&import.report.json(dry_run, stopped.as_deref()));
    } else {
        import.report.print(dry_run, stopped.as_deref());
    }
    let failed = stopped.is_some() || import.report.has_failures();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
