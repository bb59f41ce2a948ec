//! The life of a job.

use proptest::prelude::*;

use super::*;
use crate::training::{CheckpointSpec, DEFAULT_LEASE_MS, JobSpec, Resources, Retries, START_TIMEOUT_MS};

fn spec(limit: u32) -> JobSpec {
    JobSpec {
        name: "train".into(),
        command: vec!["python".into(), "train.py".into()],
        retries: Retries {
            limit,
            disruption_limit: 5,
            system_limit: 4,
            backoff_initial_ms: 1_000,
            backoff_max_ms: 8_000,
            ..Retries::default()
        },
        timeout_s: Some(100.0),
        grace_period_s: 5.0,
        ..JobSpec::default()
    }
}

fn at(now_unix_ms: u64, event: JobEvent) -> Observation {
    Observation { now_unix_ms, jitter: 0.5, event }
}

fn tick(now_unix_ms: u64) -> Observation {
    at(now_unix_ms, JobEvent::Tick { capacity: true })
}

fn lease_over(now_unix_ms: u64, attempt: u32) -> Observation {
    at(now_unix_ms, JobEvent::LeaseOver { attempt })
}

fn finished(now_unix_ms: u64, attempt: u32, outcome: Outcome) -> Observation {
    at(now_unix_ms, JobEvent::Finished { attempt, process: None, outcome })
}

fn lost(attempt: u32, cause: Loss) -> JobEvent {
    JobEvent::AgentGone { attempt, reason: "its agent ended".into(), cause }
}

fn running(spec: &JobSpec) -> Job {
    step(spec, &Job::submitted().0, &tick(0)).0
}

#[test]
fn a_job_waits_runs_and_succeeds() {
    let (job, actions) = Job::submitted();
    assert_eq!(actions, [Action::PublishEvent { kind: EventKind::Submitted }]);
    let full = at(0, JobEvent::Tick { capacity: false });
    assert_eq!(step(&spec(0), &job, &full), (job.clone(), vec![]));
    let (job, actions) = step(&spec(0), &job, &tick(10));
    assert_eq!((job.status, job.attempt), (Status::Running, 1));
    assert_eq!(
        actions,
        [Action::StartAttempt { attempt: 1 }, Action::PublishEvent { kind: EventKind::Started }]
    );
    let (job, actions) = step(&spec(0), &job, &finished(20, 1, Outcome::Exited { code: 0 }));
    assert_eq!(job.status, Status::Succeeded);
    assert_eq!(actions, [Action::PublishEvent { kind: EventKind::Succeeded }]);
}

#[test]
fn an_attempt_that_waits_for_its_node_says_so_and_its_time_counts_from_the_first_heartbeat() {
    let spec = spec(0);
    let waits = |now, reason: &str| at(now, JobEvent::Waiting { attempt: 1, reason: reason.into() });
    let job = step(&spec, &running(&spec), &waits(1_000, "no node has been found")).0;
    assert_eq!((job.status, job.reason()), (Status::Pending, "no node has been found"));
    assert!(job.has_attempt());
    let late = 1_000_000;
    let job = step(&spec, &job, &tick(late)).0;
    assert_eq!(job.status, Status::Pending, "longer than timeout_s");
    let job = step(&spec, &job, &at(late, JobEvent::Heartbeat { attempt: 1 })).0;
    assert_eq!((job.status, job.reason()), (Status::Running, ""));
    assert_eq!(step(&spec, &job, &waits(late + 1, "stale")).0, job, "it has been heard");
    assert_eq!(step(&spec, &job, &tick(late + 90_000)).0.status, Status::Running);
    assert_eq!(step(&spec, &job, &tick(late + 121_000)).0.status, Status::Failed, "it overran");
}

#[test]
fn an_attempt_that_waits_is_cancelled_at_once() {
    let spec = spec(0);
    let waiting = at(5, JobEvent::Waiting { attempt: 1, reason: "no node".into() });
    let job = step(&spec, &running(&spec), &waiting).0;
    let (job, actions) = step(&spec, &job, &at(9, JobEvent::CancelRequested));
    assert_eq!(job.status, Status::Cancelled);
    let expected = [Action::FenceAttempt { attempt: 1 }, Action::PublishEvent { kind: EventKind::Cancelled }];
    assert_eq!(actions, expected);
}

