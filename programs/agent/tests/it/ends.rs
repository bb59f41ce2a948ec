//! How a command ends, and what is left of it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::agent::{Attempt, job, script, script_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_succeeds_is_reported_once_and_leaves_nothing() {
    let attempt = Attempt::run_of(&script("echo trained > model.txt; echo done")).await;
    let report = attempt.launcher.report();
    assert_eq!((report.exit_code, report.signal), (Some(0), None));
    assert_eq!((report.start_error.as_str(), report.timed_out, report.preempted), ("", false, false));
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(attempt.launcher.log(), "done\n");
    assert!(!attempt.work_dir().exists(), "the work folder is removed");
    assert_eq!(attempt.launcher.state().leases, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_reach_the_launcher_and_the_folder_stays() {
    for code in [1, 3, 42, 255] {
        let attempt = Attempt::run_of(&script(&format!("echo kept > trace; exit {code}"))).await;
        let report = attempt.launcher.report();
        assert_eq!((report.exit_code, report.signal), (Some(code), None));
        let kept = std::fs::read_to_string(attempt.work_dir().join("trace")).unwrap();
        assert_eq!(kept, "kept\n", "whoever looks for the reason finds the files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signal_that_ended_a_command_reaches_the_launcher() {
    for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        let attempt = Attempt::run_of(&script(&format!("kill -{name} $$; sleep 600"))).await;
        let report = attempt.launcher.report();
        assert_eq!((report.exit_code, report.signal), (None, Some(number)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_says_so() {
    let attempt = Attempt::run_of(&job(&["no-such-trainer", "--epochs", "3"])).await;
    let report = attempt.launcher.report();
    assert_eq!(report.start_error, "command not found: no-such-trainer");
    assert_ne!(report.exit_code, Some(0));
    assert!(attempt.launcher.log().contains("command not found: no-such-trainer"), "the job's log has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_executable_says_so() {
    let mut attempt = Attempt::of(&job(&["./train.sh"])).await;
    let spec = json!({"name": "x", "command": ["./train.sh"], "files": {"train.sh": "#!/bin/sh\necho no\n"}});
    attempt.launcher.lease(|lease| lease.spec_json = spec.to_string());
    attempt.start();
    assert!(attempt.ended().await.success());
    let error = attempt.launcher.report().start_error;
    assert!(error.contains("`./train.sh` is not executable"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_whose_interpreter_does_not_exist_says_so() {
    let mut attempt = Attempt::of(&script("true")).await;
    let path = attempt.outside().join("train.sh");
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let spec = json!({"name": "x", "command": [path]});
    attempt.launcher.lease(|lease| lease.spec_json = spec.to_string());
    attempt.start();
    assert!(attempt.ended().await.success());
    let error = attempt.launcher.report().start_error;
    assert!(error.contains("names an interpreter that does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_job_are_there_and_those_of_an_earlier_attempt_are_not() {
    let spec = script_with("cat conf/a/b.toml; ls", json!({"files": {"conf/a/b.toml": "rate = 3\n"}}));
    let mut attempt = Attempt::of(&spec).await;
    std::fs::create_dir_all(attempt.work_dir().join("old/deep")).unwrap();
    std::fs::write(attempt.work_dir().join("old/deep/stale"), "x").unwrap();
    std::fs::set_permissions(attempt.work_dir().join("old"), std::fs::Permissions::from_mode(0o500)).unwrap();
    attempt.start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    assert_eq!(attempt.launcher.log(), "rate = 3\nconf\n");
}

/// What the agent knows and the command must not: the keys of the store, the attempt's token, and what else
/// its own environment holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_sees_its_own_environment_and_no_secrets_of_the_platform() {
    let mut attempt = Attempt::of(&script_with("env | sort", json!({"env": {"EPOCHS": "3"}}))).await;
    attempt
        .set("SLIPWAY_S3_SECRET_KEY", "the-key-of-the-store")
        .set("SLIPWAY_JOB_TOKEN", "the-token-for-the-registry")
        .set("SLIPWAY_JOB_ENVIRONMENT", "WANDB_*,TEAM")
        .set("WANDB_MODE", "offline")
        .set("TEAM", "fraud")
        .set("AWS_SECRET_ACCESS_KEY", "of-the-operator");
    attempt.launcher.lease(|lease| lease.registry_url = "http://127.0.0.1:5000".to_owned());
    attempt.start();
    assert!(attempt.ended().await.success());
    let log = attempt.launcher.log();
    for expected in [
        "EPOCHS=3",
        "WANDB_MODE=offline",
        "TEAM=fraud",
        "MLFLOW_TRACKING_TOKEN=the-token-for-the-registry",
        "MLFLOW_TRACKING_URI=http://127.0.0.1:5000",
        "SLIPWAY_ATTEMPT=1",
        "SLIPWAY_JOB_NAME=script",
        &format!("SLIPWAY_JOB_ID={}", attempt.job_id),
    ] {
        assert!(log.lines().any(|line| line == expected), "{expected} is missing:\n{log}");
    }
    for secret in ["the-key-of-the-store", crate::launcher::TOKEN, "of-the-operator"] {
        assert!(!log.contains(secret), "{secret} reaches the command:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_running_ends_with_it() {
    let left = "sleep 600 & setsid sleep 600 & (trap '' TERM HUP; sleep 600) & echo left; exit 0";
    let attempt = Attempt::run_of(&script(left)).await;
    assert_eq!(attempt.launcher.report().exit_code, Some(0));
    attempt.wait_for("the end of what was left running", |_| attempt.processes().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_agent() {
    let mut attempt = Attempt::start_of(&script("echo started; exec sleep 600")).await;
    attempt.wait_for_line("started").await;
    attempt.signal(nix::sys::signal::Signal::SIGKILL);
    attempt.ended().await;
    // Otherwise two commands of one job would write the same files, once the next attempt begins. What the
    // command itself has started is ended by the launcher, which finds it by its environment.
    attempt.wait_for("the end of the command", |_| attempt.processes().is_empty()).await;
    assert!(attempt.launcher.state().reports.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_starts_nothing() {
    let mut attempt = Attempt::of(&script("touch started")).await;
    attempt.launcher.lease(|lease| lease.spec_json = r#"{"command": 7}"#.to_owned());
    attempt.start();
    assert!(!attempt.ended().await.success());
    assert!(attempt.agent_log().contains("the lease's job cannot be read"), "{}", attempt.agent_log());
    assert!(!attempt.work_dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_success_stays_where_it_is_asked_for() {
    let mut attempt = Attempt::of(&script("echo trained > model.txt")).await;
    attempt.set("SLIPWAY_KEEP_WORK_DIR", "true").start();
    assert!(attempt.ended().await.success());
    assert_eq!(std::fs::read_to_string(attempt.work_dir().join("model.txt")).unwrap(), "trained\n");
}

/// A core that this process may use.
fn usable_core() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    cores.split([',', '-']).next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_bound_to_its_cores_and_told_its_threads_and_gpus() {
    let text = "grep Cpus_allowed_list /proc/self/status | cut -f2; echo threads $OMP_NUM_THREADS \
        $MKL_NUM_THREADS; echo gpus $CUDA_VISIBLE_DEVICES";
    let core = usable_core();
    let mut attempt = Attempt::of(&script_with(text, json!({"resources": {"cpus": 2.5}}))).await;
    attempt.set("SLIPWAY_CORES", core.clone()).set("SLIPWAY_GPUS", "1,3").start();
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
    assert_eq!(attempt.launcher.log(), format!("{core}\nthreads 3 3\ngpus 1,3\n"));
}

/// What the job itself says of its threads goes before, and not what it says of GPUs: those are assigned to
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_chooses_its_threads_and_not_its_gpus() {
    let env = json!({"env": {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0,1,2"}});
    let attempt =
        Attempt::run_of(&script_with("echo $OMP_NUM_THREADS \"gpus:$CUDA_VISIBLE_DEVICES\"", env)).await;
    assert_eq!(attempt.launcher.log(), "1 gpus:\n");
}

#[test]
fn an_agent_without_its_settings_says_which_ones_it_needs() {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_slipway-agent")).env_clear().output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    for setting in ["--job-id", "--attempt", "--attempt-token", "--work-dir"] {
        assert!(text.contains(setting), "{setting}: {text}");
    }
}

/// The step between agent and command is no way to start anything else.
#[test]
fn the_step_in_front_of_a_command_runs_only_for_its_agent() {
    for arguments in [&["exec"][..], &["exec", "x"], &["exec", "1", "/dev/null", "all", "echo", "ran"]] {
        let program = env!("CARGO_BIN_EXE_slipway-agent");
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    }
}
