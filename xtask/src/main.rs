//! Developer tasks, the same for people and for CI: `cargo xtask --help`.
#![expect(clippy::disallowed_methods, reason = "a tool for developers")]

mod attack;
mod bench;
mod build;
mod chaos;
mod cluster;
mod compose_test;
mod demo;
mod endpoints;
mod findings;
mod fuzz;
mod images;
mod layers;
mod mlflow;
mod progress;
mod suite;
mod tidy;
mod venv;

use clap::{Parser, Subcommand};

/// Tasks of the Slipway workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs the whole loop on real data: train, register, roll out, serve, monitor, roll back, retrain.
    Demo(demo::Options),
    /// Runs formatting, lints, layers, tidy, unit, integration and end-to-end tests.
    Test(suite::Options),
    /// Builds Slipway and runs `slipway up` with the arguments given.
    Up {
        /// Arguments of `slipway up`, e.g. `--ports auto --detach`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Rejects dependencies between crates that point outward, and compares the graph with
    /// docs/architecture.md.
    Layers {
        /// Writes the graph to docs/architecture.md instead of comparing.
        #[arg(long)]
        write: bool,
    },
    /// Checks rules that neither rustc nor clippy checks, e.g. import circles, wording and line width.
    Tidy,
    /// Regenerates documents from the code: OpenAPI documents, event schemas.
    Codegen {
        /// Compares the files with the code instead of writing them.
        #[arg(long)]
        check: bool,
    },
    /// Attacks a fresh platform as a web page, a tenant, another local user and an uploader; fails if an
    /// attack succeeds.
    Attack(attack::Options),
    /// Kills, stops and cuts off replicas and servers at random under load, and checks that nothing is lost,
    /// doubled or answered wrongly.
    Chaos(chaos::Options),
    /// Starts, shows, uses and ends a Kubernetes cluster for tests (docs/development/kubernetes.md).
    Cluster(cluster::Options),
    /// Runs docker-compose.yml with podman-compose against images of this checkout: the quickstart, restarts,
    /// and that no data is lost.
    ComposeTest(compose_test::Options),
    /// Makes OCI images of the services, the command line and the agent, without a container engine.
    Images(images::Options),
    /// Runs the benchmarks of docs/benchmarks.md.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Fuzzes the parsers of serving's requests with libFuzzer. Requires nightly Rust and cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Creates the Python environment of the examples, and downloads the servers.
    Setup,
}

fn main() -> std::process::ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => suite::run(&options),
        Task::Up { arguments } => build::up(&arguments),
        Task::Layers { write } => layers::run(write),
        Task::Tidy => tidy::run(),
        Task::Codegen { check } => build::documents(check),
        Task::Attack(options) => attack::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Cluster(options) => cluster::run(&options),
        Task::ComposeTest(options) => compose_test::run(&options),
        Task::Images(options) => images::run(&options),
        Task::Bench(bench) => bench::measure(&bench),
        Task::Fuzz(options) => fuzz::start(&options),
        Task::Setup => venv::ensure().and_then(|python| {
            build::toolbox()?;
            println!("Python of the examples: {}", python.display());
            Ok(())
        }),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nfailed: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