#[test]
fn the_reason_of_a_lack_of_memory_says_whose_limit_it_was() {
    let of = |used_bytes, memory_bytes| {
        let resources = Resources { memory_bytes, ..Resources::default() };
        let spec = JobSpec { resources, ..spec(0) };
        let outcome = Outcome::OutOfMemory { used_bytes };
        step(&spec, &running(&spec), &finished(5, 1, outcome)).0.reason().to_owned()
    };
    assert!(of(Some(9), 8).contains("used 9 bytes, more than the 8 of resources.memory_bytes"));
    assert!(of(None, 8).contains("it used more than the 8 bytes of resources.memory_bytes"));
    assert!(of(None, 0).contains("its node had no memory left"));
}

#[test]
fn a_job_that_can_never_start_fails_with_the_reason_unless_it_has_started() {
    let spec = spec(0);
    let refused = at(5, JobEvent::CannotBePlaced { reason: "resources.gpus: requests 1".into() });
    let (job, actions) = step(&spec, &Job::submitted().0, &refused);
    assert_eq!((job.status, job.reason.as_str()), (Status::Failed, "resources.gpus: requests 1"));
    assert_eq!(actions, [Action::PublishEvent { kind: EventKind::Failed }]);
    assert_eq!(step(&spec, &running(&spec), &refused), (running(&spec), vec![]));
}

#[test]
fn a_command_that_used_too_much_memory_is_retried_like_another_failure() {
    let mut spec = spec(1);
    spec.resources.memory_bytes = 100;
    let outcome = Outcome::from_report(None, Some(9), "", false, 120);
    let (job, _) = step(&spec, &running(&spec), &finished(1_000, 1, outcome));
    assert_eq!(job.status, Status::Retrying);
    let reason =
        "attempt 1: out of memory: its processes used 120 bytes, more than the 100 of resources.memory_bytes";
    assert!(job.reason.starts_with(reason), "{}", job.reason);
}

#[test]
fn a_killed_command_is_retried_after_its_backoff_until_the_limit() {
    let spec = spec(1);
    let (job, _) = step(&spec, &running(&spec), &finished(1_000, 1, Outcome::Signalled { signal: 9 }));
    assert_eq!((job.status, job.retry_at_unix_ms), (Status::Retrying, Some(1_750)));
    assert_eq!(job.reason, "attempt 1: ended by signal 9; retry 1 of 1 follows");
    assert_eq!(step(&spec, &job, &tick(1_700)).1, []);
    let (job, actions) = step(&spec, &job, &tick(1_750));
    assert_eq!(actions[0], Action::StartAttempt { attempt: 2 });
    let (job, _) = step(&spec, &job, &finished(2_000, 2, Outcome::Exited { code: 3 }));
    assert_eq!(
        (job.status, job.reason.as_str()),
        (Status::Failed, "attempt 2: exit code 3; its retries are used up")
    );
}

#[test]
fn a_lost_agent_costs_no_retry_and_its_attempt_is_fenced() {
    let spec = spec(0);
    let gone = |attempt| at(1_000, lost(attempt, Loss::System));
    let (job, actions) = step(&spec, &running(&spec), &gone(1));
    assert_eq!((job.status, job.failures, job.disruptions, job.system_failures), (Status::Retrying, 0, 0, 1));
    assert_eq!(job.reason, "attempt 1: its agent ended; another attempt follows");
    assert_eq!(actions[0], Action::FenceAttempt { attempt: 1 });
    assert_eq!(step(&spec, &running(&spec), &gone(2)).1, []);
    let (job, _) = step(&spec, &running(&spec), &at(10, JobEvent::CancelRequested));
    let (job, actions) = step(&spec, &job, &gone(1));
    assert_eq!((job.status, job.reason.as_str()), (Status::Cancelled, "cancelled; its agent ended"));
    assert_eq!(actions[0], Action::FenceAttempt { attempt: 1 });
}

