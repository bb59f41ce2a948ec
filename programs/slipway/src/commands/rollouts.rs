//! `slipway rollouts`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use slipway_api::rest::rollouts::{CommandRequest, NewRollout, Rollout, RolloutCommand, RolloutsQuery};
use slipway_client::RolloutController;

use crate::commands::context::{Context, Paging, read_body};
use crate::commands::deployments::warn_of_replicas;
use crate::commands::follow::{self, Ending, Progress};
use crate::output::{self, errln, outln};

/// See `slipway rollouts --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists rollouts, newest first.
    List {
        /// Only rollouts of this deployment.
        #[arg(long, value_name = "NAME")]
        deployment: Option<String>,
        /// Only rollouts of the deployment with this ID, which may have been deleted.
        #[arg(long, value_name = "ID")]
        deployment_id: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows a rollout: its phase, its weight, what it waits for, and every decision with its reason.
    Show {
        /// Rollout ID.
        rollout: String,
    },
    /// Rolls out a version of the deployment's model.
    #[command(after_help = follow::EXIT_CODES)]
    Start(Start),
    /// Promotes the new version to 100 % of the traffic, skipping the remaining steps.
    Promote {
        /// Rollout ID.
        rollout: String,
    },
    /// Pauses a rollout at its current weight.
    Pause {
        /// Rollout ID.
        rollout: String,
    },
    /// Resumes a paused rollout.
    Resume {
        /// Rollout ID.
        rollout: String,
    },
    /// Aborts a rollout: all traffic returns to the stable version.
    Abort {
        /// Rollout ID.
        rollout: String,
    },
}

/// See `slipway rollouts start --help`.
#[derive(Debug, Args)]
pub struct Start {
    /// Deployment name.
    deployment: String,
    /// Version of the deployment's model.
    version: String,
    /// JSON or YAML file with the strategy, or `-` for standard input [default: the deployment's strategy].
    #[arg(long, value_name = "FILE")]
    strategy: Option<String>,
    /// Waits until the rollout ends or pauses; prints progress to standard error and the rollout at the end.
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// Prints each change of the rollout until it ends or pauses; with --json, one JSON object per line.
    #[arg(long)]
    watch: bool,
    /// Stops waiting after this many seconds; the rollout continues [default: unlimited].
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let controller = context.rollout_controller()?;
    let (rollout, verb) = match command {
        Command::List { deployment, deployment_id, paging } => {
            let page = paging.page();
            let query =
                RolloutsQuery { deployment, deployment_id, limit: page.limit, page_token: page.page_token };
            let columns = [
                ("ROLLOUT", "id"),
                ("DEPLOYMENT", "deployment"),
                ("FROM", "from_version"),
                ("TO", "to_version"),
                ("PHASE", "phase"),
                ("WEIGHT", "weight_percent"),
                ("STARTED", "created_at_unix_ms"),
                ("REASON", "reason"),
            ];
            let answer = json!(controller.rollouts(&query).await?);
            output::list(context.json, &answer, "rollouts", &columns);
            return Ok(ExitCode::SUCCESS);
        }
        Command::Show { rollout } => {
            show(context.json, &controller.rollout(&rollout).await?);
            return Ok(ExitCode::SUCCESS);
        }
        Command::Start(options) => return start(context, &controller, options).await,
        Command::Promote { rollout } => (rollout, RolloutCommand::Promote),
        Command::Pause { rollout } => (rollout, RolloutCommand::Pause),
        Command::Resume { rollout } => (rollout, RolloutCommand::Resume),
        Command::Abort { rollout } => (rollout, RolloutCommand::Abort),
    };
    let changed = controller.command(&rollout, verb, &CommandRequest::default()).await?;
    show(context.json, &changed);
    warn_of_replicas(changed.acknowledgement.as_ref());
    Ok(ExitCode::SUCCESS)
}

async fn start(
    context: &Context,
    controller: &RolloutController,
    options: Start,
) -> anyhow::Result<ExitCode> {
    let strategy = options.strategy.as_deref().map(read_body).transpose()?;
    let new = NewRollout { version: options.version, strategy, idempotency_key: None };
    let deadline =
        options.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let started = controller.start_rollout(&options.deployment, &new).await?;
    if !options.wait && !options.watch {
        show(context.json, &started);
        return Ok(ExitCode::SUCCESS);
    }
    let progress = if options.watch { Progress::Watch { json: context.json } } else { Progress::Standard };
    if options.watch {
        output::end_with_reader();
    }
    let (ending, rollout) = follow::rollout(controller, started, deadline, progress).await?;
    if options.wait {
        show(context.json, &rollout);
    }
    if ending == Ending::TimedOut {
        errln!(
            "slipway: rollout {} did not end within {} s; it continues",
            rollout.id,
            options.timeout.unwrap_or_default()
        );
    }
    Ok(ending.code())
}

/// Fields that [`show`] has lines of its own for, or that say the same in another form.
const SHOWN: [&str; 17] = [
    "id",
    "deployment",
    "model",
    "from_version",
    "to_version",
    "phase",
    "step",
    "steps",
    "weight_percent",
    "reason",
    "strategy",
    "created_at_unix_ms",
    "updated_at_unix_ms",
    "decisions",
    "idempotency_key",
    "waiting_for",
    "acknowledgement",
];

