//! Known ways through a rollout, step by step.

use super::*;

#[test]
fn a_good_version_goes_through_every_step() {
    let mut rollout = new_rollout(Some(1), strategy(&[(10, 5.0), (50, 5.0)]));
    let (next, actions) = step(&rollout, &ready(1_000));
    assert_eq!(writes(&actions), [Intent::Canary { weight_percent: 10, shadow_percent: 0 }]);
    assert_eq!(events(&actions), [EventKind::Advanced]);
    assert!(actions.contains(&Action::BeginWindow));
    rollout = next;
    let (next, actions) = step(&rollout, &ready(5_999));
    assert_eq!((next.phase, actions), (Phase::Progressing, vec![]), "the hold is not over");
    let (next, actions) = step(&rollout, &ready(6_000));
    assert_eq!(writes(&actions), [Intent::Canary { weight_percent: 50, shadow_percent: 0 }]);
    assert_eq!((next.step, next.weight_percent()), (1, 50));
    let (next, actions) = step(&next, &ready(11_000));
    assert_eq!((next.phase, next.promotion_decided_at_unix_ms), (Phase::Promoting, Some(11_000)));
    assert_eq!(writes(&actions), [Intent::AllToNew]);
    let unconfirmed = Observation { table: TableState::Written, ..ready(11_100) };
    assert_eq!(step(&next, &unconfirmed).0.phase, Phase::Promoting);
    let (next, actions) = step(&next, &ready(11_200));
    assert_eq!((next.phase, events(&actions)), (Phase::Promoted, vec![EventKind::Promoted]));
    let table = plan_table(&next, &old_table(), 11_200);
    assert_eq!((table.weights(), table.warm), (vec![(target(2), 100)], vec![target(1)]));
}

#[test]
fn a_bad_version_is_rolled_back_before_its_hold_ends_with_the_clause_in_the_reason() {
    let rollout = step(&new_rollout(Some(1), strategy(&[(10, 60.0)])), &ready(1_000)).0;
    let (next, actions) = step(&rollout, &Observation { facts: bad_facts(), ..ready(2_000) });
    assert_eq!((next.phase, next.rollback_decided_at_unix_ms), (Phase::RollingBack, Some(2_000)));
    assert_eq!(writes(&actions), [Intent::AllToStable]);
    assert!(next.reason.contains("accuracy") && next.reason.contains("50.0 %"), "{}", next.reason);
    let decided = actions.iter().any(|action| {
        matches!(action, Action::RecordDecision { verdict: Verdict::Fail, evidence, .. }
            if !evidence.clauses.is_empty())
    });
    assert!(decided);
    let (next, actions) = step(&next, &ready(2_100));
    assert_eq!((next.phase, events(&actions)), (Phase::RolledBack, vec![EventKind::RolledBack]));
}

#[test]
fn the_first_version_needs_no_canary() {
    let rollout = new_rollout(None, Strategy::default());
    let empty = TrafficTable::empty("cancer", "cancer");
    let loading = plan_table(&rollout, &empty, 0);
    assert_eq!((loading.weights(), loading.warm.as_slice()), (vec![], [target(2)].as_slice()));
    let (next, actions) = step(&rollout, &ready(1_000));
    assert_eq!((next.phase, writes(&actions)), (Phase::Promoting, vec![Intent::AllToNew]));
    assert_eq!(plan_table(&next, &loading, 1_000).weights(), [(target(2), 100)]);
    let refused =
        next.accepts(&Command::Rollback { reason: String::new() }, false).expect_err("nothing to go back to");
    assert_eq!(
        refused.to_string(),
        "cannot roll back a rollout that is promoting: no version served before this one"
    );
}

#[test]
fn a_version_that_does_not_load_fails_with_the_reason() {
    let rollout = new_rollout(Some(1), Strategy::default());
    let broken = Readiness::Failed { reason: "not an ONNX file".into() };
    let (next, actions) = step(&rollout, &Observation { target: broken, ..ready(1_000) });
    assert_eq!(writes(&actions), [Intent::AllToStable]);
    let (next, actions) = step(&next, &ready(1_100));
    assert_eq!((next.phase, events(&actions)), (Phase::Failed, vec![EventKind::Failed]));
    assert_eq!(next.reason, "version 2 cannot be loaded: not an ONNX file");

    let slow = Observation { target: Readiness::Loading, ..ready(600_000) };
    let (next, _) = step(&rollout, &slow);
    assert_eq!(next.ends_as, Some(Phase::Failed));
    assert!(next.reason.contains("prepare_timeout_s"));

    let waits = Readiness::Waiting { reason: "there is no model 'points'".into() };
    let (next, _) = step(&rollout, &Observation { target: waits.clone(), ..ready(1_000) });
    assert_eq!(
        (next.phase, next.reason.as_str()),
        (Phase::Preparing, "version 2 is loading: there is no model 'points'")
    );
    let (loaded, _) = step(&next, &ready(2_000));
    assert_eq!(loaded.phase, Phase::Progressing);
    let (next, _) = step(&next, &Observation { target: waits, ..ready(600_000) });
    assert_eq!(next.ends_as, Some(Phase::Failed));
    assert!(next.reason.ends_with("of prepare_timeout_s: there is no model 'points'"), "{}", next.reason);
}

