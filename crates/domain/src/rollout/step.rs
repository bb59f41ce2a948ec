//! The state machine of a rollout: one observation in, the next state and its actions out.

use super::{
    action::{Action, EventKind, Intent},
    analysis::{Analysed, Evidence, analyse},
    clause::{Clause, ClauseName, NotJudged, Verdict},
    command::Command,
    judged::{in_words, judged, left_out},
    observation::{Observation, Readiness, TableState},
    state::{Phase, Rollout},
    strategy::milliseconds,
};

/// A table that some live replica has not confirmed for so long counts as applied, milliseconds: a replica
/// that hangs must not hold up the others, and one that is dead is forgotten long before.
pub const PROPAGATION_TIMEOUT_MS: u64 = 60_000;

/// Why a rollout stays where it is while the kill switch is on.
const HELD: &str = "the kill switch of the deployment is on, and no version gains traffic";

/// Advances a rollout by at most one phase or canary step.
///
/// Pure: the same state and observation give the same result. Step the active rollout of a deployment, or its
/// newest one: a final rollout still restores its table where it was lost, and an older one would fight with
/// its successor. A command that the phase does not accept is ignored; ask [`Rollout::accepts`] first to
/// report that.
///
/// While [`Observation::kill_switch_on`], no step raises [`Rollout::weight_percent`]: a limit that is broken
/// still rolls back, everything else waits until the switch is off.
pub fn step(rollout: &Rollout, seen: &Observation) -> (Rollout, Vec<Action>) {
    let mut machine = Machine { next: rollout.clone(), seen, actions: Vec::new() };
    let commanded = seen.command.as_ref().is_some_and(|command| machine.obey(command));
    if !commanded {
        machine.advance();
    }
    if machine.next != *rollout {
        machine.next.updated_at_unix_ms = seen.now_unix_ms;
    }
    (machine.next, machine.actions)
}

struct Machine<'seen> {
    next: Rollout,
    seen: &'seen Observation,
    actions: Vec<Action>,
}

