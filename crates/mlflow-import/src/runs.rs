//! Runs: at once where they stand alone; where they refer to logged models, the rest of them follows when
//! those are there.

use std::cell::RefCell;
use std::collections::HashSet;

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::artifacts::{self, Owner, Place};
use crate::batch::{Batch, Entity};
use crate::body;
use crate::experiments::Experiments;
use crate::failure::Failure;
use crate::json::{integer, list, next_page, object, pair, text};
use crate::mark::{self, State};
use crate::report::Kind;
use crate::state::Import;

/// Runs of one page; those of large runs are large.
const PAGE: u32 = 200;
/// Experiments of one search.
const EXPERIMENTS_AT_ONCE: usize = 100;
/// Points of one page of a history; MLflow's own limit.
const HISTORY_PAGE: &str = "25000";

/// A run whose records are there, and whose rest is not yet.
#[derive(Debug)]
pub(crate) struct Pending {
    run_id: String,
    experiment: String,
    source_uri: String,
    target_uri: String,
    model_inputs: Vec<String>,
    model_outputs: Vec<(String, i64)>,
    /// Of the run as it is wanted here.
    digest: String,
    over: bool,
    deleted: bool,
    fresh: bool,
}

impl Pending {
    /// Whether it has to wait for the logged models. Deleted runs do, as those may still log metrics to them.
    fn waits(&self) -> bool {
        self.deleted || !self.model_inputs.is_empty() || !self.model_outputs.is_empty()
    }
}

/// What has to be done for one run.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    /// It is incomplete, or has changed since; restored first if it is deleted.
    Again {
        restore: bool,
    },
    /// Its records are there, and what comes after the logged models is not.
    Rest,
    /// All is there but its end.
    Delete,
    Skip,
    Refuse,
}

/// `digest` is the run's own, `wanted` that of the run as it is wanted here.
fn step(run: &Value, target: Option<&Value>, digest: &str, wanted: &str) -> Step {
    let Some(target) = target else { return Step::Create };
    let deleted_there = body::is_deleted(target, "/info/lifecycle_stage");
    let tags = list(target, "/data/tags");
    let records_there = pair(tags, mark::DIGEST_TAG) == Some(mark::records_alone(digest).as_str());
    match mark::state(tags, text(run, "/info/run_id"), wanted) {
        State::Complete if body::is_deleted(run, "/info/lifecycle_stage") && !deleted_there => Step::Delete,
        State::Complete => Step::Skip,
        State::Partial if records_there && !deleted_there => Step::Rest,
        State::Partial => Step::Again { restore: deleted_there },
        State::Foreign => Step::Refuse,
    }
}

/// Copies all runs of the experiments; answers with those whose rest has to wait for the logged models.
pub(crate) async fn copy(import: &Import, experiments: &Experiments) -> Vec<Pending> {
    let pending = RefCell::new(Vec::new());
    for ids in experiments.source_ids().chunks(EXPERIMENTS_AT_ONCE) {
        let mut token = String::new();
        loop {
            let search = json!({
                // The oldest first, so that new runs do not move the pages.
                "experiment_ids": ids, "run_view_type": "ALL", "max_results": PAGE,
                "order_by": ["attributes.start_time ASC"], "page_token": token,
            });
            let page = match import.source.post("runs/search", &search).await {
                Ok(page) => page,
                Err(failure) => {
                    ids.iter().for_each(|id| experiments.mark_failed(id));
                    import.report.failed(Kind::Runs, "as they were listed", failure);
                    break;
                }
            };
            let runs = list(&page, "/runs");
            import.report.found(Kind::Runs, runs.len());
            let each = futures::stream::iter(runs).for_each_concurrent(import.concurrency(), async |run| {
                match record(import, experiments, run).await {
                    Some(made) if made.waits() => pending.borrow_mut().push(made),
                    Some(made) => settle(import, &made, &HashSet::new(), experiments).await,
                    None => {}
                }
            });
            each.await;
            match next_page(&page) {
                Some(next) if import.stopped().is_none() => token = next,
                _ => break,
            }
        }
    }
    pending.into_inner()
}

async fn record(import: &Import, experiments: &Experiments, run: &Value) -> Option<Pending> {
    if import.stopped().is_some() {
        return None;
    }
    match try_record(import, experiments, run).await {
        Ok(pending) => pending,
        Err(failure) => {
            let run_id = text(run, "/info/run_id");
            experiments.mark_failed(text(run, "/info/experiment_id"));
            import.mark_incomplete(run_id);
            import.report.failed(Kind::Runs, run_id, failure);
            None
        }
    }
}

