//! The platform as a whole: the demo, on our table and on an unseen one, and the real clients
//! against it, attacks, and faults.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use rand::RngExt as _;
use serde_json::Value;
use slipway_kubernetes_testkit::OFF;

use crate::attack;
use crate::build::{Programs, root};
use crate::chaos;
use crate::demo;
use crate::endpoints::Endpoints;
use crate::findings::run as run_command;
use crate::mlflow::MlflowServer;
use crate::progress::step;

/// Environment variable that leaves the faults out where it is [`OFF`].
const CHAOS: &str = "SLIPWAY_TEST_CHAOS";
/// Rows of the table made for the test.
const CSV_ROWS: usize = 600;

/// Runs all of it.
pub(crate) fn run(programs: &Programs, python: &Path) -> anyhow::Result<()> {
    let folder = root().join("target/end-to-end");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let data_dir = folder.join("platform");

    let report = folder.join("breast-cancer.json");
    let told = step("end to end: the demo", || {
        demo::run(&options("breast_cancer", None, &report, true, &data_dir))?;
        check_report(&report)
    });
    let clients =
        told.and_then(|()| step("end to end: the real clients", || run_clients(programs, python, &data_dir)));
    let clients = clients.and_then(|()| {
        step("end to end: an import from an MLflow server", || import(programs, python, &folder, &data_dir))
    });
    // Whatever came of it, nothing is left running.
    let stopped = run_command(Command::new(&programs.slipway).arg("down").arg("--data-dir").arg(&data_dir));
    clients.and(stopped)?;

    step("end to end: the commands and code of the docs", || docs(programs, python, &folder.join("docs")))?;

    step("end to end: the demo on an unseen table", || {
        let csv = write_unseen_table(&folder)?;
        let report = folder.join("unseen.json");
        demo::run(&options(&csv.to_string_lossy(), Some("outcome"), &report, false, &data_dir))?;
        check_report(&report)
    })?;
    step("end to end: attacks", || attack::against(programs, &folder.join("attacked"), false))?;
    if std::env::var(CHAOS).is_ok_and(|value| value == OFF) {
        println!("left out: faults at random: {CHAOS} is `{OFF}`");
        println!("6 passed, 0 failed");
        return Ok(());
    }
    step("end to end: faults at random", || chaos::against(programs, &chaos::Options::short()))?;
    println!("7 passed, 0 failed");
    Ok(())
}

fn options(data_set: &str, label: Option<&str>, report: &Path, keep: bool, data_dir: &Path) -> demo::Options {
    demo::Options {
        data_set: data_set.to_owned(),
        label: label.map(str::to_owned),
        report: Some(report.to_path_buf()),
        keep,
        quick: true,
        rate: 100,
        data_dir: Some(data_dir.to_path_buf()),
        release: false,
    }
}

/// The report says what a reader would look for.
fn check_report(path: &Path) -> anyhow::Result<()> {
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    anyhow::ensure!(report["requests"]["failed"] == 0, "requests failed: {}", report["requests"]);
    anyhow::ensure!(
        report["requests"]["wrong_version"] == 0,
        "wrong versions answered: {}",
        report["requests"]
    );
    anyhow::ensure!(
        report["requests"]["sent"].as_u64() > Some(500),
        "too little traffic: {}",
        report["requests"]
    );
    anyhow::ensure!(report["drift"]["detected"] == true, "no drift was detected");
    let verdict = |version: &str| {
        let versions = report["versions"].as_array().into_iter().flatten();
        versions.into_iter().find(|one| one["version"] == version).map(|one| one["verdict"].clone())
    };
    for (version, expected) in [("1", "promoted"), ("2", "promoted"), ("3", "rolled_back"), ("4", "promoted")]
    {
        anyhow::ensure!(
            verdict(version) == Some(Value::from(expected)),
            "version {version} was to be {expected}: {}",
            report["versions"]
        );
    }
    let page = std::fs::read_to_string(path.with_extension("html"))?;
    anyhow::ensure!(
        page.contains("<svg") && !page.contains("<script"),
        "the page of plots is not self-contained"
    );
    Ok(())
}

