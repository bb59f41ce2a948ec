//! The launcher is lost, late, or starts again: the command goes on, and nothing is reported twice.

use crate::agent::{Attempt, script};
use crate::launcher::Mood;

/// Goes on until the test lets it end.
const UNTIL_GO: &str = "echo started; until [ -e go ]; do sleep 0.05; done; echo finished";

fn let_go(attempt: &Attempt) {
    std::fs::write(attempt.work_dir().join("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_on_while_heartbeats_are_not_answered() {
    let mut attempt = Attempt::of(&script(UNTIL_GO)).await;
    attempt.launcher.lease(|lease| lease.lease_ms = 600_000);
    attempt.start();
    attempt.wait_for_line("started").await;
    attempt.launcher.becomes(Mood::Unreachable);
    let seen = attempt.launcher.state().heartbeats;
    attempt.wait_for("lost heartbeats", |launcher| launcher.state().heartbeats > seen + 20).await;
    attempt.launcher.becomes(Mood::Fine);
    let_go(&attempt);
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.report().exit_code, Some(0));
    assert_eq!(attempt.launcher.log(), "started\nfinished\n");
}

/// Beyond the lease another attempt may have begun: this one stops its command before, and claims nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_stopped_once_the_launcher_was_silent_for_too_long() {
    let text = "trap 'echo saving > saved; exit 0' TERM; echo started; while :; do sleep 0.05; done";
    let mut attempt = Attempt::of(&script(text)).await;
    // Of earlier releases: the lease counts.
    attempt.set("SLIPWAY_LAUNCHER_PATIENCE_MS", "10").start();
    attempt.wait_for_line("started").await;
    attempt.launcher.becomes(Mood::Unreachable);
    assert!(attempt.ended().await.success());
    attempt.wait_for("the end of its processes", |_| attempt.processes().is_empty()).await;
    assert_eq!(std::fs::read_to_string(attempt.work_dir().join("saved")).unwrap(), "saving\n");
    assert!(attempt.launcher.state().reports.is_empty());
    assert!(attempt.agent_log().contains("end of the attempt not reported"), "{}", attempt.agent_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_waits_for_a_launcher_that_is_still_starting() {
    let mut attempt = Attempt::of(&script("echo done")).await;
    attempt.launcher.becomes(Mood::Unreachable);
    attempt.start();
    attempt.wait_for("further tries", |launcher| launcher.state().leases >= 2).await;
    attempt.launcher.becomes(Mood::Fine);
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.report().exit_code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_the_launcher_refuses_is_a_failure_of_the_agent() {
    let mut attempt = Attempt::of(&script("touch started")).await;
    attempt.launcher.becomes(Mood::Refusing);
    attempt.start();
    assert!(!attempt.ended().await.success());
    let log = attempt.agent_log();
    assert!(log.contains("the launcher rejects the request: the token is wrong"), "{log}");
    assert!(!log.contains(crate::launcher::TOKEN), "no secret is logged");
    assert_eq!(attempt.launcher.state().leases, 1, "the same question gets the same answer");
}

/// The launcher may have the report although its answer got lost; it is the same report then.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_sent_until_it_is_answered() {
    let mut attempt = Attempt::start_of(&script(UNTIL_GO)).await;
    attempt.wait_for_line("started").await;
    attempt.launcher.becomes(Mood::Unreachable);
    let_go(&attempt);
    // The agent itself is one of them.
    attempt.wait_for("the end of the command", |_| attempt.processes().len() <= 1).await;
    {
        let mut state = attempt.launcher.state();
        state.mood = Mood::Fine;
        state.lost_answers = 2;
    }
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.report().exit_code, Some(0));
    assert_eq!(attempt.launcher.log(), "started\nfinished\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_go_on_while_the_command_runs() {
    let mut attempt = Attempt::start_of(&script(UNTIL_GO)).await;
    attempt.wait_for_line("started").await;
    let seen = attempt.launcher.state().heartbeats;
    attempt.wait_for("more heartbeats", |launcher| launcher.state().heartbeats > seen + 5).await;
    let_go(&attempt);
    assert!(attempt.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none_is_refused_by_name() {
    let mut attempt = Attempt::of(&script("true")).await;
    attempt.set("SLIPWAY_LAUNCHER_URL", "not an address").start();
    assert!(!attempt.ended().await.success());
    assert_eq!(attempt.launcher.state().leases, 0);
    assert!(attempt.agent_log().contains("not an address"), "{}", attempt.agent_log());
}

/// The end of the command is known; what cannot be reported is not made up either.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_launcher_does_not_want_any_more_is_no_failure() {
    let mut attempt = Attempt::start_of(&script(UNTIL_GO)).await;
    attempt.wait_for_line("started").await;
    let_go(&attempt);
    attempt.wait_for_line("finished").await;
    attempt.launcher.becomes(Mood::Fenced);
    assert!(attempt.ended().await.success(), "{}", attempt.agent_log());
}

/// What the agent cannot end itself, its guard does: nothing of the attempt outlives the agent or the lease,
/// whichever session it is in.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_an_agent_that_is_killed_or_stopped() {
    use nix::sys::signal::Signal;
    let text =
        "trap '' TERM; setsid sh -c 'echo child; sleep 600' & echo started; while :; do sleep 0.05; done";
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let mut attempt = Attempt::start_of(&script(text)).await;
        attempt.wait_for_line("started").await;
        attempt.wait_for_line("child").await;
        assert!(attempt.processes().len() >= 4, "agent, command, child and its child");
        attempt.signal(signal);
        assert!(!attempt.ended().await.success(), "{signal}");
        attempt.wait_for("the end of its processes", |_| attempt.processes().is_empty()).await;
        assert!(attempt.launcher.state().reports.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_goes_on_with_another_launcher_that_it_heard_of() {
    let mut attempt = Attempt::of(&script(UNTIL_GO)).await;
    let first = attempt.launcher.clone();
    let other = first.replica().await;
    // Nobody listens on the first one.
    attempt.set("SLIPWAY_LAUNCHER_URL", format!("http://127.0.0.1:9,{}", first.url));
    first.lease(|lease| lease.launcher_urls = vec![other.url.to_string()]);
    attempt.start();
    attempt.wait_for_line("started").await;
    attempt.launcher = other;
    drop(first);
    let seen = attempt.launcher.state().heartbeats;
    attempt.wait_for("heartbeats at the other one", |launcher| launcher.state().heartbeats > seen + 40).await;
    let_go(&attempt);
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.report().exit_code, Some(0));
    assert_eq!(attempt.launcher.log(), "started\nfinished\n");
}