#[test]
fn no_data_pauses_and_never_promotes() {
    let rollout = step(&new_rollout(Some(1), strategy(&[(10, 1.0)])), &ready(0)).0;
    let silent = |now| Observation { facts: WindowFacts::default(), ..ready(now) };
    let (waiting, actions) = step(&rollout, &silent(2_000));
    assert_eq!(waiting.phase, Phase::Progressing);
    assert!(matches!(actions.as_slice(), [Action::RecordDecision { verdict: Verdict::Inconclusive, .. }]));
    assert_eq!(step(&waiting, &silent(3_000)).1, [], "the same verdict is written down once");
    let (paused, actions) = step(&waiting, &silent(602_000));
    assert_eq!((paused.phase, events(&actions)), (Phase::Paused, vec![EventKind::Paused]));
    assert_eq!(paused.weight_percent(), 10, "traffic stays");
    assert!(paused.reason.contains("min_requests"), "{}", paused.reason);
    let resume = Observation { command: Some(Command::Resume), ..silent(700_000) };
    let (resumed, actions) = step(&paused, &resume);
    assert_eq!((resumed.phase, resumed.window_since_unix_ms), (Phase::Progressing, 700_000));
    assert!(actions.contains(&Action::BeginWindow));
}

#[test]
fn a_step_does_not_pass_while_nothing_of_stable_is_known() {
    let rollout = step(&new_rollout(Some(1), strategy(&[(10, 1.0), (100, 1.0)])), &ready(0)).0;
    let alone = |now| {
        let facts = WindowFacts { stable: VariantFacts::default(), ..good_facts() };
        Observation { facts, ..ready(now) }
    };
    let (waiting, actions) = step(&rollout, &alone(2_000));
    assert_eq!((waiting.phase, waiting.step), (Phase::Progressing, 0));
    let [Action::RecordDecision { verdict: Verdict::Inconclusive, reason, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert!(reason.contains("none of stable arrived"), "{reason}");
    // Without a share of the traffic, stable has nothing to answer.
    let (second, _) = step(&waiting, &ready(3_000));
    assert_eq!((second.phase, second.step), (Phase::Progressing, 1));
    assert_eq!(step(&second, &alone(5_000)).0.phase, Phase::Promoting);
}

#[test]
fn people_win_over_automation() {
    let rollout = step(&new_rollout(Some(1), strategy(&[(10, 60.0), (50, 60.0)])), &ready(0)).0;
    let told = |command, facts, now| Observation { command: Some(command), facts, ..ready(now) };
    let (next, actions) = step(&rollout, &told(Command::Promote, bad_facts(), 1_000));
    assert_eq!((next.phase, writes(&actions)), (Phase::Promoting, vec![Intent::AllToNew]));
    let drift = Command::Pause { reason: "drift of cancer-inputs".into() };
    let (paused, _) = step(&rollout, &told(drift, good_facts(), 1_000));
    assert_eq!((paused.phase, paused.reason.as_str()), (Phase::Paused, "drift of cancer-inputs"));
    assert_eq!(step(&paused, &ready(100_000)).0.phase, Phase::Paused, "a good analysis does not resume");
    let (stopped, _) = step(&paused, &Observation { facts: bad_facts(), ..ready(100_000) });
    assert_eq!(stopped.phase, Phase::RollingBack, "a broken limit still protects the users");
    let (promoted, _) = step(&paused, &told(Command::Promote, good_facts(), 2_000));
    assert_eq!(promoted.phase, Phase::Promoting);
    let (aborted, _) =
        step(&paused, &told(Command::Abort { reason: "superseded by r2".into() }, good_facts(), 2_000));
    assert_eq!(
        (aborted.ends_as, aborted.reason.as_str()),
        (Some(Phase::Aborted), "aborted: superseded by r2")
    );
    let waiting = Observation { target: Readiness::Loading, ..told(Command::Promote, good_facts(), 1_000) };
    let (asked, _) = step(&new_rollout(Some(1), strategy(&[(10, 60.0)])), &waiting);
    assert_eq!(asked.phase, Phase::Preparing, "no traffic before it is loaded");
    assert_eq!(step(&asked, &ready(2_000)).0.phase, Phase::Promoting);
}

#[test]
fn a_promotion_can_be_undone_once_the_old_version_is_loaded() {
    let mut rollout = new_rollout(Some(1), Strategy::immediate());
    for now in [0, 1_000] {
        rollout = step(&rollout, &ready(now)).0;
    }
    assert!(rollout.phase == Phase::Promoted && !rollout.is_active());
    let undo = Command::Rollback { reason: "complaints".into() };
    let cold = Observation { command: Some(undo.clone()), previous: Readiness::Loading, ..ready(2_000) };
    let (waiting, actions) = step(&rollout, &cold);
    assert_eq!((waiting.phase, waiting.is_active(), writes(&actions)), (Phase::Promoted, true, vec![]));
    assert_eq!(step(&waiting, &ready(3_000)).0.phase, Phase::RollingBack);
    let (undone, actions) = step(&rollout, &Observation { command: Some(undo), ..ready(2_000) });
    assert_eq!((undone.phase, writes(&actions)), (Phase::RollingBack, vec![Intent::AllToStable]));
    assert_eq!(plan_table(&undone, &old_table(), 2_000).weights(), [(target(1), 100)]);
    let gone = Readiness::Failed { reason: "its files are gone".into() };
    let (stays, _) = step(&waiting, &Observation { previous: gone, ..ready(3_000) });
    assert_eq!((stays.phase, stays.is_active()), (Phase::Promoted, false));
    assert!(stays.reason.contains("its files are gone"));
}

#[test]
fn strategies_say_which_field_is_wrong() {
    let parse = |json: &str| serde_json::from_str::<Strategy>(json).expect("parses");
    let bad = [
        (r#"{"steps":[{"weight_percent":101,"hold_s":1}]}"#, "steps[0].weight_percent"),
        (
            r#"{"steps":[{"weight_percent":50,"hold_s":1},{"weight_percent":10,"hold_s":1}]}"#,
            "steps[1].weight_percent",
        ),
        (r#"{"steps":[{"weight_percent":10,"hold_s":-1}]}"#, "steps[0].hold_s"),
        (r#"{"shadow_percent":200}"#, "shadow_percent"),
        (r#"{"analysis":{"max_error_rate":1.5}}"#, "analysis.max_error_rate"),
        (r#"{"analysis":{"max_p95_latency_ratio":0.5}}"#, "analysis.max_p95_latency_ratio"),
        (r#"{"prepare_timeout_s":0}"#, "prepare_timeout_s"),
    ];
    for (json, field) in bad {
        assert_eq!(parse(json).validate().expect_err(json).field, field);
    }
    parse("{}").validate().expect("defaults are valid");
    assert!(serde_json::from_str::<Strategy>(r#"{"stepz":[]}"#).is_err(), "unknown fields are refused");
    let same = NewRollout {
        id: "r".into(),
        deployment: "d".into(),
        from: Some(target(2)),
        to: target(2),
        strategy: parse("{}"),
    };
    assert_eq!(Rollout::start(same, 0).expect_err("already stable").field, "version");
}

#[test]
fn readiness_is_that_of_the_slowest_replica() {
    let failed = Readiness::Failed { reason: "r".into() };
    let all = |replicas: &[Readiness]| Readiness::of_all(replicas.iter().cloned());
    assert_eq!(all(&[]), Readiness::Unknown);
    assert_eq!(all(&[Readiness::Ready, Readiness::Ready]), Readiness::Ready);
    assert_eq!(all(&[Readiness::Ready, Readiness::Unknown]), Readiness::Loading);
    assert_eq!(all(&[Readiness::Unknown, Readiness::Ready]), Readiness::Loading);
    assert_eq!(all(&[Readiness::Loading, failed.clone(), Readiness::Ready]), failed);
}

#[test]
fn the_kill_switch_holds_a_rollout_where_it_is_and_still_lets_it_go_back() {
    let killed = |now| Observation { kill_switch_on: true, ..ready(now) };
    let prepared = new_rollout(Some(1), strategy(&[(10, 1.0), (50, 1.0)]));
    let (held, actions) = step(&prepared, &killed(1_000));
    assert_eq!((held.phase, writes(&actions)), (Phase::Preparing, vec![]));
    assert!(held.reason.contains("kill switch"), "{}", held.reason);

    let canary = step(&prepared, &ready(1_000)).0;
    let (held, actions) = step(&canary, &killed(60_000));
    assert_eq!((held.weight_percent(), writes(&actions)), (10, vec![]));
    for command in [Command::Promote, Command::Resume] {
        let paused = step(
            &canary,
            &Observation { command: Some(Command::Pause { reason: "killed".into() }), ..killed(2_000) },
        )
        .0;
        let refused = paused.accepts(&command, true).expect_err("no version gains traffic");
        assert!(refused.to_string().contains("kill switch"), "{refused}");
        assert!(paused.accepts(&command, false).is_ok());
    }
    let (back, actions) = step(&canary, &Observation { facts: bad_facts(), ..killed(2_000) });
    assert_eq!((back.phase, writes(&actions)), (Phase::RollingBack, vec![Intent::AllToStable]));
    let (resumed, _) = step(&held, &ready(60_100));
    assert_eq!(resumed.weight_percent(), 50);
}

#[test]
fn an_alias_that_is_set_again_does_not_retry_what_was_ended() {
    let (one, two) = (target(1), target(2));
    let to = |unchanged| AliasMoved { to: &two, unchanged };
    let running = new_rollout(Some(1), Strategy::default());
    let decide = |moved, newest: Option<&Rollout>, killed| follow_alias(moved, Some(&one), newest, killed);
    assert_eq!(decide(to(false), None, false), AliasDecision::Start);
    assert_eq!(decide(to(false), None, true), AliasDecision::Pending);
    assert_eq!(decide(to(true), Some(&running), true), AliasDecision::InProgress);
    let back = AliasMoved { to: &one, unchanged: false };
    assert_eq!(decide(back, Some(&running), true), AliasDecision::TurnBack, "going back is never held up");
    assert_eq!(decide(back, None, true), AliasDecision::AlreadyStable);

    let abort = Command::Abort { reason: "wrong prices".into() };
    let ending = step(&running, &Observation { command: Some(abort), ..ready(1_000) }).0;
    assert_eq!(decide(to(true), Some(&ending), false), AliasDecision::Start, "as for any rollout that ends");
    let aborted = step(&ending, &ready(2_000)).0;
    let AliasDecision::EndedBefore { phase, reason } = decide(to(true), Some(&aborted), false) else {
        panic!("it was not moved")
    };
    assert_eq!((phase, reason.as_str()), (Phase::Aborted, "aborted: wrong prices"));
    let killed = decide(to(true), Some(&aborted), true);
    assert!(
        matches!(killed, AliasDecision::EndedBefore { .. }),
        "not retried when the switch is turned off either"
    );
    assert_eq!(decide(to(false), Some(&aborted), false), AliasDecision::Start, "moved away and back");
}

#[test]
fn a_promotion_says_what_no_step_judged() {
    let mut quick = strategy(&[(10, 1.0), (50, 1.0)]);
    quick.analysis.min_requests = 0;
    let walk = |facts: [WindowFacts; 2]| {
        let mut rollout = step(&new_rollout(Some(1), quick.clone()), &ready(0)).0;
        for (now, facts) in [2_000, 4_000].into_iter().zip(facts) {
            rollout = step(&rollout, &Observation { facts, ..ready(now) }).0;
        }
        assert_eq!(rollout.phase, Phase::Promoting);
        rollout.reason
    };
    let nothing = walk([WindowFacts::default(), WindowFacts::default()]);
    assert!(
        nothing.starts_with("every step completed, but no limit was judged; not judged: errors"),
        "{nothing}"
    );
    let labelled_once = walk([good_facts(), WindowFacts::default()]);
    assert!(labelled_once.starts_with("every step passed; not judged: distribution"), "{labelled_once}");
    assert!(!labelled_once.contains("accuracy"), "the first step judged it: {labelled_once}");
    let sampled = WindowFacts {
        records: RecordFacts { sample_percent: Some(10.0), dropped_rows: 3, ..RecordFacts::default() },
        ..good_facts()
    };
    let sampled = walk([sampled.clone(), sampled]);
    assert!(
        sampled.contains(
            "only a sample of 10 % of the requests is recorded and the records of 3 rows were dropped"
        ),
        "{sampled}"
    );
}

#[test]
fn a_version_that_cannot_be_rolled_out_fails_before_anything_is_written() {
    let refuse = Command::Refuse { reason: "its signature is not trusted".into() };
    let seen = Observation { now_unix_ms: 5, command: Some(refuse), ..Observation::default() };
    let (failed, actions) = step(&new_rollout(Some(1), Strategy::default()), &seen);
    assert_eq!((failed.phase, failed.is_active()), (Phase::Failed, false));
    let reason = "its signature is not trusted".to_owned();
    assert_eq!(actions, [Action::PublishEvent { kind: EventKind::Failed, reason }]);
    assert_eq!(failed.rollback_decided_at_unix_ms, None, "there was nothing to roll back");
}

#[test]
fn another_version_takes_over_without_waiting_for_the_replicas() {
    let supersede = |now| Observation {
        command: Some(Command::Supersede { by_version: "3".into() }),
        table: TableState::Written,
        ..ready(now)
    };
    let canary = step(&new_rollout(Some(1), strategy(&[(10, 60.0)])), &ready(0)).0;
    let (ended, actions) = step(&canary, &supersede(1_000));
    assert_eq!((ended.phase, ended.reason.as_str()), (Phase::Aborted, "aborted: superseded by version 3"));
    assert_eq!(writes(&actions), [Intent::AllToStable]);
    assert_eq!(events(&actions), [EventKind::Aborted]);
    assert!(actions.iter().any(|action| matches!(action, Action::RecordDecision { .. })));

    let bad = Observation { facts: bad_facts(), ..ready(1_000) };
    let going_back = step(&canary, &bad).0;
    let (ended, actions) = step(&going_back, &supersede(1_100));
    assert_eq!(ended.phase, Phase::RolledBack, "it keeps the reason for which it was going back");
    assert_eq!(ended.reason, going_back.reason);
    assert_eq!((writes(&actions), events(&actions)), (vec![], vec![EventKind::RolledBack]));

    let first = step(&new_rollout(None, Strategy::immediate()), &ready(0)).0;
    let refused = first.accepts(&Command::Supersede { by_version: "3".into() }, false);
    let refused = refused.expect_err("nothing else can serve");
    assert_eq!(
        refused.to_string(),
        "cannot supersede a rollout that is promoting: no version served before this one"
    );
    let delete = Observation { command: Some(Command::Delete), ..ready(1_000) };
    let (deleted, actions) = step(&first, &delete);
    assert_eq!(
        (deleted.phase, deleted.reason.as_str()),
        (Phase::Aborted, "aborted: the deployment was deleted")
    );
    assert_eq!((writes(&actions), events(&actions)), (vec![], vec![EventKind::Aborted]));
}

#[test]
fn stored_rollouts_keep_their_format() {
    let stored = serde_json::json!({
        "id": "0199c0de-0000-7000-8000-000000000001",
        "deployment": "cancer",
        "from": { "version": "1", "digest": "sha256:1" },
        "to": { "version": "2", "digest": "sha256:2" },
        "strategy": {
            "steps": [{ "weight_percent": 10, "hold_s": 60.0 }],
            "shadow_percent": 5,
            "analysis": {
                "min_requests": 20, "max_error_rate": 0.05, "max_error_rate_delta": 0.02,
                "max_p95_latency_ratio": 3.0, "max_divergence": 0.25, "max_prediction_shift": 0.3,
                "max_same_input_divergence": 0.5, "min_labels": 0, "max_accuracy_drop": 0.05,
                "interval_ms": 1000, "max_inconclusive_s": 600.0
            },
            "prepare_timeout_s": 600.0
        },
        "phase": "paused",
        "step": 0,
        "reason": "drift of cancer-inputs",
        "phase_since_unix_ms": 1_000,
        "window_since_unix_ms": 900,
        "last_verdict": "inconclusive",
        "judged": ["error_rate", "accuracy"],
        "paused_in": "progressing",
        "ends_as": null,
        "promote_requested": false,
        "undo_requested": null,
        "created_at_unix_ms": 100,
        "updated_at_unix_ms": 1_000,
        "promotion_decided_at_unix_ms": null,
        "rollback_decided_at_unix_ms": null
    });
    let rollout: Rollout = serde_json::from_value(stored.clone()).expect("reads");
    assert_eq!(serde_json::to_value(&rollout).expect("writes"), stored);
    assert_eq!((rollout.unpaused_phase(), rollout.weight_percent()), (Phase::Progressing, 10));
    let resume = Observation { command: Some(Command::Resume), ..ready(2_000) };
    assert_eq!(step(&rollout, &resume).0.phase(), Phase::Progressing);

    // Rows from before judged clauses were kept have no such field.
    let mut older = stored;
    older.as_object_mut().expect("an object").remove("judged");
    assert!(serde_json::from_value::<Rollout>(older).expect("reads").judged.is_empty());
}
