//! Experiments: matched by name, made where absent, deleted at the end where they are at the source.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::body::is_deleted;
use crate::failure::Failure;
use crate::http::Server;
use crate::json::{key_value, list, next_page, pair, text};
use crate::mark::{self, DIGEST_TAG, SOURCE_TAG};
use crate::report::Kind;
use crate::state::Import;
use crate::uri::Roots;

const PAGE: u32 = 1_000;
const STATE: [&str; 2] = ["/name", "/lifecycle_stage"];

/// An experiment whose runs are copied.
#[derive(Debug)]
pub(crate) struct Experiment {
    name: String,
    /// Its id in the registry; empty where nothing is written and there is none.
    pub(crate) target_id: String,
    /// To be deleted once everything in it is there; with the digest that says so.
    to_delete: Option<String>,
}

/// The experiments by their ids at the source.
#[derive(Debug, Default)]
pub(crate) struct Experiments {
    by_source: HashMap<String, Experiment>,
    /// Where their files are on both sides.
    pub(crate) roots: Roots,
    /// Those with something in them that failed.
    failed: RefCell<HashSet<String>>,
}

impl Experiments {
    pub(crate) fn target_id(&self, source_id: &str) -> Option<&str> {
        self.by_source.get(source_id).map(|experiment| experiment.target_id.as_str())
    }

    /// Their ids at the source.
    pub(crate) fn source_ids(&self) -> Vec<&str> {
        self.by_source.keys().map(String::as_str).collect()
    }

    /// Something in an experiment failed, so it is not complete.
    pub(crate) fn mark_failed(&self, source_id: &str) {
        self.failed.borrow_mut().insert(source_id.to_owned());
    }
}

/// What has to be done for one experiment.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    /// It is there; with tags to set where they differ.
    Merge {
        tags: bool,
    },
    /// Deleted on both sides, with all that is in it.
    Done,
    Refuse(&'static str),
}

fn step(source: &Value, target: Option<&Value>, digest: &str) -> Step {
    let Some(target) = target else { return Step::Create };
    let same = pair(list(target, "/tags"), DIGEST_TAG).is_some_and(|marked| mark::covers(marked, digest));
    if !is_deleted(target, "/lifecycle_stage") {
        return Step::Merge { tags: !same };
    }
    if same && is_deleted(source, "/lifecycle_stage") {
        return Step::Done;
    }
    Step::Refuse(
        "the registry has a deleted experiment of this name: restore it there or rename it, and run this \
         again",
    )
}

/// Makes the experiments, and finds out where their files will lie.
pub(crate) async fn copy(import: &Import) -> Result<Experiments, Failure> {
    let found = all(&import.source).await?;
    let there: HashMap<String, Value> = all(&import.target)
        .await?
        .into_iter()
        .map(|experiment| (text(&experiment, "/name").to_owned(), experiment))
        .collect();
    let mut experiments = Experiments::default();
    for name in &import.options.experiments {
        if !found.iter().any(|experiment| text(experiment, "/name") == name) {
            import.report.failed(Kind::Experiments, name, format!("{} has none", import.source.address));
        }
    }
    for source in &found {
        let target = there.get(text(source, "/name"));
        if let Some(target) = target {
            // Versions may lie in experiments that are not asked for, as long as they were copied before.
            experiments.roots.add(text(source, "/artifact_location"), text(target, "/artifact_location"));
        }
        if import.options.wants_experiment(text(source, "/name")) {
            import.report.found(Kind::Experiments, 1);
            if let Err(failure) = one(import, source, target, &mut experiments).await {
                import.report.failed(Kind::Experiments, text(source, "/name"), failure);
            }
        }
    }
    Ok(experiments)
}

