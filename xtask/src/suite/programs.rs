//! The workspace's unit and integration tests. Cargo builds them; their programs then run side by side,
//! because each of them waits most of the time, for servers that start and leases that end.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cargo_metadata::{Message, TargetKind};
use slipway_kubernetes_testkit::{Level, OFF, REQUIRED_LEVEL};

use crate::build::cargo;
use crate::findings::{self, Findings};
use crate::progress::{seconds, step};

/// Environment variable with the number of test programs that run at once.
const LANES_VARIABLE: &str = "SLIPWAY_TEST_LANES";
const MIN_DEFAULT_LANES: usize = 2;
const MAX_DEFAULT_LANES: usize = 4;
const MAX_LANES: usize = 64;
/// A program that runs longer hangs.
const LIMIT: Duration = Duration::from_secs(1_200);
const POLL: Duration = Duration::from_millis(50);

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    /// How cargo selects it, e.g. `-p slipway-registry --test it`.
    selector: String,
    file: PathBuf,
    /// Its package's folder, in which it runs.
    folder: PathBuf,
    is_integration: bool,
}

/// How a test program ended.
#[derive(Debug)]
struct Ended {
    selector: String,
    took: Duration,
    /// What it printed.
    output: String,
    /// None where it succeeded.
    failure: Option<String>,
}

/// Runs everything. Tests on Kubernetes up to a level must run; those of higher levels are left out.
///
/// # Errors
/// A test does not compile, or fails.
pub(super) fn run(kubernetes: Option<Level>) -> anyhow::Result<()> {
    let programs = step("build the tests", build)?;
    step("unit and integration tests", || side_by_side(programs, kubernetes))?;
    step("documentation tests", || findings::run(cargo().args(["test", "--workspace", "--doc", "--quiet"])))
}

/// Builds all test programs, those first that take longest.
fn build() -> anyhow::Result<Vec<Program>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--quiet"]);
    // What the compiler says is shown as usual, on the error output.
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let built = command.spawn().and_then(Child::wait_with_output).context("cargo does not start")?;
    if !built.status.success() {
        bail!("the tests do not compile; see above ({})", built.status);
    }
    let messages = Message::parse_stream(built.stdout.as_slice());
    let mut programs: Vec<Program> = messages.filter_map(|message| program(&message.ok()?)).collect();
    if programs.is_empty() {
        bail!("cargo has built no test program");
    }
    // The largest test the most.
    let size = |program: &Program| std::fs::metadata(&program.file).map_or(0, |file| file.len());
    programs.sort_by_cached_key(|program| {
        (std::cmp::Reverse(program.is_integration), std::cmp::Reverse(size(program)))
    });
    Ok(programs)
}

/// The test program of which a message of cargo tells.
fn program(message: &Message) -> Option<Program> {
    let Message::CompilerArtifact(artifact) = message else { return None };
    let file = artifact.executable.as_ref().filter(|_| artifact.profile.test)?;
    let target = &artifact.target;
    let selected = match target.kind.first()? {
        TargetKind::Test => format!("--test {}", target.name),
        TargetKind::Bin => format!("--bin {}", target.name),
        _ => "--lib".to_owned(),
    };
    Some(Program {
        selector: format!("-p {} {selected}", package(&artifact.package_id.repr)?),
        file: file.into(),
        folder: artifact.manifest_path.parent()?.into(),
        is_integration: target.is_test(),
    })
}

/// Name of the package with an id such as `path+file:///a/crates/lease#slipway-lease@0.1.0`, or
/// `…/lease#0.1.0` where the folder has the package's name.
fn package(id: &str) -> Option<&str> {
    let (path, fragment) = id.split_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
}

fn side_by_side(programs: Vec<Program>, kubernetes: Option<Level>) -> anyhow::Result<()> {
    let (lanes, count) = (lanes()?, programs.len());
    eprintln!("    {count} test programs, {lanes} at a time");
    let level = kubernetes.map_or(OFF, Level::name);
    let waiting = Mutex::new(programs.into_iter());
    let (sender, ended) = channel();
    let mut findings = Findings::default();
    let mut failures = 0;
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            let (sender, waiting) = (sender.clone(), &waiting);
            scope.spawn(move || {
                while let Some(program) = waiting.lock().ok().and_then(|mut waiting| waiting.next()) {
                    let _ = sender.send(one(program, level));
                }
            });
        }
        drop(sender);
        for ended in ended {
            failures += usize::from(ended.failure.is_some());
            report(&ended, &mut findings);
        }
    });
    if failures > 0 {
        bail!("{} ({failures} of {count} test programs failed)", findings.reason("the tests"));
    }
    Ok(())
}

