//! `slipway doctor`: a machine, servers and a cluster, before and after an installation.

mod certificates;
mod cluster;
mod machine;
mod nats;
mod postgres;
mod s3;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;
use slipway_doctor::{Finding, Level, servers, worst};

use crate::connection::Connection;
use crate::installation::{KnownServers, NATS_URL, POSTGRES_URL, S3_ENDPOINT};
use crate::output::{self, outln};

/// See `slipway doctor --help`.
#[derive(Debug, Args)]
#[command(after_help = "\
Levels: OK; WARN, the platform works with a restriction or a risk; FAIL, the platform does not work.\n\n\
Servers are those of SLIPWAY_POSTGRES_URL, SLIPWAY_NATS_URL and SLIPWAY_S3_ENDPOINT with its keys, as for \
the services; each that is not set is read from the platform in --data-dir. The check of S3 writes, reads \
and deletes one small object under slipway-doctor/. Nothing else is changed.\n\n\
Exit codes: 0 no FAIL, 1 at least one FAIL (with --strict, at least one WARN).\n\n\
Examples:\n  \
slipway doctor\n  \
slipway doctor --check kubernetes --kube-context production --kube-namespace slipway\n  \
slipway doctor --check servers --certificate /etc/slipway/tls.crt --json")]
pub struct Options {
    /// What to check. [default: machine and servers, or kubernetes with --kube-context or --kube-namespace]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    check: Vec<Area>,
    /// A certificate in PEM whose expiry is checked; may be repeated.
    #[arg(long = "certificate", value_name = "FILE")]
    certificates: Vec<PathBuf>,
    /// Treats each WARN as a failure.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Area {
    /// Disk, memory, ports, Python and GPUs of this machine.
    Machine,
    /// Postgres, NATS and S3.
    Servers,
    /// The cluster of the kubeconfig.
    Kubernetes,
}

pub(crate) fn run(connection: &Connection, options: &Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let findings = runtime.block_on(examine(connection, options))?;
    show(connection, &findings);
    let limit = if options.strict { Level::Ok } else { Level::Warn };
    Ok(if worst(&findings) <= limit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(connection: &Connection, options: &Options) -> anyhow::Result<Vec<Finding>> {
    slipway_runtime::install_tls_provider();
    let areas = match &options.check[..] {
        [] if connection.kube.is_set() => vec![Area::Kubernetes],
        [] => vec![Area::Machine, Area::Servers],
        named => named.to_vec(),
    };
    let mut findings = Vec::new();
    for area in areas {
        match area {
            Area::Machine => {
                findings.extend(slipway_doctor::machine::check(&machine::facts(&connection.data_dir)));
            }
            Area::Servers => findings.extend(Box::pin(of_servers(connection)).await?),
            Area::Kubernetes => findings.extend(cluster::check(&connection.kube).await),
        }
    }
    for path in &options.certificates {
        findings.push(certificates::of_file(path));
    }
    Ok(findings)
}

async fn of_servers(connection: &Connection) -> anyhow::Result<Vec<Finding>> {
    let known = KnownServers::find(&connection.data_dir)?;
    let (postgres, nats, s3) = tokio::join!(
        async {
            match &known.postgres {
                Some(url) => postgres::check(url).await,
                None => vec![servers::unknown("postgres", POSTGRES_URL)],
            }
        },
        async {
            match &known.nats {
                Some(config) => nats::check(config).await,
                None => vec![servers::unknown("nats", NATS_URL)],
            }
        },
        async {
            match &known.s3 {
                Some(config) => s3::check(config).await,
                None => vec![servers::unknown("s3", S3_ENDPOINT)],
            }
        },
    );
    Ok([postgres, nats, s3].concat())
}

fn show(connection: &Connection, findings: &[Finding]) {
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    if connection.json {
        output::json(&json!({"findings": findings, "ok": count(Level::Ok), "warnings": count(Level::Warn),
            "failures": count(Level::Fail)}));
        return;
    }
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    for Finding { level, check, found, advice } in findings {
        outln!("{:<4}  {check:<width$}  {found}", level.word());
        if let Some(advice) = advice {
            outln!("{:<4}  {:<width$}  → {advice}", "", "");
        }
    }
    outln!("{} OK, {} WARN, {} FAIL", count(Level::Ok), count(Level::Warn), count(Level::Fail));
}
