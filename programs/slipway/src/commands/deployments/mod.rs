//! `slipway deployments`.

mod update;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::context::{Context, Paging, read_json};
use crate::commands::follow::{self, Ending, Progress};
use crate::output::{self, errln, outln};
use update::Update;

/// Path of the deployments.
const ROUTE: [&str; 3] = ["api", "v1", "deployments"];

/// See `slipway deployments --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists deployments.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows a deployment.
    Show {
        /// Deployment name.
        name: String,
    },
    /// Creates a deployment and waits until its first version answers.
    #[command(
        after_help = "Exit codes: 0 the first version answers (with --no-wait: the deployment was created), \
        4 the version failed to load, 5 paused, 6 aborted, 7 timed out, 1 any other error."
    )]
    Create(Create),
    /// Changes the strategy, the sticky key or the watched alias of a deployment.
    ///
    /// A rollout in progress keeps the strategy that it was started with. A sticky key applies to all traffic immediately. A
    /// watched alias is followed from its next move on.
    Update(Update),
    /// Returns all traffic to the previous version, or to a given one.
    Rollback {
        /// Deployment name.
        name: String,
        /// Version to return to [default: the version before the newest rollout].
        #[arg(long, value_name = "VERSION")]
        to_version: Option<String>,
    },
    /// Replaces the routing rules, which route requests by their headers, regardless of the weights.
    ///
    /// The rules are a JSON array, e.g. `[{"name": "beta", "when": [{"header": "x-tenant", "one_of": ["a"]}], "to":
    /// "candidate"}]`. `when` matches a header by `one_of` or `prefix`; `to` is `stable` or `candidate`. The first matching rule
    /// applies. An empty array removes all rules.
    Rules {
        /// Deployment name.
        name: String,
        /// JSON file with the rules, or `-` for standard input.
        #[arg(value_name = "FILE")]
        rules: String,
    },
    /// Activates the kill switch: routes all traffic to the stable version immediately and pauses any rollout in progress.
    ///
    /// No version gains traffic until `slipway deployments revive`: starting, promoting and resuming rollouts is refused, and
    /// moves of the watched alias wait. Lists replicas that have not followed within 3 s.
    Kill {
        /// Deployment name.
        name: String,
        /// Rejects every request instead of routing it to the stable version.
        #[arg(long)]
        refuse: bool,
        /// Reason, returned to clients whose requests are rejected.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Deactivates the kill switch. A rollout that it paused stays paused until it is resumed; a move of the watched alias that
    /// waited is followed.
    Revive {
        /// Deployment name.
        name: String,
    },
    /// Deletes a deployment. Clients receive 404 afterwards.
    Delete {
        /// Deployment name.
        name: String,
    },
}

