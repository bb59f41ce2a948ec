//! The workspace's unit and integration tests. Cargo builds them; their programs then run side by side,
//! because each of them waits most of the time, for servers that start and leases that end.

use std::ops::RangeInclusive;
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
/// Environment variable with how often a test that failed is run again, alone, before it counts as failed
/// [default: 0]. It is for machines whose verdict holds up other work; what it lets pass is shown as flaky.
const RERUNS_VARIABLE: &str = "SLIPWAY_TEST_RERUNS";
const MAX_RERUNS: usize = 3;
/// A program that runs longer hangs.
const LIMIT: Duration = Duration::from_secs(1_200);
const POLL: Duration = Duration::from_millis(50);

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
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
    program: Program,
    took: Duration,
    /// What it printed.
    output: String,
    /// None where it succeeded.
    failure: Option<String>,
}

/// Runs everything. Tests on Kubernetes up to a level must run; those of higher levels are left out.
///
/// # Errors
/// A test fails.
pub(super) fn run(programs: Vec<Program>, kubernetes: Option<Level>) -> anyhow::Result<()> {
    step("unit and integration tests", || side_by_side(programs, kubernetes))?;
    step("documentation tests", || findings::run(cargo().args(["test", "--workspace", "--doc", "--quiet"])))
}

/// Builds all test programs, those first that take longest; and with them all programs, which tests run.
///
/// # Errors
/// Something does not compile.
pub(super) fn build() -> anyhow::Result<Vec<Program>> {
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
    let lanes = number(LANES_VARIABLE, 1..=MAX_LANES)?.unwrap_or_else(default_lanes);
    let reruns = number(RERUNS_VARIABLE, 0..=MAX_RERUNS)?.unwrap_or(0);
    let count = programs.len();
    eprintln!("    {count} test programs, {lanes} at a time");
    let level = kubernetes.map_or(OFF, Level::name);
    let mut failed = in_lanes(programs, lanes, level);
    if reruns > 0 {
        let again = |ended: &Ended| is_flaky(ended, reruns, |tests| one(ended.program.clone(), tests, level));
        failed.retain(|ended| !again(ended));
    }
    if failed.is_empty() {
        return Ok(());
    }
    let mut findings = Findings::default();
    for Ended { program, output, failure, .. } in &failed {
        findings.program(&program.selector, output, failure.as_deref().unwrap_or_default());
    }
    bail!("{} ({} of {count} test programs failed)", findings.reason("the tests"), failed.len());
}

/// Runs the programs, `lanes` at a time. Returns those that failed.
fn in_lanes(programs: Vec<Program>, lanes: usize, level: &str) -> Vec<Ended> {
    let waiting = Mutex::new(programs.into_iter());
    let (sender, ended) = channel();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            let (sender, waiting) = (sender.clone(), &waiting);
            scope.spawn(move || {
                while let Some(program) = waiting.lock().ok().and_then(|mut waiting| waiting.next()) {
                    let _ = sender.send(one(program, &[], level));
                }
            });
        }
        drop(sender);
        ended.iter().inspect(report).filter(|ended| ended.failure.is_some()).collect()
    })
}

/// Whether the tests of a program that failed succeed when they run again.
fn is_flaky(ended: &Ended, reruns: usize, run: impl Fn(&[String]) -> Ended) -> bool {
    let tests = findings::failed_tests(&ended.output);
    if tests.is_empty() {
        return false;
    }
    let succeeds = |_| {
        let again = run(&tests);
        report(&again);
        again.failure.is_none() && passed(&again.output) == tests.len()
    };
    let flaky = (0..reruns).any(succeeds);
    if flaky {
        let (selector, tests) = (&ended.program.selector, tests.join(", "));
        println!("    FLAKY: {selector}: {tests} (failed, see above; succeeded when run again)");
    }
    flaky
}

fn default_lanes() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.clamp(MIN_DEFAULT_LANES, MAX_DEFAULT_LANES)
}

/// What an environment variable says; none where it is not set.
fn number(variable: &str, allowed: RangeInclusive<usize>) -> anyhow::Result<Option<usize>> {
    let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    let (first, last) = (allowed.start(), allowed.end());
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    let number = number
        .with_context(|| format!("{variable}: expected a number from {first} to {last}, got `{text}`"))?;
    Ok(Some(number))
}

/// Runs a program: all of its tests, or some.
fn one(program: Program, tests: &[String], level: &str) -> Ended {
    let started = Instant::now();
    let (output, failure) = match watched(&mut command(&program, tests, level)) {
        Ok((output, failure)) => (output, failure),
        Err(error) => (String::new(), Some(format!("{}: {error}", program.file.display()))),
    };
    Ended { program, took: started.elapsed(), output, failure }
}

fn command(program: &Program, tests: &[String], level: &str) -> Command {
    let mut command = Command::new(&program.file);
    command.arg("--quiet").current_dir(&program.folder).stdin(Stdio::null());
    command.env("CARGO_MANIFEST_DIR", &program.folder).env(REQUIRED_LEVEL, level);
    if !tests.is_empty() {
        command.arg("--exact").args(tests);
    }
    command
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
fn report(ended: &Ended) {
    let Ended { program: Program { selector, .. }, took, output, failure } = ended;
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

    fn ended(output: &str, failure: Option<&str>) -> Ended {
        let program = Program {
            selector: "-p a --test it".to_owned(),
            file: "/a/it".into(),
            folder: "/a".into(),
            is_integration: true,
        };
        let failure = failure.map(str::to_owned);
        Ended { program, took: Duration::ZERO, output: output.to_owned(), failure }
    }

    #[test]
    fn tests_are_flaky_if_all_of_them_succeed_when_run_again() {
        let failed = ended("---- a::b stdout ----\n---- c stdout ----\n", Some("exit status: 101"));
        let again = |count: usize| {
            move |tests: &[String]| {
                assert_eq!(tests, ["a::b", "c"]);
                ended(&format!("test result: ok. {count} passed; 0 failed"), None)
            }
        };
        assert!(is_flaky(&failed, 1, again(2)));
        assert!(!is_flaky(&failed, 1, again(1)), "one was not found");
        assert!(!is_flaky(&failed, 0, again(2)));
        let runs = std::cell::Cell::new(0);
        let fails = |_: &[String]| {
            runs.set(runs.get() + 1);
            ended("", Some("exit status: 101"))
        };
        assert!(!is_flaky(&failed, 3, fails));
        assert_eq!(runs.get(), 3);
    }

    #[test]
    fn a_program_that_dies_is_not_flaky() {
        let died = ended("running 3 tests\n", Some("signal: 11 (SIGSEGV)"));
        assert!(!is_flaky(&died, 1, |_| panic!("there is no test to run")));
    }

    #[test]
    fn some_tests_of_a_program_are_run_by_their_whole_names() {
        let arguments = |tests: &[String]| {
            let command = command(&ended("", None).program, tests, OFF);
            command.get_args().map(|argument| argument.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(arguments(&[]), ["--quiet"]);
        assert_eq!(arguments(&["a::b".to_owned()]), ["--quiet", "--exact", "a::b"]);
    }

    #[test]
    fn tests_that_passed_are_counted() {
        let output = "\nrunning 3 tests\n...\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(passed(output), 3);
        assert_eq!(passed("test result: FAILED. 2 passed; 1 failed"), 0);
    }
}