async fn try_record(
    import: &Import,
    experiments: &Experiments,
    run: &Value,
) -> Result<Option<Pending>, Failure> {
    let run_id = text(run, "/info/run_id");
    let digest = body::run_digest(run);
    let wanted = import.wanted_digest(&digest);
    let target = match import.target.get("runs/get", &[("run_id", run_id)]).await {
        Ok(answer) => answer.get("run").cloned(),
        Err(failure) if failure.is_absent() => None,
        Err(failure) => return Err(failure),
    };
    let step = step(run, target.as_ref(), &digest, &wanted);
    match step {
        Step::Refuse => {
            return Err(Failure::Refused {
                status: 0,
                code: "RESOURCE_ALREADY_EXISTS".to_owned(),
                message: "the registry has a run of this id that was not imported".to_owned(),
            });
        }
        Step::Skip => {
            import.report.skipped(Kind::Runs);
            return Ok(None);
        }
        Step::Delete => {
            delete(import, run_id).await?;
            import.report.copied(Kind::Runs);
            return Ok(None);
        }
        Step::Create | Step::Again { .. } | Step::Rest => {}
    }
    let target_uri =
        target.as_ref().map(|run| text(run, "/info/artifact_uri").to_owned()).unwrap_or_default();
    let mut run_pending = pending(run, target_uri, wanted, step == Step::Create);
    if !import.options.dry_run && step != Step::Rest {
        let experiment_id = experiments.target_id(text(run, "/info/experiment_id")).unwrap_or_default();
        if let Some(made) = begin(import, run, experiment_id, &step).await? {
            run_pending.target_uri = made;
        }
        write(import, run, &step).await?;
        if run_pending.over && run_pending.waits() {
            mark_run(import, run_id, &mark::records_alone(&digest)).await?;
        }
    }
    Ok(Some(run_pending))
}

fn pending(run: &Value, target_uri: String, digest: String, fresh: bool) -> Pending {
    let models = |pointer: &str| {
        list(run, pointer)
            .iter()
            .map(|model| (text(model, "/model_id").to_owned(), integer(model, "/step").unwrap_or(0)))
            .collect::<Vec<(String, i64)>>()
    };
    Pending {
        run_id: text(run, "/info/run_id").to_owned(),
        experiment: text(run, "/info/experiment_id").to_owned(),
        source_uri: text(run, "/info/artifact_uri").to_owned(),
        target_uri,
        model_inputs: models("/inputs/model_inputs").into_iter().map(|(id, _)| id).collect(),
        model_outputs: models("/outputs/model_outputs"),
        digest,
        over: body::run_is_over(run),
        deleted: body::is_deleted(run, "/info/lifecycle_stage"),
        fresh,
    }
}

