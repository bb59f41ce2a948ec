//! Logged models of MLflow 3, with their files. A server of MLflow 2 has none.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::artifacts::{self, Owner, Place};
use crate::batch::{Batch, Entity};
use crate::body;
use crate::experiments::Experiments;
use crate::failure::Failure;
use crate::json::{list, next_page, text};
use crate::mark::{self, State};
use crate::report::Kind;
use crate::state::Import;

const PAGE: u32 = 50;
const EXPERIMENTS_AT_ONCE: usize = 100;

/// Copies the logged models of the experiments; answers with the ids of all that were found.
pub(crate) async fn copy(import: &Import, experiments: &Experiments) -> HashSet<String> {
    let known = RefCell::new(HashSet::new());
    for ids in experiments.source_ids().chunks(EXPERIMENTS_AT_ONCE) {
        let mut token = String::new();
        while import.stopped().is_none() {
            let search = json!({"experiment_ids": ids, "max_results": PAGE, "page_token": token});
            let page = match import.source.post("logged-models/search", &search).await {
                Ok(page) => page,
                Err(failure) if failure.is_absent() => return known.into_inner(),
                Err(failure) => {
                    ids.iter().for_each(|id| experiments.mark_failed(id));
                    import.report.failed(Kind::LoggedModels, "as they were listed", failure);
                    break;
                }
            };
            let models = list(&page, "/models");
            import.report.found(Kind::LoggedModels, models.len());
            let each =
                futures::stream::iter(models).for_each_concurrent(import.concurrency(), async |model| {
                    if one(import, experiments, model).await {
                        known.borrow_mut().insert(text(model, "/info/model_id").to_owned());
                    }
                });
            each.await;
            match next_page(&page) {
                Some(next) => token = next,
                None => break,
            }
        }
    }
    known.into_inner()
}

/// Copies one; answers whether it is in the registry now, complete or not.
async fn one(import: &Import, experiments: &Experiments, model: &Value) -> bool {
    if import.stopped().is_some() {
        return false;
    }
    let model_id = text(model, "/info/model_id");
    match try_one(import, experiments, model).await {
        Ok(None) => import.report.skipped(Kind::LoggedModels),
        Ok(Some(true)) => import.report.copied(Kind::LoggedModels),
        Ok(Some(false)) => {
            experiments.mark_failed(text(model, "/info/experiment_id"));
            import.report.failed(Kind::LoggedModels, model_id, "not all of its files could be copied");
        }
        Err(failure) => {
            experiments.mark_failed(text(model, "/info/experiment_id"));
            import.mark_incomplete(model_id);
            import.report.failed(Kind::LoggedModels, model_id, failure);
            return false;
        }
    }
    true
}

/// `None` where it is complete already; else whether it is now.
async fn try_one(import: &Import, experiments: &Experiments, model: &Value) -> Result<Option<bool>, Failure> {
    let model_id = text(model, "/info/model_id");
    let digest = import.wanted_digest(&body::logged_model_digest(model));
    let path = format!("logged-models/{model_id}");
    let target = match import.target.get(&path, &[]).await {
        Ok(answer) => answer.get("model").cloned(),
        Err(failure) if failure.is_absent() => None,
        Err(failure) => return Err(failure),
    };
    if let Some(target) = &target {
        match mark::state(list(target, "/info/tags"), model_id, &digest) {
            State::Complete => return Ok(None),
            State::Partial => {}
            State::Foreign => {
                return Err(Failure::Refused {
                    status: 0,
                    code: "RESOURCE_ALREADY_EXISTS".to_owned(),
                    message: "the registry has a logged model of this id that was not imported".to_owned(),
                });
            }
        }
    }
    let fresh = target.is_none();
    let mut target_uri = String::new();
    if let Some(target) = &target {
        text(target, "/info/artifact_uri").clone_into(&mut target_uri);
    }
    if !import.options.dry_run {
        let experiment_id = experiments.target_id(text(model, "/info/experiment_id")).unwrap_or_default();
        if let Some(made) = write(import, model, experiment_id, fresh).await? {
            target_uri = made;
        }
    }
    let place = Place { source_uri: text(model, "/info/artifact_uri"), target_uri: &target_uri, fresh };
    if !artifacts::copy(import, Owner::LoggedModel(model_id), &place).await {
        return Ok(Some(false));
    }
    if !import.options.dry_run {
        end(import, model, &digest).await?;
    }
    Ok(Some(true))
}

/// Its record; answers with the URI of the files of a new one.
async fn write(
    import: &Import,
    model: &Value,
    experiment_id: &str,
    fresh: bool,
) -> Result<Option<String>, Failure> {
    let (target, path) = (&import.target, format!("logged-models/{}", text(model, "/info/model_id")));
    let mut uri = None;
    if fresh {
        let create = body::logged_model_create(model, experiment_id, &import.source.address);
        let answer = match target.post("logged-models", &create).await {
            // A try whose answer was lost has made it; or it is deleted, and then this says so.
            Err(failure) if failure.is("RESOURCE_ALREADY_EXISTS") => {
                target.get(&path, &[]).await.map_err(|_| failure)?
            }
            answer => answer?,
        };
        uri = Some(text(&answer, "/model/info/artifact_uri").to_owned());
    } else {
        let tags = json!({ "tags": mark::copied_tags(model, "/info/tags") });
        target.send(Method::PATCH, &format!("{path}/tags"), &tags).await?;
    }
    let mut batches: BTreeMap<&str, Batch> = BTreeMap::new();
    for metric in list(model, "/data/metrics") {
        let run_id = text(metric, "/run_id");
        let batch = batches.entry(run_id).or_insert_with(|| Batch::new(run_id));
        if let Some(full) = batch.push(Entity::Metric, body::metric(metric)) {
            target.post("runs/log-batch", &full).await?;
        }
    }
    for batch in batches.values_mut() {
        if let Some(rest) = batch.take() {
            target.post("runs/log-batch", &rest).await?;
        }
    }
    Ok(uri)
}

/// Its status, and the mark where nothing more is to be expected of it.
async fn end(import: &Import, model: &Value, digest: &str) -> Result<(), Failure> {
    if !body::logged_model_is_over(model) {
        return Ok(());
    }
    let model_id = text(model, "/info/model_id");
    let path = format!("logged-models/{model_id}");
    let status = json!({"model_id": model_id, "status": text(model, "/info/status")});
    import.target.send(Method::PATCH, &path, &status).await?;
    let tags = json!({"tags": [mark::source(&import.source.address, model_id), mark::complete(digest)]});
    import.target.send(Method::PATCH, &format!("{path}/tags"), &tags).await?;
    Ok(())
}
