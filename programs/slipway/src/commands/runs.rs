//! `slipway runs`.

use clap::Subcommand;
use serde_json::Value;

use crate::commands::context::{Context, Paging};
use crate::output::{self, outln};

/// See `slipway runs --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists runs, newest first.
    List {
        /// Only runs of this experiment (its ID).
        #[arg(long, value_name = "ID")]
        experiment: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows a run with its params, latest metrics and tags.
    Show {
        /// Run ID.
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
            show(context.json, answer.get("run").unwrap_or(&answer));
        }
    }
    Ok(())
}

/// What a run has, with its columns; sections without rows are left out.
const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    ("metrics", &[("METRIC", "key"), ("VALUE", "value"), ("STEP", "step"), ("LOGGED", "timestamp")]),
    ("params", &[("PARAM", "key"), ("VALUE", "value")]),
    ("tags", &[("TAG", "key"), ("VALUE", "value")]),
];

fn show(as_json: bool, run: &Value) {
    if as_json {
        return output::json(run);
    }
    let fields = [
        ("run", "run_id"),
        ("name", "run_name"),
        ("status", "status"),
        ("stage", "lifecycle_stage"),
        ("experiment", "experiment_id"),
        ("user", "user_id"),
        ("started", "start_time"),
        ("ended", "end_time"),
        ("artifacts", "artifact_uri"),
    ];
    for (title, name) in fields {
        let value = output::cell(&run["info"], name);
        if !value.is_empty() {
            outln!("{title:<10}  {value}");
        }
    }
    for (name, columns) in SECTIONS {
        if run["data"][name].as_array().is_some_and(|rows| !rows.is_empty()) {
            outln!("");
            output::list(false, &run["data"], name, columns);
        }
    }
}