#[test]
fn disruptions_the_platform_and_the_command_have_budgets_of_their_own() {
    let spec = spec(1);
    let mut job = running(&spec);
    let again = |job: &Job, event: JobEvent| {
        let next = step(&spec, job, &at(0, event)).0;
        step(&spec, &next, &tick(1_000_000)).0
    };
    for _ in 0..5 {
        job = again(&job, lost(job.attempt, Loss::Disruption));
    }
    for _ in 0..4 {
        job = again(&job, lost(job.attempt, Loss::System));
    }
    let failed =
        |attempt| JobEvent::Finished { attempt, process: None, outcome: Outcome::Exited { code: 3 } };
    job = again(&job, failed(job.attempt));
    assert_eq!((job.status, job.attempt), (Status::Running, 11));
    let attempt = job.attempt;
    for (event, reason) in [
        (lost(attempt, Loss::Disruption), "lost 6 times, more than the 5 of retries.disruption_limit"),
        (lost(attempt, Loss::System), "lost 5 times, more than the 4 of retries.system_limit"),
        (failed(attempt), "exit code 3; its retries are used up"),
    ] {
        let ended = again(&job, event);
        assert_eq!(ended.status, Status::Failed);
        assert!(ended.reason.ends_with(reason), "{}", ended.reason);
    }
}

#[test]
fn an_exit_code_can_ask_for_no_retry() {
    let spec = spec(5);
    let (job, _) = step(&spec, &running(&spec), &finished(1, 1, Outcome::Exited { code: 42 }));
    assert_eq!(
        (job.status, job.reason.as_str()),
        (Status::Failed, "attempt 1: exit code 42, which asks for no retry")
    );
}

#[test]
fn what_cannot_get_better_is_not_retried() {
    let spec = spec(5);
    let missing = Outcome::from_report(None, None, "command not found: pyhton", false, 0);
    let (job, _) = step(&spec, &running(&spec), &finished(1, 1, missing));
    assert_eq!(
        (job.status, job.reason.as_str()),
        (Status::Failed, "the command did not start: command not found: pyhton")
    );
    let late = Outcome::from_report(None, Some(9), "", true, 0);
    let (job, _) = step(&spec, &running(&spec), &finished(1, 1, late));
    assert_eq!(
        (job.status, job.reason.as_str()),
        (Status::Failed, "attempt 1 ran longer than the 100 s of timeout_s")
    );
}

#[test]
fn a_silent_agent_loses_its_lease_and_not_the_users_retries() {
    let spec = spec(0);
    let (job, _) = step(&spec, &running(&spec), &at(5_000, JobEvent::Heartbeat { attempt: 1 }));
    assert_eq!(step(&spec, &job, &tick(5_000 + DEFAULT_LEASE_MS - 1)).1, [], "time alone decides nothing");
    let (job, actions) = step(&spec, &job, &lease_over(5_000 + DEFAULT_LEASE_MS, 1));
    assert_eq!(
        actions,
        [Action::FenceAttempt { attempt: 1 }, Action::PublishEvent { kind: EventKind::Retrying }]
    );
    assert_eq!((job.status, job.failures, job.disruptions), (Status::Retrying, 0, 1));
    let (late, actions) = step(&spec, &job, &finished(99_000, 1, Outcome::Exited { code: 0 }));
    assert_eq!((late, actions), (job, vec![]), "the fenced attempt is not listened to");
    let (never_started, _) = step(&spec, &running(&spec), &lease_over(START_TIMEOUT_MS, 1));
    assert_eq!(never_started.status, Status::Retrying);
    assert_eq!(step(&spec, &running(&spec), &lease_over(1, 2)).1, [], "that of another attempt");
}