/// Makes the run, or brings it back; answers with the URI of the files of a new one.
async fn begin(
    import: &Import,
    run: &Value,
    experiment_id: &str,
    step: &Step,
) -> Result<Option<String>, Failure> {
    let run_id = text(run, "/info/run_id");
    match step {
        Step::Create => {
            let create = body::run_create(run, experiment_id, &import.source.address);
            let answer = match import.target.post("runs/create", &create).await {
                // A try whose answer was lost has made it.
                Err(failure) if failure.is("RESOURCE_ALREADY_EXISTS") => {
                    import.target.get("runs/get", &[("run_id", run_id)]).await?
                }
                answer => answer?,
            };
            Ok(Some(text(&answer, "/run/info/artifact_uri").to_owned()))
        }
        Step::Again { restore: true } => {
            import.target.post("runs/restore", &json!({ "run_id": run_id })).await?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Params, tags, whole histories, data sets, status and end. All of it may be written twice.
async fn write(import: &Import, run: &Value, step: &Step) -> Result<(), Failure> {
    let run_id = text(run, "/info/run_id");
    let target = &import.target;
    let mut batch = Batch::new(run_id);
    let params = list(run, "/data/params").iter().map(|param| (Entity::Param, param.clone()));
    // A new run has its tags already.
    let tags = if *step == Step::Create { Vec::new() } else { body::run_tags(run) };
    for (entity, value) in params.chain(tags.into_iter().map(|tag| (Entity::Tag, tag))) {
        if let Some(full) = batch.push(entity, value) {
            target.post("runs/log-batch", &full).await?;
        }
    }
    for metric in list(run, "/data/metrics") {
        history(import, run_id, text(metric, "/key"), &mut batch).await?;
    }
    if let Some(rest) = batch.take() {
        target.post("runs/log-batch", &rest).await?;
    }
    for input in list(run, "/inputs/dataset_inputs") {
        // One at a time, as the profile of one may have 16 MiB.
        target.post("runs/log-inputs", &json!({"run_id": run_id, "datasets": [input]})).await?;
    }
    target.post("runs/update", &body::run_update(run)).await?;
    Ok(())
}

async fn history(import: &Import, run_id: &str, key: &str, batch: &mut Batch) -> Result<(), Failure> {
    let mut token = String::new();
    loop {
        let mut query = vec![("run_id", run_id), ("metric_key", key), ("max_results", HISTORY_PAGE)];
        if !token.is_empty() {
            query.push(("page_token", &token));
        }
        let page = import.source.get("metrics/get-history", &query).await?;
        for point in list(&page, "/metrics") {
            if let Some(full) = batch.push(Entity::Metric, body::metric(point)) {
                import.target.post("runs/log-batch", &full).await?;
            }
        }
        match next_page(&page) {
            Some(next) => token = next,
            None => return Ok(()),
        }
    }
}

async fn delete(import: &Import, run_id: &str) -> Result<(), Failure> {
    if !import.options.dry_run {
        import.target.post("runs/delete", &json!({ "run_id": run_id })).await?;
    }
    Ok(())
}

/// Copies the rest of the runs: links to logged models, files, the mark, and the deletion of deleted ones.
pub(crate) async fn finish(
    import: &Import,
    pending: Vec<Pending>,
    known_models: &HashSet<String>,
    experiments: &Experiments,
) {
    let each = futures::stream::iter(pending).for_each_concurrent(import.concurrency(), async |run| {
        settle(import, &run, known_models, experiments).await;
    });
    each.await;
}

async fn settle(import: &Import, run: &Pending, known_models: &HashSet<String>, experiments: &Experiments) {
    if import.stopped().is_some() {
        return experiments.mark_failed(&run.experiment);
    }
    let why = match finish_one(import, run, known_models).await {
        Ok(true) => return import.report.copied(Kind::Runs),
        Ok(false) => "not all of its files could be copied".to_owned(),
        Err(failure) => failure.to_string(),
    };
    experiments.mark_failed(&run.experiment);
    import.report.failed(Kind::Runs, &run.run_id, why);
}

async fn finish_one(import: &Import, run: &Pending, known_models: &HashSet<String>) -> Result<bool, Failure> {
    if !import.options.dry_run {
        link(import, run, known_models).await?;
    }
    let place = Place { source_uri: &run.source_uri, target_uri: &run.target_uri, fresh: run.fresh };
    if !artifacts::copy(import, Owner::Run(&run.run_id), &place).await {
        return Ok(false);
    }
    if run.over && !import.options.dry_run {
        mark_run(import, &run.run_id, &run.digest).await?;
    }
    if run.deleted {
        delete(import, &run.run_id).await?;
    }
    Ok(true)
}

async fn mark_run(import: &Import, run_id: &str, digest: &str) -> Result<(), Failure> {
    let tags = [mark::source(&import.source.address, run_id), mark::complete(digest)];
    import.target.post("runs/log-batch", &json!({"run_id": run_id, "tags": tags})).await.map(drop)
}

/// Logged models that the run took in and brought forth. One that is deleted at the source cannot be linked.
async fn link(import: &Import, run: &Pending, known_models: &HashSet<String>) -> Result<(), Failure> {
    let is_known = |model_id: &str| {
        let known = known_models.contains(model_id);
        if !known {
            let why = "is deleted at the source or not among what is copied";
            import
                .report
                .note(format!("run {} is copied without its link to {model_id}, which {why}", run.run_id));
        }
        known
    };
    let inputs: Vec<Value> = run
        .model_inputs
        .iter()
        .filter(|model_id| is_known(model_id))
        .map(|model_id| json!({ "model_id": model_id }))
        .collect();
    let outputs: Vec<Value> = run
        .model_outputs
        .iter()
        .filter(|(model_id, _)| is_known(model_id))
        .map(|(model_id, step)| json!({"model_id": model_id, "step": step}))
        .collect();
    for (path, models) in [("runs/log-inputs", inputs), ("runs/outputs", outputs)] {
        if !models.is_empty() {
            let body = object([("run_id", Some(run.run_id.clone().into())), ("models", Some(models.into()))]);
            import.target.post(path, &body).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_run_is_left_alone_and_a_changed_one_is_copied_again() {
        let source = |stage: &str| json!({"info": {"run_id": "r", "lifecycle_stage": stage}});
        let target = |stage: &str, digest: &str| {
            let tags = [mark::source("http://old", "r"), mark::complete(digest)];
            json!({"info": {"lifecycle_stage": stage}, "data": {"tags": tags}})
        };
        let of = |source: &Value, target: &Value| step(source, Some(target), "d", "d+artifacts");
        assert_eq!(step(&source("active"), None, "d", "d"), Step::Create);
        assert_eq!(of(&source("active"), &target("active", "d+artifacts")), Step::Skip);
        // Deleted here by someone: that is their decision.
        assert_eq!(of(&source("active"), &target("deleted", "d+artifacts")), Step::Skip);
        assert_eq!(of(&source("active"), &target("active", "d+records")), Step::Rest);
        assert_eq!(of(&source("active"), &target("active", "d")), Step::Again { restore: false });
        assert_eq!(of(&source("active"), &target("active", "e")), Step::Again { restore: false });
        assert_eq!(of(&source("active"), &target("deleted", "e")), Step::Again { restore: true });
        assert_eq!(of(&source("deleted"), &target("active", "d+artifacts")), Step::Delete);
        assert_eq!(of(&source("active"), &json!({"info": {}, "data": {}})), Step::Refuse);
    }
}