/// See `slipway deployments create --help`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name that clients call.
    name: String,
    /// Registered model.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Version to serve first.
    #[arg(long, conflicts_with = "alias", required_unless_present = "alias")]
    version: Option<String>,
    /// Alias that points at the version to serve first.
    #[arg(long)]
    alias: Option<String>,
    /// Alias to watch: each version that it is set to later is rolled out.
    #[arg(long, value_name = "ALIAS")]
    watch_alias: Option<String>,
    /// Header whose value keeps a client on one version during a rollout, e.g. x-user-id.
    #[arg(long, value_name = "HEADER")]
    sticky_header: Option<String>,
    /// JSON file with the strategy of its rollouts, or `-` for standard input [default: 10 %, 50 %, 100 %].
    #[arg(long, value_name = "FILE")]
    strategy: Option<String>,
    /// Returns immediately instead of waiting until the first version answers.
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Stops waiting after this many seconds; the deployment remains and continues to load [default: unlimited].
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// Columns of the list of deployments.
const COLUMNS: [(&str, &str); 5] = [
    ("DEPLOYMENT", "name"),
    ("MODEL", "model"),
    ("STABLE", "stable_version"),
    ("ROLLOUT", "active_rollout_id"),
    ("WATCHES", "watch_alias"),
];

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    let controller = context.rollout_controller()?;
    match command {
        Command::List { paging } => {
            output::list(
                context.json,
                &controller.get(&ROUTE, &paging.query()).await?,
                "deployments",
                &COLUMNS,
            );
        }
        Command::Show { name } => {
            show(context.json, &controller.get(&["api", "v1", "deployments", &name], &[]).await?);
        }
        Command::Create(options) => return create(context, &controller, options).await,
        Command::Rollback { name, to_version } => {
            let body = to_version.map_or_else(|| json!({}), |version| json!({"to_version": version}));
            let path = ["api", "v1", "deployments", &name, "rollback"];
            show_changed(context, &controller.send(Method::POST, &path, Some(&body)).await?);
        }
        Command::Update(update) => {
            show_changed(context, &update::run(&controller, update).await?);
        }
        Command::Rules { name, rules } => {
            let body = json!({"rules": read_json(&rules)?});
            let path = ["api", "v1", "deployments", &name, "rules"];
            show_changed(context, &controller.send(Method::PUT, &path, Some(&body)).await?);
        }
        Command::Kill { name, refuse, reason } => {
            let body = json!({"mode": if refuse { "refuse" } else { "stable-only" }, "reason": reason});
            let path = ["api", "v1", "deployments", &name, "kill-switch"];
            show_changed(context, &controller.send(Method::PUT, &path, Some(&body)).await?);
        }
        Command::Revive { name } => {
            let path = ["api", "v1", "deployments", &name, "kill-switch"];
            show_changed(context, &controller.send(Method::DELETE, &path, None).await?);
        }
        Command::Delete { name } => {
            controller.send(Method::DELETE, &["api", "v1", "deployments", &name], None).await?;
            outln!("deployment {name} is deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates a deployment, and waits until its first version answers unless `--no-wait` is given.
async fn create(context: &Context, controller: &Client, options: Create) -> anyhow::Result<ExitCode> {
    let mut body = json!({"name": options.name, "model": options.model});
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[field] = value;
        }
    };
    set("version", options.version.map(Value::from));
    set("alias", options.alias.map(Value::from));
    set("watch_alias", options.watch_alias.map(Value::from));
    set("sticky_key", options.sticky_header.map(|header| json!({"header": header})));
    set("default_strategy", options.strategy.map(|file| read_json(&file)).transpose()?);
    let deadline =
        options.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let created = controller.send(Method::POST, &ROUTE, Some(&body)).await?;
    if options.no_wait {
        show(context.json, &created);
        return Ok(ExitCode::SUCCESS);
    }
    first_version(context, controller, &created, deadline).await
}

/// Prints a deployment: what serves, what is in progress and what overrides both stand first.
fn show(as_json: bool, deployment: &Value) {
    const FIRST: [&str; 6] =
        ["name", "model", "stable_version", "active_rollout_id", "kill_switch", "watch_alias"];
    output::object_in_order(as_json, deployment, &FIRST);
}

/// Prints a deployment after a change of its traffic, and warns of replicas that have not followed.
fn show_changed(context: &Context, deployment: &Value) {
    show(context.json, deployment);
    warn_of_replicas(deployment);
}

/// Warns where some replica may still answer by an older traffic table.
pub(crate) fn warn_of_replicas(changed: &Value) {
    let told = &changed["acknowledgement"];
    if told["complete"] == false {
        errln!("slipway: warning: {}", output::cell(told, "message"));
    }
}

/// Waits until the first version of a new deployment answers, and prints the deployment.
async fn first_version(
    context: &Context,
    controller: &Client,
    created: &Value,
    deadline: Option<Instant>,
) -> anyhow::Result<ExitCode> {
    let name = &output::cell(created, "name");
    // By the ID: a deleted deployment of the same name has rollouts, too.
    let query = [("deployment_id", output::cell(created, "id")), ("limit", "1".to_owned())];
    let newest = controller.get(&["api", "v1", "rollouts"], &query).await?;
    let id = output::cell(newest["rollouts"].get(0).unwrap_or(&Value::Null), "id");
    let (ending, rollout) = follow::rollout(controller, &id, deadline, Progress::Standard).await?;
    if ending != Ending::Promoted {
        let (phase, reason) = (output::cell(&rollout, "phase"), output::cell(&rollout, "reason"));
        let version = output::cell(&rollout, "to_version");
        errln!(
            "slipway: deployment {name} was created, but version {version} does not answer: {phase}: {reason}"
        );
        return Ok(ending.code());
    }
    follow::first_answer(&context.serving()?, name, deadline).await?;
    let deployment = controller.get(&["api", "v1", "deployments", name], &[]).await?;
    show(context.json, &deployment);
    Ok(ExitCode::SUCCESS)
}