fn run_clients(programs: &Programs, python: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let endpoints = Endpoints::read(data_dir)?;
    run_command(&mut script(python, "check_slipway_profile.py"))?;
    run_command(
        script(python, "check_mlflow_client.py").args(["--tracking-uri", endpoints.url("registry")?]),
    )?;
    run_command(
        script(python, "check_model_signing.py")
            .args(["--tracking-uri", endpoints.url("registry")?])
            .arg("--slipway")
            .arg(&programs.slipway)
            .arg("--data-dir")
            .arg(data_dir),
    )?;
    run_command(script(python, "check_zip_map.py").args([
        "--tracking-uri",
        endpoints.url("registry")?,
        "--rollouts",
        endpoints.url("rollout_controller")?,
        "--serving",
        endpoints.url("serving_http")?,
    ]))?;
    run_command(
        script(python, "check_triton_client.py")
            .args([
                "--http",
                endpoints.url("serving_http")?,
                "--grpc",
                endpoints.url("serving_grpc")?,
                "--deployment",
                "demo",
            ])
            .arg("--rows")
            .arg(demo::inputs_folder(data_dir)?.join("traffic.json")),
    )
}

/// What a reader copies from the docs runs, on a platform that has nothing else.
fn docs(programs: &Programs, python: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let slipway = |arguments: &[&str]| {
        let mut command = Command::new(&programs.slipway);
        command.args(arguments).arg("--data-dir").arg(data_dir);
        command
    };
    let _ = slipway(&["down"]).output();
    if data_dir.exists() {
        std::fs::remove_dir_all(data_dir).with_context(|| format!("cannot remove {}", data_dir.display()))?;
    }
    run_command(&mut slipway(&["up", "--ports", "auto", "--detach"]))?;
    let mut check = script(python, "check_docs.py");
    let pages = ["README.md", "docs/onnx.md", "docs/serving/protocol.md", "docs/serving/running-models.md"];
    check.args(pages).current_dir(root());
    let checked = run_command(check.arg("--slipway").arg(&programs.slipway).arg("--data-dir").arg(data_dir));
    checked.and(run_command(&mut slipway(&["down"])))
}

/// A script of the client examples.
fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(root().join("examples/clients").join(name));
    command
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("DO_NOT_TRACK", "true")
        .env("GIT_PYTHON_REFRESH", "quiet");
    command
}

/// What the unmodified client reads from an MLflow server, it reads from the registry after an import.
fn import(programs: &Programs, python: &Path, folder: &Path, data_dir: &Path) -> anyhow::Result<()> {
    let folder = folder.join("mlflow");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let store = format!("sqlite:///{}", folder.join("mlflow.db").display());
    let mlflow = MlflowServer::start(python, &store, &folder, 1)?;
    run_command(script(python, "populate_mlflow.py").arg(&mlflow.url))?;
    let mut import = Command::new(&programs.slipway);
    run_command(import.args(["registry", "import", "--from", &mlflow.url, "--data-dir"]).arg(data_dir))?;
    let endpoints = Endpoints::read(data_dir)?;
    run_command(script(python, "check_import.py").args([mlflow.url.as_str(), endpoints.url("registry")?]))
}

/// A table with other columns, another class balance, text, gaps and a constant each time.
fn write_unseen_table(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut random = rand::rng();
    let columns = random.random_range(6..14usize);
    let path = folder.join("unseen.csv");
    let mut writer = csv::Writer::from_path(&path)?;
    let mut header: Vec<String> = (0..columns).map(|column| format!("measure {column}")).collect();
    header.extend(["site".to_owned(), "always".to_owned(), "outcome".to_owned()]);
    writer.write_record(&header)?;
    let scales: Vec<f64> = (0..columns).map(|_| 10f64.powi(random.random_range(-2..4))).collect();
    for _ in 0..CSV_ROWS {
        let class = usize::from(random.random_bool(0.45));
        let mut record: Vec<String> = scales
            .iter()
            .enumerate()
            .map(|(column, scale)| {
                // Every third column tells the classes apart, the others are noise.
                let signal = if column % 3 == 0 { class as f64 * 2.0 } else { 0.0 };
                let noise: f64 = (0..6).map(|_| random.random_range(-1.0..1.0)).sum::<f64>() / 1.4;
                if column == 1 && random.random_bool(0.03) {
                    String::new()
                } else {
                    format!("{:.5}", (signal + noise) * scale)
                }
            })
            .collect();
        record.push(["north", "south", "east"][random.random_range(0..3usize)].to_owned());
        record.push("7".to_owned());
        record.push(["declined", "accepted"][class].to_owned());
        writer.write_record(&record)?;
    }
    writer.flush()?;
    Ok(path)
}