async fn one(
    import: &Import,
    source: &Value,
    target: Option<&Value>,
    experiments: &mut Experiments,
) -> Result<(), Failure> {
    let (id, name) = (text(source, "/experiment_id"), text(source, "/name"));
    let deleted = is_deleted(source, "/lifecycle_stage");
    let digest = mark::digest(source, &STATE, "/tags");
    // The digest of a deleted one says that all of its runs are there as well.
    let wanted = if deleted { import.wanted_digest(&digest) } else { digest };
    let (mut ours, mut changed) = (true, true);
    let target_id = match step(source, target, &wanted) {
        Step::Refuse(why) => {
            import.report.failed(Kind::Experiments, name, why);
            return Ok(());
        }
        Step::Done => {
            import.report.skipped(Kind::Experiments);
            return Ok(());
        }
        Step::Create => {
            import.report.copied(Kind::Experiments);
            if import.options.dry_run { String::new() } else { create(import, source, experiments).await? }
        }
        Step::Merge { tags } => {
            let target = target.unwrap_or(&Value::Null);
            let target_id = text(target, "/experiment_id").to_owned();
            ours = pair(list(target, "/tags"), SOURCE_TAG).is_some();
            if tags {
                set_tags(import, &target_id, &mark::copied_tags(source, "/tags")).await?;
                import.report.copied(Kind::Experiments);
            } else {
                import.report.skipped(Kind::Experiments);
            }
            changed = tags;
            target_id
        }
    };
    let to_delete = (deleted && ours).then(|| wanted.clone());
    if deleted && !ours {
        let note =
            format!("experiment {name} is deleted at the source; the registry's own of that name stays");
        import.report.note(note);
    }
    if changed && !deleted {
        set_tags(import, &target_id, &[mark::complete(&wanted)]).await?;
    }
    let experiment = Experiment { name: name.to_owned(), target_id, to_delete };
    experiments.by_source.insert(id.to_owned(), experiment);
    Ok(())
}

async fn create(import: &Import, source: &Value, experiments: &mut Experiments) -> Result<String, Failure> {
    let (id, name) = (text(source, "/experiment_id"), text(source, "/name"));
    let mut tags = mark::copied_tags(source, "/tags");
    tags.push(mark::source(&import.source.address, id));
    let made = import.target.post("experiments/create", &json!({"name": name, "tags": tags})).await;
    if let Err(failure) = made
        && !failure.is("RESOURCE_ALREADY_EXISTS")
    {
        return Err(failure);
    }
    // A try whose answer was lost has made it: so ask by name either way.
    let answer = import.target.get("experiments/get-by-name", &[("experiment_name", name)]).await?;
    let location = text(&answer, "/experiment/artifact_location");
    experiments.roots.add(text(source, "/artifact_location"), location);
    Ok(text(&answer, "/experiment/experiment_id").to_owned())
}

async fn set_tags(import: &Import, target_id: &str, tags: &[Value]) -> Result<(), Failure> {
    if import.options.dry_run {
        return Ok(());
    }
    for tag in tags {
        let mut body = key_value(text(tag, "/key"), text(tag, "/value"));
        body["experiment_id"] = target_id.into();
        import.target.post("experiments/set-experiment-tag", &body).await?;
    }
    Ok(())
}

/// Deletes what is deleted at the source, now that everything in it is there.
pub(crate) async fn finish(import: &Import, experiments: &Experiments) {
    if import.options.dry_run || import.stopped().is_some() {
        return;
    }
    for (source_id, experiment) in &experiments.by_source {
        let Some(digest) = &experiment.to_delete else { continue };
        if experiments.failed.borrow().contains(source_id) {
            continue;
        }
        let outcome = async {
            set_tags(import, &experiment.target_id, &[mark::complete(digest)]).await?;
            let body = json!({ "experiment_id": experiment.target_id });
            import.target.post("experiments/delete", &body).await
        };
        if let Err(failure) = outcome.await {
            import.report.failed(Kind::Experiments, &experiment.name, failure);
        }
    }
}

/// All experiments of a server, deleted ones as well.
async fn all(server: &Server) -> Result<Vec<Value>, Failure> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let body = json!({"view_type": "ALL", "max_results": PAGE, "page_token": token});
        let answer = server.post("experiments/search", &body).await?;
        found.extend(list(&answer, "/experiments").iter().cloned());
        match next_page(&answer) {
            Some(next) => token = next,
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_experiment_of_the_same_name_is_refused_unless_it_is_this_one() {
        let source = |stage: &str| json!({"name": "a", "lifecycle_stage": stage});
        let target =
            |stage: &str, digest: &str| json!({"lifecycle_stage": stage, "tags": [mark::complete(digest)]});
        assert_eq!(step(&source("active"), None, "d"), Step::Create);
        assert_eq!(step(&source("active"), Some(&target("active", "d")), "d"), Step::Merge { tags: false });
        assert_eq!(step(&source("active"), Some(&target("active", "e")), "d"), Step::Merge { tags: true });
        assert_eq!(step(&source("deleted"), Some(&target("deleted", "d")), "d"), Step::Done);
        assert!(matches!(step(&source("active"), Some(&target("deleted", "d")), "d"), Step::Refuse(_)));
        assert!(matches!(step(&source("deleted"), Some(&target("deleted", "e")), "d"), Step::Refuse(_)));
    }
}
