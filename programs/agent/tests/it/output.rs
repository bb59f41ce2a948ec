//! The job's log: complete, in order, and limited.

use crate::agent::{Attempt, script};
use crate::launcher::Mood;

#[tokio::test(flavor = "multi_thread")]
async fn both_outputs_are_one_log_in_their_order() {
    let text = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; printf unfinished";
    let attempt = Attempt::run_of(&script(text)).await;
    let expected: String = (1..=5).map(|at| format!("out {at}\nerr {at}\n")).collect();
    assert_eq!(attempt.launcher.log(), format!("{expected}unfinished"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_while_the_command_runs() {
    let mut attempt = Attempt::start_of(&script("echo epoch 1; until [ -e go ]; do sleep 0.05; done")).await;
    attempt.wait_for_line("epoch 1").await;
    assert!(attempt.launcher.state().reports.is_empty());
    std::fs::write(attempt.work_dir().join("go"), "").unwrap();
    assert!(attempt.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_beyond_the_limit_is_cut_and_the_command_is_not_held_up() {
    let text = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo finished > proof; cat proof >&2";
    let mut attempt = Attempt::of(&script(text)).await;
    attempt.launcher.lease(|lease| lease.max_log_bytes = 10_000);
    attempt.start();
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.report().exit_code, Some(0), "it ran to its end");
    let log = attempt.launcher.log();
    let mark = "\n[slipway] the log is longer than 10000 bytes; the rest is left out\n";
    assert_eq!(log, format!("{}{mark}", "x".repeat(10_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_need_not_be_text() {
    let attempt = Attempt::run_of(&script("printf '\\377\\000\\376'")).await;
    assert_eq!(attempt.launcher.state().log, [0xff, 0, 0xfe]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_arrives_whole_in_many_chunks() {
    let text = "i=0; while [ $i -lt 20000 ]; do echo line $i of a long log; i=$((i+1)); done";
    let attempt = Attempt::run_of(&script(text)).await;
    let expected: String = (0..20_000).map(|at| format!("line {at} of a long log\n")).collect();
    assert!(attempt.launcher.log() == expected, "{} bytes arrived", attempt.launcher.state().log.len());
    assert!(attempt.launcher.state().chunks > 1);
}

/// The launcher has appended, and its answer got lost: what is sent again is not there twice.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_whose_answers_got_lost_are_not_doubled() {
    let mut attempt = Attempt::of(&script("for i in 1 2 3; do echo part $i; sleep 0.2; done")).await;
    attempt.start();
    attempt.wait_for_line("part 1").await;
    attempt.launcher.state().lost_answers = 3;
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.log(), "part 1\npart 2\npart 3\n");
}

/// A launcher that lost the end of the log, e.g. with its disk's cache, gets it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_wants_an_earlier_part_again_gets_it() {
    let mut attempt =
        Attempt::start_of(&script("echo one; echo two; until [ -e go ]; do sleep 0.05; done; echo three"))
            .await;
    attempt.wait_for_line("two").await;
    attempt.launcher.state().log.truncate(4);
    std::fs::write(attempt.work_dir().join("go"), "").unwrap();
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.log(), "one\ntwo\nthree\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_launcher_is_unreachable_arrives_later() {
    let text = "echo before; until [ -e cut ]; do sleep 0.05; done; echo during; touch said; \
                until [ -e go ]; do sleep 0.05; done; echo after";
    let mut attempt = Attempt::of(&script(text)).await;
    attempt.launcher.lease(|lease| lease.lease_ms = 600_000);
    attempt.start();
    attempt.wait_for_line("before").await;
    attempt.launcher.becomes(Mood::Unreachable);
    std::fs::write(attempt.work_dir().join("cut"), "").unwrap();
    attempt.wait_for("the command to go on", |_| attempt.work_dir().join("said").exists()).await;
    assert_eq!(attempt.launcher.log(), "before\n");
    attempt.launcher.becomes(Mood::Fine);
    attempt.wait_for_line("during").await;
    std::fs::write(attempt.work_dir().join("go"), "").unwrap();
    assert!(attempt.ended().await.success());
    assert_eq!(attempt.launcher.log(), "before\nduring\nafter\n");
}

/// The command's end closes the log, also where a process that left its group holds the output open.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_holds_the_output_open_does_not_hold_up_the_report() {
    let attempt = Attempt::run_of(&script("setsid sleep 600 & echo done")).await;
    assert_eq!((attempt.launcher.log().as_str(), attempt.launcher.report().exit_code), ("done\n", Some(0)));
}