#[test]
fn cancelling_stops_what_runs_and_forgets_what_waits() {
    let spec = spec(3);
    let cancel = |now| at(now, JobEvent::CancelRequested);
    assert_eq!(step(&spec, &Job::submitted().0, &cancel(1)).0.status, Status::Cancelled);
    let (job, actions) = step(&spec, &running(&spec), &cancel(1_000));
    assert_eq!((job.status, actions), (Status::Cancelling, vec![Action::StopAttempt { attempt: 1 }]));
    assert_eq!(step(&spec, &job, &cancel(1_001)), (job.clone(), vec![]));
    let (ended, _) = step(&spec, &job, &finished(1_500, 1, Outcome::Signalled { signal: 15 }));
    assert_eq!(ended.status, Status::Cancelled);
    let (alive, _) = step(&spec, &job, &at(20_000, JobEvent::Heartbeat { attempt: 1 }));
    let (forced, actions) = step(&spec, &alive, &tick(1_000 + 5_000 + AGENT_SPARE_MS));
    assert_eq!(forced.status, Status::Cancelled);
    assert_eq!(actions[0], Action::FenceAttempt { attempt: 1 });
    let (lost, actions) = step(&spec, &job, &lease_over(20_000, 1));
    assert_eq!((lost.status, &actions[0]), (Status::Cancelled, &Action::FenceAttempt { attempt: 1 }));
    assert_eq!(step(&spec, &ended, &cancel(9_000)), (ended.clone(), vec![]), "what has ended stays");
}

