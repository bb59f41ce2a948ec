//! `slipway deployments`.

mod drill;
mod update;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use slipway_api::rest::rollouts::{
    Acknowledgement, Deployment, KillMode, KillSwitchRequest, NewDeployment, RollbackRequest, RolloutsQuery,
    RulesRequest, StickyKey,
};
use slipway_client::RolloutController;

use crate::commands::context::{Context, Paging, read_body};
use crate::commands::follow::{self, Ending, Progress};
use crate::output::{self, errln, outln};
use update::Update;

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
    /// A rollout in progress keeps the strategy that it was started with. A sticky key applies to all traffic
    /// immediately. A watched alias is followed from its next move on.
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
    /// The rules are a JSON array, e.g. `[{"name": "beta", "when": [{"header": "x-tenant", "one_of": ["a"]}],
    /// "to": "candidate"}]`. `when` matches a header by `one_of` or `prefix`; `to` is `stable` or
    /// `candidate`. The first matching rule applies. An empty array removes all rules.
    Rules {
        /// Deployment name.
        name: String,
        /// JSON or YAML file with the rules, or `-` for standard input.
        #[arg(value_name = "FILE")]
        rules: String,
    },
    /// Activates the kill switch: routes all traffic to the stable version immediately and pauses any rollout
    /// in progress.
    ///
    /// No version gains traffic until `slipway deployments revive`: starting, promoting and resuming rollouts
    /// is refused, and moves of the watched alias wait. Lists replicas that have not followed within 3 s.
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
    /// Deactivates the kill switch. A rollout that it paused stays paused until it is resumed; a move of the
    /// watched alias that waited is followed.
    Revive {
        /// Deployment name.
        name: String,
    },
    /// Rehearses a failure on copies of requests: would the analysis of a rollout notice it?
    #[command(subcommand)]
    Drill(drill::Command),
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
    /// Only serving replicas that name this deployment in `--deployments` answer for it.
    #[arg(long)]
    dedicated: bool,
    /// Header whose value keeps a client on one version during a rollout, e.g. x-user-id.
    #[arg(long, value_name = "HEADER")]
    sticky_header: Option<String>,
    /// JSON or YAML file with the strategy of its rollouts, or `-` for standard input [default: 10 %, 50 %,
    /// 100 %].
    #[arg(long, value_name = "FILE")]
    strategy: Option<String>,
    /// Returns immediately instead of waiting until the first version answers.
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Stops waiting after this many seconds; the deployment remains and continues to load [default:
    /// unlimited].
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
            let answer = json!(controller.deployments(&paging.page()).await?);
            output::list(context.json, &answer, "deployments", &COLUMNS);
        }
        Command::Show { name } => show(context.json, &controller.deployment(&name).await?),
        Command::Create(options) => return create(context, &controller, options).await,
        Command::Rollback { name, to_version } => {
            let request = RollbackRequest { to_version, ..RollbackRequest::default() };
            show_changed(context, &controller.roll_back(&name, &request).await?);
        }
        Command::Update(update) => {
            show_changed(context, &update::run(&controller, update).await?);
        }
        Command::Rules { name, rules } => {
            let request = RulesRequest { rules: read_body(&rules)? };
            show_changed(context, &controller.set_rules(&name, &request).await?);
        }
        Command::Kill { name, refuse, reason } => {
            let mode = if refuse { KillMode::Refuse } else { KillMode::StableOnly };
            let request = KillSwitchRequest { mode, reason };
            show_changed(context, &controller.kill(&name, &request).await?);
        }
        Command::Drill(command) => return drill::run(context, &controller, command).await,
        Command::Revive { name } => show_changed(context, &controller.revive(&name).await?),
        Command::Delete { name } => {
            controller.delete_deployment(&name).await?;
            outln!("deployment {name} is deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates a deployment, and waits until its first version answers unless `--no-wait` is given.
async fn create(
    context: &Context,
    controller: &RolloutController,
    options: Create,
) -> anyhow::Result<ExitCode> {
    let new = NewDeployment {
        name: options.name,
        model: options.model,
        version: options.version,
        alias: options.alias,
        sticky_key: options.sticky_header.map(|header| StickyKey { header }),
        prediction_output: None,
        dedicated: options.dedicated,
        rules: Vec::new(),
        watch_alias: options.watch_alias,
        default_strategy: options.strategy.as_deref().map(read_body).transpose()?.unwrap_or_default(),
    };
    let deadline =
        options.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let created = controller.create_deployment(&new).await?;
    if options.no_wait {
        show(context.json, &created);
        return Ok(ExitCode::SUCCESS);
    }
    first_version(context, controller, &created, deadline).await
}

/// Prints a deployment: what serves, what is in progress and what overrides both stand first.
fn show(as_json: bool, deployment: &Deployment) {
    const FIRST: [&str; 6] =
        ["name", "model", "stable_version", "active_rollout_id", "kill_switch", "watch_alias"];
    output::object_in_order(as_json, &json!(deployment), &FIRST);
}

/// Prints a deployment after a change of its traffic, and warns of replicas that have not followed.
fn show_changed(context: &Context, deployment: &Deployment) {
    show(context.json, deployment);
    warn_of_replicas(deployment.acknowledgement.as_ref());
}

/// Warns where some replica may still answer by an older traffic table.
pub(crate) fn warn_of_replicas(acknowledgement: Option<&Acknowledgement>) {
    if let Some(incomplete) = acknowledgement.filter(|acknowledgement| !acknowledgement.complete) {
        errln!("slipway: warning: {}", incomplete.message);
    }
}

/// Waits until the first version of a new deployment answers, and prints the deployment.
async fn first_version(
    context: &Context,
    controller: &RolloutController,
    created: &Deployment,
    deadline: Option<Instant>,
) -> anyhow::Result<ExitCode> {
    let name = &created.name;
    // By the ID: a deleted deployment of the same name has rollouts, too.
    let deployment_id = Some(created.id.to_string());
    let query = RolloutsQuery { deployment_id, limit: Some(1), ..RolloutsQuery::default() };
    let newest = controller.rollouts(&query).await?.rollouts.pop();
    let newest = newest.with_context(|| format!("deployment {name} has no rollout"))?;
    let (ending, rollout) = follow::rollout(controller, newest, deadline, Progress::Standard).await?;
    if ending != Ending::Promoted {
        errln!(
            "slipway: deployment {name} was created, but version {} does not answer: {}: {}",
            rollout.to_version,
            rollout.phase,
            rollout.reason
        );
        return Ok(ending.code());
    }
    follow::first_answer(&context.serving()?, name, deadline).await?;
    show(context.json, &controller.deployment(name).await?);
    Ok(ExitCode::SUCCESS)
}
