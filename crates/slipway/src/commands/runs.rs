//! `slipway runs`.

use clap::Subcommand;

use super::{Context, Paging};
use crate::output;

/// See `slipway runs --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs, the newest first.
    List {
        /// Only those of this experiment (its id).
        #[arg(long, value_name = "ID")]
        experiment: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// One run with its params, latest metrics and tags.
    Show {
        /// Run id.
        run: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match command {
        Command::List { experiment, paging } => {
            let mut query = paging.query();
            query.extend(experiment.map(|id| ("experiment", id)));
            let answer = registry.get(&["api", "v1", "runs"], &query).await?;
            let columns = [
                ("RUN", "run_id"),
                ("NAME", "run_name"),
                ("EXPERIMENT", "experiment_id"),
                ("STATUS", "status"),
                ("STARTED", "start_time"),
            ];
            output::list(context.json, &answer, "runs", &columns);
        }
        Command::Show { run } => {
            let answer = registry.get(&["api", "2.0", "mlflow", "runs", "get"], &[("run_id", run)]).await?;
            output::json(answer.get("run").unwrap_or(&answer));
        }
    }
    Ok(())
}
