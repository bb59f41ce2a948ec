//! `slipway deployments drill`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use slipway_api::rest::rollouts::{
    Drill, DrillFault, DrillMissing, DrillPhase, DrillRequest, DrillSide, DrillTarget, RecordedRequests,
};
use slipway_client::RolloutController;

use crate::commands::context::Context;
use crate::output::{self, errln, outln};

/// How often a drill that is waited for is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// See `slipway deployments drill --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts a drill, waits until it ends and prints its report.
    ///
    /// Copies of the requests to the stable version meet a fault, and the analysis of the deployment's
    /// strategy judges them as those of a new version: does it notice, and after how long? Users get the
    /// answers of the stable version. A rollout or the kill switch ends the drill early.
    #[command(
        group = clap::ArgGroup::new("what").required(true).args(["fault", "records"]),
        after_help = "Exit codes: 0 the drill ran to its end (with --no-wait: it was started), 1 any other."
    )]
    Start(Start),
    /// Shows the drill that runs, or the report of the newest one.
    Show {
        /// Deployment name.
        name: String,
    },
    /// Stops the drill that runs.
    Stop {
        /// Deployment name.
        name: String,
    },
}

/// See `slipway deployments drill start --help`.
#[derive(Debug, Args)]
pub struct Start {
    /// Deployment name.
    name: String,
    /// Failure that the copies meet.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// For `--fault latency`: time by which answers take longer, in milliseconds, 1 to 60000.
    #[arg(long, value_name = "MS")]
    latency_ms: Option<u64>,
    /// Percentage of the copies that meet the fault, 1 to 100 [default: 100]. Required with
    /// `--against-answers`.
    #[arg(long, value_name = "PERCENT")]
    percent: Option<u8>,
    /// Length of the drill, in seconds, 1 to 3600 [default: 60].
    #[arg(long)]
    seconds: Option<u32>,
    /// Sends this many of the newest recorded requests to a copy, and compares the answers with the recorded
    /// ones, 1 to 100000.
    #[arg(long, value_name = "COUNT")]
    records: Option<u32>,
    /// Recorded requests that are sent each second, 1 to 1000 [default: 10].
    #[arg(long, value_name = "COUNT", requires = "records")]
    requests_per_second: Option<u32>,
    /// Users' requests meet the fault instead of copies. Requires `--confirm`.
    #[arg(long, requires = "confirm", conflicts_with = "records")]
    against_answers: bool,
    /// Name of the deployment once more, for `--against-answers`.
    #[arg(long, value_name = "NAME", requires = "against_answers")]
    confirm: Option<String>,
    /// Returns immediately instead of waiting until the drill ends.
    #[arg(long)]
    no_wait: bool,
}

/// A failure, as the command names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// The model does not load.
    NotLoading,
    /// The artifact store is unreachable while the version loads.
    StorageGone,
    /// Memory runs out while the version loads.
    OutOfMemory,
    /// The model fails.
    Errors,
    /// Answers take longer.
    Latency,
}

impl From<Fault> for DrillFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotLoading => Self::NotLoading,
            Fault::StorageGone => Self::StorageGone,
            Fault::OutOfMemory => Self::OutOfMemory,
            Fault::Errors => Self::Errors,
            Fault::Latency => Self::Latency,
        }
    }
}

pub(super) async fn run(
    context: &Context,
    controller: &RolloutController,
    command: Command,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Start(options) => return start(context, controller, options).await,
        Command::Show { name } => show(context.json, &controller.drill(&name).await?),
        Command::Stop { name } => show(context.json, &controller.stop_drill(&name).await?),
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(
    context: &Context,
    controller: &RolloutController,
    options: Start,
) -> anyhow::Result<ExitCode> {
    let (name, no_wait) = (options.name.clone(), options.no_wait);
    let started = controller.start_drill(&name, &request(options)).await?;
    if no_wait {
        show(context.json, &started);
        return Ok(ExitCode::SUCCESS);
    }
    errln!("slipway: drill {} runs; `slipway deployments drill stop {name}` stops it", started.id);
    let mut drill = started;
    while drill.phase == DrillPhase::Running {
        tokio::time::sleep(INTERVAL).await;
        let newest = controller.drill(&name).await?;
        anyhow::ensure!(newest.id == drill.id, "drill {} was followed by drill {}", drill.id, newest.id);
        drill = newest;
    }
    show(context.json, &drill);
    Ok(if drill.phase == DrillPhase::Completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn request(options: Start) -> DrillRequest {
    let records = options.records.map(|last| {
        let default = RecordedRequests::default();
        let requests_per_second = options.requests_per_second.unwrap_or(default.requests_per_second);
        RecordedRequests { last, requests_per_second }
    });
    DrillRequest {
        fault: options.fault.map(DrillFault::from),
        latency_ms: options.latency_ms,
        records,
        target: if options.against_answers { DrillTarget::Answers } else { DrillTarget::Copies },
        confirm: options.confirm,
        percent: options.percent,
        seconds: options.seconds,
    }
}

/// Prints the report of a drill.
fn show(as_json: bool, drill: &Drill) {
    if as_json {
        output::json(drill);
        return;
    }
    outln!(
        "drill {} of deployment {}, version {}: {}",
        drill.id,
        drill.deployment,
        drill.version,
        drill.phase
    );
    outln!("{}", drill.summary);
    if let Some(while_loading) = &drill.while_loading {
        outln!("{while_loading}");
    }
    let rehearsed = match drill.request.target {
        DrillTarget::Copies => "copies",
        DrillTarget::Answers => "users who met the fault",
    };
    let header = ["", "REQUESTS", "FAILED", "P50 MS", "P95 MS", "P99 MS"];
    output::table(&header, &[row(rehearsed, &drill.rehearsed), row("other users", &drill.users)]);
    for failed in &drill.rehearsed.failed {
        outln!("{} {}: {}", failed.count, failed.outcome, failed.message);
    }
    for DrillMissing { count, outcome, message } in &drill.dropped {
        outln!("{count} not copied, {outcome}: {message}");
    }
    if drill.compared_rows > 0 {
        outln!("{} of {} compared rows differ", drill.differing_rows, drill.compared_rows);
    }
    if let Some(replayed) = &drill.replayed {
        let incomplete = replayed.incomplete;
        outln!("{} recorded requests to send, {incomplete} not recorded whole", replayed.found);
        if let Some(problem) = &replayed.problem {
            outln!("{problem}");
        }
    }
}

fn row(who: &str, side: &DrillSide) -> Vec<String> {
    let failed: u64 = side.failed.iter().map(|failed| failed.count).sum();
    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 µs")]
    let ms = |latency_us: u64| format!("{:.1}", latency_us as f64 / 1_000.0);
    vec![
        who.to_owned(),
        side.requests.to_string(),
        failed.to_string(),
        ms(side.p50_latency_us),
        ms(side.p95_latency_us),
        ms(side.p99_latency_us),
    ]
}
