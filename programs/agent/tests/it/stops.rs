//! Cancellation, preemption, and limits: SIGTERM, a grace period, SIGKILL.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::agent::{Attempt, script, script_with};
use crate::launcher::Mood;

/// Says that it started, saves at SIGTERM, and ends with a code of its own.
const SAVES: &str = "trap 'echo saving; exit 7' TERM; echo started; while :; do sleep 0.05; done";
/// Cannot be asked to end.
const STUBBORN: &str = "trap '' TERM; echo started; while :; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_command_gets_time_to_save() {
    let mut attempt = Attempt::start_of(&script(SAVES)).await;
    attempt.wait_for_line("started").await;
    attempt.launcher.state().cancelled_ms = Some(60_000);
    assert!(attempt.ended().await.success());
    let report = attempt.launcher.report();
    assert_eq!((report.exit_code, report.signal), (Some(7), None));
    assert!(!report.preempted && !report.timed_out, "{report:?}");
    let log = attempt.launcher.log();
    assert!(
        log.contains("[slipway] the job is cancelled or suspended: SIGTERM, and SIGKILL after 60 s\n"),
        "{log}"
    );
    assert!(log.ends_with("saving\n"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ignores_the_request_is_killed_after_the_grace_period() {
    let mut attempt = Attempt::start_of(&script(STUBBORN)).await;
    attempt.wait_for_line("started").await;
    attempt.launcher.state().cancelled_ms = Some(300);
    assert!(attempt.ended().await.success());
    let report = attempt.launcher.report();
    assert_eq!((report.exit_code, report.signal), (None, Some(9)));
    assert!(
        attempt.launcher.log().contains("the grace period is over: SIGKILL"),
        "{}",
        attempt.launcher.log()
    );
    attempt.wait_for("the end of its processes", |_| attempt.processes().is_empty()).await;
}

/// SIGTERM reaches every process of the command, as Ctrl+C in a terminal would.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_reaches_the_children_of_the_command() {
    let text = "sh -c 'trap \"echo worker saves; exit 0\" TERM; echo worker; while :; do sleep 0.05; done' & \
                trap 'wait; echo main saves; exit 0' TERM; wait";
    let mut attempt = Attempt::start_of(&script(text)).await;
    attempt.wait_for_line("worker").await;
    attempt.launcher.state().cancelled_ms = Some(60_000);
    assert!(attempt.ended().await.success());
    let log = attempt.launcher.log();
    assert!(log.contains("worker saves\n") && log.ends_with("main saves\n"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preempted_agent_ends_its_command_orderly_and_says_why() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut attempt = Attempt::start_of(&script(SAVES)).await;
        attempt.wait_for_line("started").await;
        attempt.signal(signal);
        // A second one changes nothing: the command keeps its time.
        attempt.signal(signal);
        assert!(attempt.ended().await.success());
        let report = attempt.launcher.report();
        assert!(report.preempted, "not the command's failure: {report:?}");
        assert_eq!(report.exit_code, Some(7));
        assert!(attempt.launcher.log().ends_with("saving\n"), "{}", attempt.launcher.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_runs_too_long_is_stopped() {
    let spec = script_with("echo started; sleep 600", json!({"timeout_s": 0.5}));
    let attempt = Attempt::run_of(&spec).await;
    let report = attempt.launcher.report();
    assert!(report.timed_out, "{report:?}");
    assert_eq!((report.exit_code, report.signal), (None, Some(15)));
    assert!(
        attempt.launcher.log().contains("the command ran longer than 0.5 s"),
        "{}",
        attempt.launcher.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_more_memory_than_it_asked_for_is_killed() {
    let text = "x=$(head -c 300000000 /dev/zero | tr '\\0' x); echo never; sleep 600";
    let limit = 100_000_000;
    let attempt = Attempt::run_of(&script_with(text, json!({"resources": {"memory_bytes": limit}}))).await;
    let report = attempt.launcher.report();
    assert!(report.memory_exceeded_bytes > limit, "{report:?}");
    assert_eq!(report.signal, Some(9));
    assert!(attempt.launcher.log().contains("out of memory: the command uses"), "{}", attempt.launcher.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_reason_to_stop_is_the_one_that_is_reported() {
    let text = "trap 'echo asked; until [ -e go ]; do sleep 0.05; done; exit 0' TERM; echo started; \
                while :; do sleep 0.05; done";
    let mut attempt = Attempt::start_of(&script(text)).await;
    attempt.wait_for_line("started").await;
    attempt.signal(Signal::SIGTERM);
    attempt.wait_for_line("asked").await;
    attempt.launcher.state().cancelled_ms = Some(60_000);
    let seen = attempt.launcher.state().heartbeats;
    attempt.wait_for("a further heartbeat", |launcher| launcher.state().heartbeats > seen + 2).await;
    std::fs::write(attempt.work_dir().join("go"), "").unwrap();
    assert!(attempt.ended().await.success());
    assert!(attempt.launcher.report().preempted);
}

/// Another attempt runs: this one must not write any further, and has nothing to report.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_replaced_ends_at_once_and_reports_nothing() {
    let mut attempt = Attempt::start_of(&script(STUBBORN)).await;
    attempt.wait_for_line("started").await;
    attempt.launcher.becomes(Mood::Fenced);
    assert!(attempt.ended().await.success());
    attempt.wait_for("the end of its processes", |_| attempt.processes().is_empty()).await;
    assert!(attempt.launcher.state().reports.is_empty());
    assert!(attempt.work_dir().exists(), "what it wrote stays for a look");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_replaced_before_it_began_starts_nothing() {
    let mut attempt = Attempt::of(&script("touch started")).await;
    attempt.launcher.becomes(Mood::Fenced);
    attempt.start();
    assert!(attempt.ended().await.success(), "there is nothing to do, which is no failure");
    assert!(!attempt.work_dir().exists());
    assert!(attempt.launcher.state().reports.is_empty());
}