impl Machine<'_> {
    /// Whether the command changed the phase, so that nothing else may happen in this step.
    fn obey(&mut self, command: &Command) -> bool {
        if self.next.accepts(command, self.seen.kill_switch_on).is_err() {
            return false;
        }
        match command {
            Command::Promote => {
                self.next.promote_requested = true;
                self.next.paused_in.take().inspect(|phase| self.next.phase = *phase);
                "promoted by an operator".clone_into(&mut self.next.reason);
                // Done in this step if the version is ready, else as soon as it is.
                false
            }
            Command::Pause { reason } => {
                self.pause(reason);
                true
            }
            Command::Resume => {
                self.resume();
                true
            }
            Command::Abort { reason } => {
                self.end_by_hand(Phase::Aborted, reason);
                true
            }
            Command::Rollback { reason } if self.next.phase == Phase::Promoted => {
                self.next.undo_requested = Some(reason.clone());
                false
            }
            Command::Rollback { reason } => {
                self.end_by_hand(Phase::RolledBack, reason);
                true
            }
            Command::Refuse { reason } => {
                self.refuse(reason);
                true
            }
            Command::Supersede { by_version } => {
                if self.end_now(&format!("superseded by version {by_version}")) {
                    self.write_traffic();
                }
                true
            }
            // No table is written: it is deleted with the deployment.
            Command::Delete => {
                self.end_now("the deployment was deleted");
                true
            }
        }
    }

    /// Fails a rollout that has not started. Where its table was not written yet, nothing has to be taken
    /// back.
    fn refuse(&mut self, why: &str) {
        let is_written = self.seen.table != TableState::Differs;
        why.clone_into(&mut self.next.reason);
        self.finish(Phase::Failed);
        if is_written {
            self.write_traffic();
        }
    }

    /// Ends a rollout in progress without waiting for the replicas. `true` where its table still has to be
    /// written.
    fn end_now(&mut self, why: &str) -> bool {
        if self.next.undo_requested.take().is_some() {
            // It was promoted, and the version is stable.
            return false;
        }
        let is_written = self.next.ends_as.is_some() && self.seen.table != TableState::Differs;
        if self.next.ends_as.is_none() {
            self.condemn(Phase::Aborted, why);
        }
        self.finish(self.next.ends_as.unwrap_or(Phase::Aborted));
        !is_written
    }

    fn advance(&mut self) {
        match self.next.phase {
            Phase::Preparing => self.prepare(),
            Phase::Progressing => self.progress(),
            Phase::Paused => self.watch_while_paused(),
            Phase::Promoting => self.settle(Phase::Promoted),
            Phase::RollingBack => self.settle(self.next.ends_as.unwrap_or(Phase::RolledBack)),
            Phase::Promoted => self.undo(),
            Phase::RolledBack | Phase::Failed | Phase::Aborted => self.heal_table(),
        }
    }

    fn prepare(&mut self) {
        if self.fail_if_unloadable() {
            return;
        }
        if self.seen.target == Readiness::Ready {
            if self.seen.kill_switch_on {
                self.next.reason = format!("version {} is loaded; {HELD}", self.next.to.version);
                self.heal_table();
                return;
            }
            let straight = self.next.promote_requested
                || self.next.from.is_none()
                || self.next.strategy.steps.is_empty();
            if straight {
                let why = if self.next.from.is_none() {
                    "the first version is loaded"
                } else {
                    "the version is loaded; no limit was judged: the strategy has no steps"
                };
                self.promote(why);
            } else {
                self.begin_step(self.next.step, "the version is loaded");
            }
            return;
        }
        let timeout_ms = milliseconds(self.next.strategy.prepare_timeout_s);
        if self.elapsed(self.next.phase_since_unix_ms, timeout_ms) {
            let why = match &self.seen.target {
                Readiness::Waiting { reason } => format!(": {reason}"),
                _ => String::new(),
            };
            let reason = format!(
                "version {} was not ready within the {} s of prepare_timeout_s{why}",
                self.next.to.version, self.next.strategy.prepare_timeout_s
            );
            self.record(Verdict::Fail, &reason, readiness_evidence(&reason));
            self.roll_back(Phase::Failed, &reason);
            return;
        }
        if let Readiness::Waiting { reason } = &self.seen.target {
            self.next.reason = format!("version {} is loading: {reason}", self.next.to.version);
        }
        self.heal_table();
    }

    fn progress(&mut self) {
        if self.fail_if_unloadable() {
            return;
        }
        let ready = self.seen.target == Readiness::Ready;
        // A person's word wins over the analysis.
        if self.next.promote_requested && ready && !self.seen.kill_switch_on {
            self.promote("promoted by hand");
            return;
        }
        let analysed = analyse(&self.next.strategy, &self.seen.facts);
        if analysed.verdict == Verdict::Fail {
            self.fail(analysed);
            return;
        }
        if self.seen.kill_switch_on {
            self.next.reason = format!("step {} does not end: {HELD}", self.next.step + 1);
            self.heal_table();
            return;
        }
        let hold_ms =
            self.next.strategy.steps.get(self.next.step).map_or(0, |step| milliseconds(step.hold_s));
        if self.seen.table == TableState::Differs || !self.elapsed(self.next.window_since_unix_ms, hold_ms) {
            self.heal_table();
            return;
        }
        match analysed.verdict {
            Verdict::Pass if ready && !self.lacks_stable() => self.pass(analysed),
            _ => self.wait_for_data(analysed, hold_ms),
        }
    }

    /// Whether nothing came of the stable version, though it has a share of the traffic: its records are late
    /// or lost, and the limits that compare the two versions were not checked.
    fn lacks_stable(&self) -> bool {
        let strategy = &self.next.strategy;
        let weight_percent = strategy.steps.get(self.next.step).map_or(100, |step| step.weight_percent);
        weight_percent < 100 && strategy.analysis.min_requests > 0 && self.seen.facts.stable.requests == 0
    }

    fn pass(&mut self, analysed: Analysed) {
        let reason = analysed.reason.clone();
        self.next.judged.extend(judged(&analysed.evidence.clauses));
        let promoted = self.promotion_reason(&analysed.evidence);
        self.record(Verdict::Pass, &reason, analysed.evidence);
        if self.next.step + 1 < self.next.strategy.steps.len() {
            self.begin_step(self.next.step + 1, &reason);
        } else {
            self.promote(&promoted);
        }
    }

    /// Names what no step judged, so that a promotion that nothing spoke for does not look like one that was
    /// examined.
    fn promotion_reason(&self, last: &Evidence) -> String {
        let judged = &self.next.judged;
        let missing: Vec<NotJudged> =
            last.not_judged.iter().filter(|one| !judged.contains(&one.clause)).cloned().collect();
        let passed = if judged.is_empty() {
            "every step completed, but no limit was judged"
        } else {
            "every step passed"
        };
        format!("{passed}{}{}", in_words(&missing), left_out(&self.seen.facts))
    }

    fn wait_for_data(&mut self, analysed: Analysed, hold_ms: u64) {
        let Analysed { verdict, reason, evidence } = analysed;
        let reason = match verdict {
            Verdict::Pass if self.seen.target == Readiness::Ready => {
                "requests: none of stable arrived, so that nothing could be compared".to_owned()
            }
            Verdict::Pass => format!("version {} is not ready on every replica", self.next.to.version),
            _ => reason,
        };
        if self.next.last_verdict != Some(Verdict::Inconclusive) {
            self.record(Verdict::Inconclusive, &reason, evidence);
        }
        let patience_ms = hold_ms + milliseconds(self.next.strategy.analysis.max_inconclusive_s);
        if self.elapsed(self.next.window_since_unix_ms, patience_ms) {
            self.pause(&format!("inconclusive for longer than max_inconclusive_s: {reason}"));
        }
    }

    /// A pause holds the traffic where it is, and a broken limit would go on hurting: it still rolls back.
    fn watch_while_paused(&mut self) {
        if self.fail_if_unloadable() {
            return;
        }
        if self.next.paused_in == Some(Phase::Progressing) {
            let analysed = analyse(&self.next.strategy, &self.seen.facts);
            if analysed.verdict == Verdict::Fail {
                self.fail(analysed);
                return;
            }
        }
        self.heal_table();
    }

    fn fail(&mut self, analysed: Analysed) {
        self.record(Verdict::Fail, &analysed.reason.clone(), analysed.evidence);
        self.roll_back(Phase::RolledBack, &analysed.reason);
    }

    fn fail_if_unloadable(&mut self) -> bool {
        let Readiness::Failed { reason } = &self.seen.target else { return false };
        let reason = format!("version {} cannot be loaded: {reason}", self.next.to.version);
        let never_served = self.next.intent() == Intent::Prepare;
        self.record(Verdict::Fail, &reason, readiness_evidence(&reason));
        self.roll_back(if never_served { Phase::Failed } else { Phase::RolledBack }, &reason);
        true
    }

    /// Waits until every replica routes by the table, then ends in `last`.
    fn settle(&mut self, last: Phase) {
        let confirmed = match self.seen.table {
            TableState::Differs => {
                self.heal_table();
                return;
            }
            TableState::Written => self.elapsed(self.next.phase_since_unix_ms, PROPAGATION_TIMEOUT_MS),
            TableState::Applied => true,
        };
        if !confirmed {
            return;
        }
        self.finish(last);
    }

    /// Enters a final phase and tells the others.
    fn finish(&mut self, last: Phase) {
        let kind = match last {
            Phase::Promoted => EventKind::Promoted,
            Phase::Failed => EventKind::Failed,
            Phase::Aborted => EventKind::Aborted,
            _ => EventKind::RolledBack,
        };
        self.next.ends_as = None;
        self.enter(last);
        self.publish(kind);
    }

    /// Carries out a rollback of a promoted version as soon as the version before is loaded; it is kept
    /// loaded, so immediately.
    fn undo(&mut self) {
        let Some(why) = self.next.undo_requested.clone() else {
            self.heal_table();
            return;
        };
        match &self.seen.previous {
            Readiness::Ready => {
                self.next.undo_requested = None;
                self.end_by_hand(Phase::RolledBack, &why);
            }
            Readiness::Failed { reason } => {
                self.next.undo_requested = None;
                let version = self.next.from.as_ref().map_or("", |from| from.version.as_str());
                self.next.reason = format!("stays promoted: version {version} cannot be loaded: {reason}");
            }
            Readiness::Unknown | Readiness::Loading | Readiness::Waiting { .. } => self.heal_table(),
        }
    }

    fn begin_step(&mut self, index: usize, why: &str) {
        self.next.step = index;
        self.enter(Phase::Progressing);
        self.next.reason = format!(
            "step {} of {} at {} percent: {why}",
            index + 1,
            self.next.strategy.steps.len(),
            self.next.weight_percent()
        );
        self.begin_window();
        self.write_traffic();
        self.publish(EventKind::Advanced);
    }

    fn promote(&mut self, why: &str) {
        self.enter(Phase::Promoting);
        self.next.promotion_decided_at_unix_ms = Some(self.seen.now_unix_ms);
        why.clone_into(&mut self.next.reason);
        if self.next.promote_requested {
            self.next.promote_requested = false;
            let evidence = self.present_evidence();
            let mut judged_so_far = self.next.judged.clone();
            judged_so_far.extend(judged(&evidence.clauses));
            let missing: Vec<NotJudged> = evidence
                .not_judged
                .iter()
                .filter(|one| !judged_so_far.contains(&one.clause))
                .cloned()
                .collect();
            let reason = format!("promoted by hand{}", in_words(&missing));
            self.next.reason.clone_from(&reason);
            self.record(Verdict::Pass, &reason, evidence);
        }
        self.write_traffic();
    }

    fn pause(&mut self, why: &str) {
        self.next.paused_in = Some(self.next.phase);
        self.enter(Phase::Paused);
        why.clone_into(&mut self.next.reason);
        self.publish(EventKind::Paused);
    }

    fn resume(&mut self) {
        let phase = self.next.paused_in.take().unwrap_or(Phase::Progressing);
        self.enter(phase);
        "resumed by hand".clone_into(&mut self.next.reason);
        self.begin_window();
        self.publish(EventKind::Resumed);
    }

    fn end_by_hand(&mut self, last: Phase, why: &str) {
        self.condemn(last, why);
        self.write_traffic();
    }

    /// Decides and records that a rollout ends for a reason other than its analysis; its table still has to
    /// be written.
    fn condemn(&mut self, last: Phase, why: &str) {
        let what = if last == Phase::Aborted { "aborted" } else { "rolled back by an operator" };
        let reason = if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") };
        self.record(Verdict::Fail, &reason, self.present_evidence());
        self.turn_back(last, &reason);
    }

    fn roll_back(&mut self, last: Phase, why: &str) {
        self.turn_back(last, why);
        self.write_traffic();
    }

    fn turn_back(&mut self, last: Phase, why: &str) {
        self.next.paused_in = None;
        self.next.promote_requested = false;
        self.next.ends_as = Some(last);
        self.enter(Phase::RollingBack);
        self.next.rollback_decided_at_unix_ms = Some(self.seen.now_unix_ms);
        why.clone_into(&mut self.next.reason);
    }

    fn enter(&mut self, phase: Phase) {
        self.next.phase = phase;
        self.next.phase_since_unix_ms = self.seen.now_unix_ms;
    }

    fn begin_window(&mut self) {
        self.next.window_since_unix_ms = self.seen.now_unix_ms;
        self.next.last_verdict = None;
        self.actions.push(Action::BeginWindow);
    }

    fn record(&mut self, verdict: Verdict, reason: &str, evidence: Evidence) {
        self.next.last_verdict = Some(verdict);
        self.actions.push(Action::RecordDecision {
            step: self.next.step,
            verdict,
            reason: reason.to_owned(),
            evidence: Box::new(evidence),
        });
    }

    fn present_evidence(&self) -> Evidence {
        analyse(&self.next.strategy, &self.seen.facts).evidence
    }

    fn publish(&mut self, kind: EventKind) {
        self.actions.push(Action::PublishEvent { kind, reason: self.next.reason.clone() });
    }

    fn write_traffic(&mut self) {
        self.actions.push(Action::WriteTraffic(self.next.intent()));
    }

    /// Writes the table again where the stored one is not what the state asks for: the write was lost in a
    /// crash, or the table itself was. A version on trial that is not ready is prepared again, because
    /// nothing but a table makes replicas load it; one that is stable already is the only one there is.
    fn heal_table(&mut self) {
        if self.seen.table != TableState::Differs {
            return;
        }
        let on_trial = matches!(self.next.intent(), Intent::Canary { .. } | Intent::AllToNew);
        if on_trial && self.next.phase != Phase::Promoted && self.seen.target != Readiness::Ready {
            self.next.promote_requested |= self.next.phase == Phase::Promoting;
            match self.next.phase {
                Phase::Paused => self.next.paused_in = Some(Phase::Preparing),
                _ => self.enter(Phase::Preparing),
            }
            "the traffic table was lost and the new version is being loaded again"
                .clone_into(&mut self.next.reason);
        }
        self.write_traffic();
    }

    fn elapsed(&self, since_unix_ms: u64, wait_ms: u64) -> bool {
        self.seen.now_unix_ms >= since_unix_ms.saturating_add(wait_ms)
    }
}

fn readiness_evidence(reason: &str) -> Evidence {
    let clause = Clause {
        clause: ClauseName::Readiness,
        verdict: Verdict::Fail,
        candidate: 0.0,
        stable: None,
        limit: 1.0,
        bound: None,
        samples: 0,
        message: format!("readiness: {reason}"),
    };
    Evidence { clauses: vec![clause], ..Evidence::default() }
}
