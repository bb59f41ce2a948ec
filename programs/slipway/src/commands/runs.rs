//! `slipway runs`.

use clap::Subcommand;
use slipway_api::rest::registry::{RunDetails, RunsQuery};

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
            let page = paging.page();
            let query = RunsQuery { experiment, limit: page.limit, page_token: page.page_token };
            let answer = registry.runs(&query).await?;
            let columns = [
                ("RUN", "run_id"),
                ("NAME", "run_name"),
                ("EXPERIMENT", "experiment_id"),
                ("STATUS", "status"),
                ("STARTED", "start_time"),
            ];
            output::list(context.json, &answer, "runs", &columns);
        }
        Command::Show { run } => show(context.json, &registry.run(&run).await?),
    }
    Ok(())
}

/// What a run has, with its columns; sections without rows are left out.
const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    ("metrics", &[("METRIC", "key"), ("VALUE", "value"), ("STEP", "step"), ("LOGGED", "timestamp")]),
    ("params", &[("PARAM", "key"), ("VALUE", "value")]),
    ("tags", &[("TAG", "key"), ("VALUE", "value")]),
];

fn show(as_json: bool, run: &RunDetails) {
    if as_json {
        return output::json(run);
    }
    let run = output::value_of(run);
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