/// Prints a rollout: what an operator asks first stands first.
fn show(as_json: bool, rollout: &Rollout) {
    let rollout = &json!(rollout);
    if as_json {
        return output::json(rollout);
    }
    let field = |name: &str| output::cell(rollout, name);
    let from =
        Some(field("from_version")).filter(|from| !from.is_empty()).unwrap_or_else(|| "none".to_owned());
    let lines = [
        ("phase", field("phase")),
        ("weight", format!("{} % to version {}", field("weight_percent"), field("to_version"))),
        ("step", step(rollout)),
        ("waits for", waits_for(rollout)),
        ("reason", field("reason")),
        ("rollout", field("id")),
        ("deployment", format!("{} (model {})", field("deployment"), field("model"))),
        ("versions", format!("{from} → {}", field("to_version"))),
        ("started", field("created_at_unix_ms")),
        ("updated", field("updated_at_unix_ms")),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        outln!("{name:<10}  {value}");
    }
    let rest: Value = rollout
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| !SHOWN.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    output::fields(&rest);
    output::fields(&json!({"strategy": rollout["strategy"]}));
    if rollout["decisions"].as_array().is_some_and(|decisions| !decisions.is_empty()) {
        outln!("");
        let columns =
            [("DECIDED", "at_unix_ms"), ("STEP", "step"), ("VERDICT", "verdict"), ("REASON", "reason")];
        output::list(false, rollout, "decisions", &columns);
    }
}

/// The current step for people, who count from 1; nothing for a rollout without steps.
fn step(rollout: &Value) -> String {
    if !matches!(rollout["phase"].as_str(), Some("progressing" | "paused")) {
        return String::new();
    }
    match (rollout["step"].as_u64(), rollout["steps"].as_u64()) {
        (Some(step), Some(steps)) if steps > 0 => format!("{} of {steps}", (step + 1).min(steps)),
        _ => String::new(),
    }
}

/// What has to happen before the rollout continues; nothing when it has ended.
fn waits_for(rollout: &Value) -> String {
    let awaited: Vec<String> = rollout["waiting_for"].as_array().into_iter().flatten().map(awaited).collect();
    if !awaited.is_empty() {
        return awaited.join("; ");
    }
    let id = output::cell(rollout, "id");
    let step = usize::try_from(rollout["step"].as_u64().unwrap_or_default()).unwrap_or_default();
    match rollout["phase"].as_str().unwrap_or_default() {
        "preparing" => format!("version {} to load on every replica", output::cell(rollout, "to_version")),
        "progressing" => {
            let hold = rollout["strategy"]["steps"][step]["hold_s"].as_f64().unwrap_or_default();
            let decisions = rollout["decisions"].as_array();
            let open = decisions.and_then(|all| all.last()).filter(|last| last["verdict"] == "inconclusive");
            let open = open.filter(|last| last["step"] == rollout["step"]);
            open.map_or_else(
                || format!("the step's {hold} s and its analysis"),
                |last| output::cell(last, "reason"),
            )
        }
        "paused" => format!("`slipway rollouts resume {id}`, `promote` or `abort`"),
        "promoting" | "rolling_back" => "every replica to follow the traffic table".to_owned(),
        _ => String::new(),
    }
}

/// A replica that the rollout waits for.
fn awaited(replica: &Value) -> String {
    let silent_s = replica["heard_ms_ago"].as_f64().unwrap_or_default() / 1_000.0;
    let (id, what) = (output::cell(replica, "replica_id"), output::cell(replica, "waits_for"));
    format!("replica {id}, which {what}; heard {silent_s:.1} s ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_says_what_it_waits_for() {
        let mut rollout = json!({
            "id": "r1", "to_version": "2", "phase": "progressing", "step": 0, "steps": 2,
            "strategy": {"steps": [{"weight_percent": 10, "hold_s": 60.0}]}, "decisions": [],
        });
        assert_eq!(
            (step(&rollout), waits_for(&rollout)),
            ("1 of 2".into(), "the step's 60 s and its analysis".into())
        );
        rollout["decisions"] = json!([{"step": 0, "verdict": "inconclusive", "reason": "3 of 20 requests"}]);
        assert_eq!(waits_for(&rollout), "3 of 20 requests");
        rollout["step"] = 1.into();
        assert!(waits_for(&rollout).contains("analysis"), "a decision of an earlier step says nothing");
        rollout["phase"] = "paused".into();
        assert!(waits_for(&rollout).contains("slipway rollouts resume r1"));
        rollout["waiting_for"] =
            json!([{"replica_id": "r-2", "heard_ms_ago": 9_400, "waits_for": "is loading it (version 2)"}]);
        assert_eq!(waits_for(&rollout), "replica r-2, which is loading it (version 2); heard 9.4 s ago");
        rollout["waiting_for"] = json!([]);
        rollout["phase"] = "promoted".into();
        assert_eq!(waits_for(&rollout), "");
    }
}