/// Test programs that run at once.
fn lanes() -> anyhow::Result<usize> {
    let Some(text) = std::env::var(LANES_VARIABLE).ok().filter(|text| !text.is_empty()) else {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        return Ok(cores.clamp(MIN_DEFAULT_LANES, MAX_DEFAULT_LANES));
    };
    let lanes = text.parse().ok().filter(|lanes| (1..=MAX_LANES).contains(lanes));
    lanes.with_context(|| format!("{LANES_VARIABLE}: expected a number from 1 to {MAX_LANES}, got `{text}`"))
}

fn one(program: Program, level: &str) -> Ended {
    let started = Instant::now();
    let Program { selector, file, folder, .. } = program;
    let mut command = Command::new(&file);
    command.arg("--quiet").current_dir(&folder);
    command.env("CARGO_MANIFEST_DIR", &folder).env(REQUIRED_LEVEL, level).stdin(Stdio::null());
    let (output, failure) = match watched(&mut command) {
        Ok((output, failure)) => (output, failure),
        Err(error) => (String::new(), Some(format!("{}: {error}", file.display()))),
    };
    Ended { selector, took: started.elapsed(), output, failure }
}

/// Runs a command; what it printed, and why it did not succeed.
fn watched(command: &mut Command) -> std::io::Result<(String, Option<String>)> {
    // A file, as a process that a test left behind would keep a pipe open.
    let output = tempfile::NamedTempFile::new()?;
    let writer = output.reopen()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if started.elapsed() < LIMIT => std::thread::sleep(POLL),
            None => {
                child.kill()?;
                break child.wait()?;
            }
        }
    };
    let text = String::from_utf8_lossy(&std::fs::read(output.path())?).into_owned();
    let failure = match status.success() {
        true => None,
        false if started.elapsed() >= LIMIT => Some(format!("it did not end within {}", seconds(LIMIT))),
        false => Some(status.to_string()),
    };
    Ok((text, failure))
}

/// One line for a success; everything that a program printed for a failure.
fn report(ended: &Ended, findings: &mut Findings) {
    let Ended { selector, took, output, failure } = ended;
    let Some(failure) = failure else {
        let passed = passed(output);
        if passed > 0 {
            println!("    {:>8}  {passed:>4} passed  {selector}", seconds(*took));
        }
        // What a test says about itself, such as that it was left out.
        output.lines().filter(|line| is_notice(line)).for_each(|line| println!("              {line}"));
        return;
    };
    println!("{output}\nerror: test failed, to rerun pass `{selector}`");
    println!("    {:>8}  FAILED  {selector}: {failure}", seconds(*took));
    findings.program(selector, output, failure);
}

fn is_notice(line: &str) -> bool {
    line.starts_with("skipped: ") || line.starts_with("left out: ")
}

/// Tests that passed, by the last line of libtest.
fn passed(output: &str) -> usize {
    let counts = output.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    counts.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_the_messages_of_cargo() {
        let message = |kind: &str, test: bool, id: &str| {
            let message = serde_json::json!({
                "reason": "compiler-artifact", "package_id": id,
                "manifest_path": "/a/crates/lease/Cargo.toml",
                "target": {
                    "kind": [kind], "crate_types": ["bin"], "name": "it", "src_path": "/a/it.rs",
                },
                "profile": {
                    "opt_level": "0", "debug_assertions": true, "overflow_checks": true, "test": test,
                },
                "features": [], "filenames": [], "executable": "/a/target/debug/deps/it-1", "fresh": true,
            });
            program(&serde_json::from_value(message).unwrap())
        };
        let id = "path+file:///a/crates/lease#slipway-lease@0.1.0";
        let found = message("test", true, id).unwrap();
        assert_eq!(found.selector, "-p slipway-lease --test it");
        assert_eq!((found.folder.to_str(), found.is_integration), (Some("/a/crates/lease"), true));
        let found = message("lib", true, "path+file:///a/xtask#0.1.0").unwrap();
        assert_eq!((found.selector.as_str(), found.is_integration), ("-p xtask --lib", false));
        assert_eq!(message("bin", true, id).unwrap().selector, "-p slipway-lease --bin it");
        assert_eq!(message("example", false, id), None);
    }

    #[test]
    fn a_failed_program_is_reported_with_what_it_printed() {
        let shell = |script: &str| watched(Command::new("sh").args(["-c", script])).unwrap();
        let (output, failure) = shell("echo out; echo error >&2");
        assert_eq!((output.as_str(), failure), ("out\nerror\n", None));
        // What a process keeps open that was left behind is not waited for.
        let (output, failure) = shell("sleep 60 & echo why; kill -ABRT $$");
        assert_eq!(output, "why\n");
        assert!(failure.unwrap().contains("SIGABRT"));
    }

    #[test]
    fn tests_that_passed_are_counted() {
        let output = "\nrunning 3 tests\n...\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(passed(output), 3);
        assert_eq!(passed("test result: FAILED. 2 passed; 1 failed"), 0);
    }
}
