//! `slipway monitors`.

mod scores;

use clap::Subcommand;
use serde_json::{Map, Value, json};
use slipway_api::rest::monitors::MonitorsQuery;

use crate::commands::context::{Context, Paging, read_body, read_json};
use crate::output::{self, outln};

const DEFAULTS: &str = r#"Defaults of the body: {"window": {"rows": 500, "max_s": 3600}, "consecutive_windows": 2, "cool_down_s": 3600,
"thresholds": {"psi": 0.2, "p_value": 0.01, "missing_rate_delta": 0.1, "out_of_range_rate": 0.2, "min_features_drifted": 0.15,
"single_feature_shift": 0.5, "distinct_rows_ratio": 0.1}, "on_drift": []}. name, deployment and model are required."#;

/// See `slipway monitors --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists monitors.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows a monitor, its state and its settings, defaults included.
    Show {
        /// Monitor name.
        name: String,
    },
    /// Creates a monitor.
    #[command(after_help = DEFAULTS)]
    Create {
        /// JSON or YAML file with the monitor, or `-` for standard input.
        file: String,
    },
    /// Changes the given settings of a monitor; the others remain. The open window is restarted.
    #[command(after_help = DEFAULTS)]
    Update {
        /// Monitor name.
        name: String,
        /// JSON or YAML file with the fields to change, or `-` for standard input; null resets a field to its
        /// default.
        file: Option<String>,
        /// Rows of a window.
        #[arg(long, value_name = "ROWS")]
        window_rows: Option<u64>,
        /// Time after its first row at which a window closes, in seconds.
        #[arg(long, value_name = "SECONDS")]
        window_max_s: Option<f64>,
        /// Consecutive windows that have to agree before drift is detected or cleared.
        #[arg(long, value_name = "COUNT")]
        consecutive_windows: Option<u32>,
        /// Time after a detection in which no alarm is raised again, in seconds.
        #[arg(long, value_name = "SECONDS")]
        cool_down_s: Option<f64>,
        /// Threshold to set, e.g. `psi=0.3`; repeatable.
        #[arg(long = "threshold", value_name = "NAME=VALUE")]
        thresholds: Vec<String>,
    },
    /// Lists closed windows, newest first; with --window, the scores of every column of one window.
    Windows {
        /// Monitor name.
        name: String,
        /// Window to show in detail, by number.
        #[arg(long, value_name = "NUMBER")]
        window: Option<u64>,
        /// Shows drifted columns only.
        #[arg(long, requires = "window")]
        drifted: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Lists verdicts, newest first: when drift was detected and cleared, and what drifted.
    Verdicts {
        /// Monitor name.
        name: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Lists the actions that were taken on drift, newest first.
    Actions {
        /// Monitor name.
        name: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Deletes a monitor with its windows, verdicts and actions.
    Delete {
        /// Monitor name.
        name: String,
    },
}

/// Columns of the list of monitors.
const MONITOR_COLUMNS: [(&str, &str); 6] = [
    ("MONITOR", "name"),
    ("DEPLOYMENT", "deployment"),
    ("MODEL", "model"),
    ("BASELINE", "baseline_version"),
    ("STATE", "state"),
    ("REASON", "reason"),
];

/// Columns of the list of actions.
const ACTION_COLUMNS: [(&str, &str); 5] = [
    ("ACTION", "action"),
    ("STATUS", "status"),
    ("RESULT", "result"),
    ("ATTEMPTS", "attempts"),
    ("ERROR", "last_error"),
];

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let monitor = context.drift_monitor()?;
    match command {
        Command::List { paging } => {
            let page = paging.page();
            let query = MonitorsQuery { deployment: None, limit: page.limit, page_token: page.page_token };
            let answer = json!(monitor.monitors(&query).await?);
            output::list(context.json, &answer, "monitors", &MONITOR_COLUMNS);
        }
        Command::Show { name } => output::object(context.json, &json!(monitor.monitor(&name).await?)),
        Command::Create { file } => {
            let created = monitor.create_monitor(&read_body(&file)?).await?;
            output::object(context.json, &json!(created));
        }
        Command::Update {
            name,
            file,
            window_rows,
            window_max_s,
            consecutive_windows,
            cool_down_s,
            thresholds,
        } => {
            let mut change = file.map_or_else(|| Ok(json!({})), |file| read_json(&file))?;
            set(&mut change, &["window", "rows"], window_rows.map(Value::from));
            set(&mut change, &["window", "max_s"], window_max_s.map(Value::from));
            set(&mut change, &["consecutive_windows"], consecutive_windows.map(Value::from));
            set(&mut change, &["cool_down_s"], cool_down_s.map(Value::from));
            set_thresholds(&mut change, &thresholds)?;
            let Value::Object(change) = change else {
                anyhow::bail!("expected a JSON object with the fields of the monitor to change");
            };
            output::object(context.json, &json!(monitor.update_monitor(&name, &change).await?));
        }
        Command::Windows { name, window, drifted, paging } => match window {
            None => scores::windows(context.json, &json!(monitor.windows(&name, &paging.page()).await?)),
            Some(number) => {
                scores::window(context.json, &json!(monitor.window(&name, number).await?), drifted);
            }
        },
        Command::Verdicts { name, paging } => {
            scores::verdicts(context.json, &json!(monitor.verdicts(&name, &paging.page()).await?));
        }
        Command::Actions { name, paging } => {
            let answer = json!(monitor.actions(&name, &paging.page()).await?);
            output::list(context.json, &answer, "actions", &ACTION_COLUMNS);
        }
        Command::Delete { name } => {
            monitor.delete_monitor(&name).await?;
            outln!("monitor {name} deleted");
        }
    }
    Ok(())
}

/// Sets the thresholds that were given.
///
/// # Errors
/// One does not parse, or nothing at all was given to change.
fn set_thresholds(change: &mut Value, thresholds: &[String]) -> anyhow::Result<()> {
    for threshold in thresholds {
        let (threshold, value) = parse_threshold(threshold)?;
        set(change, &["thresholds", threshold], Some(value.into()));
    }
    let nothing = change.as_object().is_some_and(Map::is_empty);
    anyhow::ensure!(
        !nothing,
        "nothing to change: give a FILE or an option, see `slipway monitors update --help`"
    );
    Ok(())
}

/// Sets a field of a change where an option was given.
fn set(change: &mut Value, path: &[&str], value: Option<Value>) {
    let Some(value) = value else { return };
    let mut place = change;
    for field in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*field];
    }
    *place = value;
}

fn parse_threshold(text: &str) -> anyhow::Result<(&str, f64)> {
    let parsed = text.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)));
    parsed.ok_or_else(|| anyhow::anyhow!("--threshold {text}: expected NAME=VALUE, e.g. psi=0.3"))
}