#[test]
fn specs_say_which_field_is_wrong() {
    let good = spec(1);
    good.validate().expect("valid");
    let file = |path: &str| [(path.to_owned(), String::new())].into();
    let resources = |cpus| Resources { cpus, ..Resources::default() };
    let in_experiment = |id: &str, env: &[(&str, &str)]| JobSpec {
        experiment_id: Some(id.to_owned()),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..spec(1)
    };
    let bad = [
        (JobSpec { name: String::new(), ..good.clone() }, "name"),
        (JobSpec { command: vec![], ..good.clone() }, "command"),
        (JobSpec { command: vec![String::new()], ..good.clone() }, "command[0]"),
        (JobSpec { files: file("../etc/passwd"), ..good.clone() }, r#"files["../etc/passwd"]"#),
        (JobSpec { files: file("/etc/passwd"), ..good.clone() }, r#"files["/etc/passwd"]"#),
        (
            JobSpec {
                files: [("a".into(), String::new()), ("a/b".into(), String::new())].into(),
                ..good.clone()
            },
            r#"files["a/b"]"#,
        ),
        (JobSpec { env: [("A=B".to_owned(), String::new())].into(), ..good.clone() }, "env.A=B"),
        (
            JobSpec { env: [("SLIPWAY_JOB_ID".to_owned(), String::new())].into(), ..good.clone() },
            "env.SLIPWAY_JOB_ID",
        ),
        (JobSpec { resources: resources(0.0), ..good.clone() }, "resources.cpus"),
        (JobSpec { resources: resources(f64::NAN), ..good.clone() }, "resources.cpus"),
        (JobSpec { retries: Retries { limit: 101, ..Retries::default() }, ..good.clone() }, "retries.limit"),
        (JobSpec { timeout_s: Some(0.0), ..good.clone() }, "timeout_s"),
        (JobSpec { grace_period_s: -1.0, ..good.clone() }, "grace_period_s"),
        (in_experiment("churn", &[]), "experiment_id"),
        (in_experiment("-1", &[]), "experiment_id"),
        (in_experiment("01", &[]), "experiment_id"),
        (in_experiment("3", &[("MLFLOW_EXPERIMENT_ID", "4")]), "env.MLFLOW_EXPERIMENT_ID"),
        (
            JobSpec {
                checkpoint: Some(CheckpointSpec { dir: "..".into(), ..CheckpointSpec::default() }),
                ..good.clone()
            },
            "checkpoint.dir",
        ),
        (
            JobSpec { checkpoint: Some(CheckpointSpec { keep: 0, ..CheckpointSpec::default() }), ..good },
            "checkpoint.keep",
        ),
    ];
    let logging = in_experiment("3", &[("A", "B")]).logging_to_its_experiment();
    assert_eq!(logging.validate(), Ok(()));
    assert_eq!(logging.env["MLFLOW_EXPERIMENT_ID"], "3");
    for (spec, field) in bad {
        assert_eq!(spec.validate().expect_err(field).field, field);
    }
    let parsed: JobSpec =
        serde_json::from_str(r#"{"name":"t","command":["true"],"checkpoint":{}}"#).expect("defaults fill in");
    let CheckpointSpec { dir, keep, marker, .. } = parsed.checkpoint.unwrap();
    assert_eq!((dir.as_str(), keep, marker), ("checkpoints", 3, None));
    assert!(serde_json::from_str::<JobSpec>(r#"{"name":"t","command":["true"],"comand":1}"#).is_err());
}

fn any_event() -> impl Strategy<Value = JobEvent> {
    let outcome = prop_oneof![
        (-1..4_i32).prop_map(|code| Outcome::Exited { code }),
        Just(Outcome::Signalled { signal: 9 }),
        Just(Outcome::TimedOut),
        Just(Outcome::OutOfMemory { used_bytes: Some(9) }),
        Just(Outcome::OutOfMemory { used_bytes: None }),
        Just(Outcome::GpuFault { node: "n1".into(), message: "Xid 79".into() }),
    ];
    prop_oneof![
        6 => any::<bool>().prop_map(|capacity| JobEvent::Tick { capacity }),
        2 => (0..12_u32).prop_map(|attempt| JobEvent::Heartbeat { attempt }),
        1 => (0..12_u32).prop_map(|attempt| JobEvent::Waiting { attempt, reason: "no node".into() }),
        3 => (0..12_u32, outcome)
            .prop_map(|(attempt, outcome)| JobEvent::Finished { attempt, process: None, outcome }),
        1 => Just(JobEvent::CancelRequested),
        1 => Just(JobEvent::SuspendRequested),
        1 => Just(JobEvent::ResumeRequested),
        1 => (0..12_u32).prop_map(|attempt| JobEvent::GaveWay { attempt, reason: "no node".into() }),
        1 => Just(JobEvent::CannotBePlaced { reason: "too large".into() }),
        1 => (0..12_u32, any::<bool>()).prop_map(|(attempt, disrupted)| {
            let cause = if disrupted { Loss::Disruption } else { Loss::System };
            JobEvent::AgentGone { attempt, reason: "gone".into(), cause }
        }),
        1 => (0..12_u32).prop_map(|attempt| JobEvent::LeaseOver { attempt }),
    ]
}

proptest! {
    #[test]
    fn retries_are_bounded_and_the_end_is_final(
        limit in 0_u32..4,
        events in proptest::collection::vec((any_event(), 0_u64..40_000), 0..120),
    ) {
        let spec = spec(limit);
        let mut job = Job::submitted().0;
        let mut now = 0;
        let mut started = 0;
        let mut free = 0;
        for (event, passed) in events {
            now += passed;
            let was = job.clone();
            // People may resume a job, and a cluster may be full, as often as they like.
            let is_free = matches!(event, JobEvent::ResumeRequested | JobEvent::GaveWay { .. });
            free += u32::from(is_free);
            let (next, actions) = step(&spec, &job, &at(now, event));
            job = next;
            let starts: Vec<_> = actions.iter().filter(|a| matches!(a, Action::StartAttempt { .. }))
                .collect();
            started += u32::try_from(starts.len()).expect("few");
            prop_assert_eq!(job.attempt, started, "each attempt has its number once");
            prop_assert!(job.attempt >= was.attempt);
            if was.status.is_final() {
                prop_assert_eq!(&job, &was);
                prop_assert!(actions.is_empty());
            }
            prop_assert!(job.status != Status::Running || job.last_heard_at_unix_ms().is_some());
        }
        let Retries { disruption_limit, system_limit, .. } = spec.retries;
        prop_assert!(started <= 1 + limit + disruption_limit + system_limit + free);
    }

    #[test]
    fn every_job_ends_when_nothing_but_time_passes(
        limit in 0_u32..4,
        events in proptest::collection::vec((any_event(), 0_u64..40_000), 0..40),
    ) {
        let spec = spec(limit);
        let mut job = Job::submitted().0;
        let mut now = 0;
        for (event, passed) in events {
            now += passed;
            job = step(&spec, &job, &at(now, event)).0;
        }
        // Without heartbeats leases run out.
        for _ in 0..40 {
            now += DEFAULT_LEASE_MS;
            job = step(&spec, &job, &lease_over(now, job.attempt)).0;
            job = step(&spec, &job, &tick(now + 30_000)).0;
            job = step(&spec, &job, &at(now, JobEvent::ResumeRequested)).0;
        }
        prop_assert!(job.status.is_final());
    }

    #[test]
    fn backoff_grows_within_its_bounds(retry in 1_u32..200, jitter in 0.0_f64..1.0, initial in 0_u64..10_000,
        most in 10_000_u64..100_000) {
        let retries = Retries { backoff_initial_ms: initial, backoff_max_ms: most, ..Retries::default() };
        let wait = retries.backoff_ms(retry, jitter);
        prop_assert!(wait <= most);
        prop_assert!(wait >= initial / 2);
        prop_assert!(retries.backoff_ms(retry + 1, jitter) >= wait);
    }
}

#[test]
fn a_suspended_job_gives_its_attempt_up_and_goes_on_when_resumed() {
    let spec = spec(0);
    let job = step(&spec, &running(&spec), &at(5, JobEvent::SuspendRequested));
    assert_eq!((job.0.status, job.0.is_stopping()), (Status::Suspending, true));
    assert_eq!(job.1, [Action::StopAttempt { attempt: 1 }]);
    let (job, actions) = step(&spec, &job.0, &finished(9, 1, Outcome::Signalled { signal: 15 }));
    assert_eq!((job.status, job.reason(), job.failures()), (Status::Suspended, "suspended", 0));
    assert_eq!(actions, [Action::PublishEvent { kind: EventKind::Suspended }]);
    assert_eq!(step(&spec, &job, &tick(1_000_000)).0, job, "it does not start by itself");
    let (job, actions) = step(&spec, &job, &at(20, JobEvent::ResumeRequested));
    assert_eq!((job.status, job.reason()), (Status::Queued, ""));
    assert_eq!(actions, [Action::PublishEvent { kind: EventKind::Resumed }]);
    let job = step(&spec, &job, &tick(21)).0;
    assert_eq!((job.status, job.attempt), (Status::Running, 2));
    assert_eq!(step(&spec, &job, &at(22, JobEvent::ResumeRequested)).0, job, "it is not suspended");
    // An agent that does not confirm has the grace period, as one that is cancelled.
    let job = step(&spec, &job, &at(30, JobEvent::SuspendRequested)).0;
    let (job, actions) = step(&spec, &job, &tick(60_000));
    assert_eq!((job.status, actions[0].clone()), (Status::Suspended, Action::FenceAttempt { attempt: 2 }));
    assert_eq!(step(&spec, &job, &at(70_000, JobEvent::CancelRequested)).0.status, Status::Cancelled);
}

#[test]
fn a_job_that_is_being_suspended_can_still_be_cancelled() {
    let spec = spec(0);
    let job = step(&spec, &running(&spec), &at(5, JobEvent::SuspendRequested)).0;
    let job = step(&spec, &job, &at(6, JobEvent::CancelRequested)).0;
    assert_eq!(job.status, Status::Cancelling);
    assert_eq!(step(&spec, &job, &at(7, JobEvent::SuspendRequested)).0, job);
    assert_eq!(step(&spec, &job, &finished(9, 1, Outcome::Exited { code: 0 })).0.status, Status::Cancelled);
}

#[test]
fn the_first_lack_of_memory_is_answered_with_more_and_the_next_is_a_failure() {
    let spec = JobSpec {
        resources: Resources { memory_bytes: 8, ..Resources::default() },
        retries: Retries { oom_memory_bytes: Some(16), ..spec(0).retries },
        ..spec(0)
    };
    let lack = |attempt| finished(5, attempt, Outcome::OutOfMemory { used_bytes: None });
    let job = step(&spec, &running(&spec), &lack(1)).0;
    assert_eq!((job.status, job.failures(), job.resources(&spec).memory_bytes), (Status::Retrying, 0, 16));
    assert!(job.reason().ends_with("another attempt with 16 bytes follows"), "{}", job.reason());
    let job = step(&spec, &job, &tick(100_000)).0;
    let job = step(&spec, &job, &lack(2)).0;
    assert_eq!((job.status, job.failures()), (Status::Failed, 1));
    assert!(job.reason().contains("more than the 16 bytes of resources.memory_bytes"), "{}", job.reason());
    for (memory_bytes, oom_memory_bytes) in [(0, 16), (16, 16)] {
        let resources = Resources { memory_bytes, ..Resources::default() };
        let retries = Retries { oom_memory_bytes: Some(oom_memory_bytes), ..Retries::default() };
        let refused = JobSpec { resources, retries, ..spec.clone() }.validate().unwrap_err();
        assert_eq!(refused.field, "retries.oom_memory_bytes");
    }
}

#[test]
fn a_node_whose_gpu_failed_gets_no_further_attempt_and_the_command_is_not_blamed() {
    let spec = spec(0);
    let fault = || Outcome::GpuFault { node: "n7".into(), message: "Xid (PCI:0000:3b:00): 79".into() };
    let (job, _) = step(&spec, &running(&spec), &finished(5, 1, fault()));
    assert_eq!((job.status, job.failures(), job.system_failures()), (Status::Retrying, 0, 1));
    assert_eq!(job.excluded_nodes(), ["n7"]);
    assert!(job.reason().contains("a GPU of node `n7` failed: Xid"), "{}", job.reason());
    let job = step(&spec, &job, &tick(100_000)).0;
    assert_eq!(step(&spec, &job, &finished(100_001, 2, fault())).0.excluded_nodes(), ["n7"], "once");
}

#[test]
fn an_attempt_that_makes_room_spends_no_budget() {
    let spec = spec(0);
    let waiting = at(5, JobEvent::Waiting { attempt: 1, reason: "1 of 2 processes has no node".into() });
    let gave_way = at(9, JobEvent::GaveWay { attempt: 1, reason: "1 of 2 processes has no node".into() });
    assert_eq!(step(&spec, &running(&spec), &gave_way).0, running(&spec), "it runs");
    let job = step(&spec, &running(&spec), &waiting).0;
    let (job, actions) = step(&spec, &job, &gave_way);
    assert_eq!((job.status, job.failures(), job.disruptions()), (Status::Retrying, 0, 0));
    assert_eq!(actions[0], Action::FenceAttempt { attempt: 1 });
    // Longer than the scheduler waits before it looks at another pod again.
    assert_eq!(step(&spec, &job, &tick(10_009)).0.status, Status::Retrying);
    assert_eq!(step(&spec, &job, &tick(15_009)).0.attempt(), 2);
}

#[test]
fn a_failure_names_the_process() {
    let event = JobEvent::Finished { attempt: 1, process: Some(3), outcome: Outcome::Exited { code: 9 } };
    let job = step(&spec(0), &running(&spec(0)), &at(5, event)).0;
    assert!(job.reason().starts_with("attempt 1, process 3: exit code 9"), "{}", job.reason());
}

#[test]
fn stored_jobs_keep_their_format() {
    let stored = serde_json::json!({
        "status": "retrying",
        "attempt": 2,
        "failures": 1,
        "disruptions": 1,
        "reason": "attempt 2: exit code 1; retry 1 of 3 follows",
        "retry_at_unix_ms": 5_000,
        "attempt_started_at_unix_ms": null,
        "heartbeat_at_unix_ms": null,
        "cancel_requested_at_unix_ms": null
    });
    let job: Job = serde_json::from_value(stored.clone()).expect("reads");
    let mut written = stored;
    written["system_failures"] = 0.into();
    assert_eq!(serde_json::to_value(&job).expect("writes"), written, "fields are only added");
    assert_eq!(step(&spec(3), &job, &tick(4_999)).0.status(), Status::Retrying);
    assert_eq!(step(&spec(3), &job, &tick(5_000)).0.attempt(), 3);
}
