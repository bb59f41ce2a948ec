//! Versions: after their files, as the registry looks at those when a version is made; with their numbers,
//! gaps and all.

use std::cell::RefCell;

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::artifacts::{self, Owner};
use crate::body;
use crate::failure::Failure;
use crate::json::{key_value, list, text};
use crate::mark::{self, State};
use crate::report::Kind;
use crate::state::Import;
use crate::uri::{Roots, Source};

const NO_STAGE: &str = "None";

/// A version to be looked at.
#[derive(Debug)]
pub(crate) struct Job {
    version: Value,
    /// The registry's version of that number.
    existing: Option<Value>,
    source: Source,
    digest: String,
}

/// What has to be done for one version.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    /// It is incomplete, or has changed since.
    Update,
    Skip,
    Refuse,
}

impl Job {
    pub(crate) fn new(version: Value, existing: Option<Value>, roots: &Roots) -> Self {
        let source = Source::read(text(&version, "/source"), roots);
        let digest = body::version_digest(&version);
        Self { version, existing, source, digest }
    }

    fn id(&self) -> String {
        body::version_id(&self.version)
    }

    fn step(&self) -> Step {
        let Some(existing) = &self.existing else { return Step::Create };
        match mark::state(list(existing, "/tags"), &self.id(), &self.digest) {
            State::Complete => Step::Skip,
            State::Partial => Step::Update,
            State::Foreign => Step::Refuse,
        }
    }
}

/// Copies versions. Those made from other versions come after these, in as many rounds as it takes.
pub(crate) async fn copy(import: &Import, jobs: Vec<Job>) {
    let (mut later, now): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| matches!(job.source, Source::Version(_)));
    for (job, why) in round(import, now).await {
        import.report.failed(Kind::Versions, job.id(), why);
    }
    while !later.is_empty() {
        let before = later.len();
        let failed = round(import, later).await;
        if failed.len() == before {
            for (job, why) in failed {
                import.report.failed(Kind::Versions, job.id(), why);
            }
            return;
        }
        later = failed.into_iter().map(|(job, _)| job).collect();
    }
}

/// Answers with those that failed.
async fn round(import: &Import, jobs: Vec<Job>) -> Vec<(Job, String)> {
    let failed = RefCell::new(Vec::new());
    let each = futures::stream::iter(jobs).for_each_concurrent(import.concurrency(), async |job| {
        if import.stopped().is_some() {
            return;
        }
        if let Err(why) = one(import, &job).await {
            failed.borrow_mut().push((job, why));
        }
    });
    each.await;
    failed.into_inner()
}

async fn one(import: &Import, job: &Job) -> Result<(), String> {
    let step = job.step();
    match step {
        Step::Skip => {
            import.report.skipped(Kind::Versions);
            return Ok(());
        }
        Step::Refuse => {
            return Err("the registry has a version of this number that was not imported".to_owned());
        }
        Step::Create | Step::Update => {}
    }
    if step == Step::Create
        && import.options.skip_artifacts
        && !matches!(job.source, Source::Elsewhere(_) | Source::Copied { .. })
    {
        import.report.skipped(Kind::Versions);
        import.report.note("versions are skipped with --no-artifacts, because a version pins its files");
        return Ok(());
    }
    if !import.options.dry_run {
        write(import, job, &step).await?;
    }
    import.report.copied(Kind::Versions);
    Ok(())
}

/// The URI to register, unless the files behind it are not there.
async fn checked_source<'job>(import: &Import, job: &'job Job) -> Result<&'job str, String> {
    let old = text(&job.version, "/source");
    let (uri, kept) = match &job.source {
        Source::Copied { old, .. } if import.options.skip_artifacts => return Ok(old),
        // Its place of old holds as before where its files could not be copied.
        Source::Copied { here, old } => (here, Some(old)),
        Source::Here(uri) => (uri, None),
        // The files of another version are the registry's own by now.
        Source::Elsewhere(uri) | Source::Version(uri) => return Ok(uri),
        Source::Unknown => {
            return Err(format!(
                "its files lie at {old}, which belongs to no experiment that was copied: name that with \
                 --experiment"
            ));
        }
    };
    let Some(owner) = Owner::of_uri(uri) else { return Ok(uri) };
    let incomplete = import.incomplete.borrow().contains(owner.id());
    let whole = !incomplete
        && artifacts::are_all_there(import, owner).await.map_err(|failure| failure.to_string())?;
    match (whole, kept) {
        (true, _) => Ok(uri),
        (false, Some(old)) => Ok(old),
        (false, None) => Err(format!(
            "not all files {} are in the registry, and a version pins its files: import its experiment as \
             well",
            owner.name()
        )),
    }
}

async fn write(import: &Import, job: &Job, step: &Step) -> Result<(), String> {
    if *step == Step::Create {
        let create =
            body::version_create(&job.version, checked_source(import, job).await?, &import.source.address);
        let made = import.target.post("model-versions/create", &create).await;
        // A try whose answer was lost has made it.
        if let Err(failure) = made
            && !failure.is("RESOURCE_ALREADY_EXISTS")
        {
            return Err(failure.to_string());
        }
    } else {
        update(import, job).await.map_err(|failure| failure.to_string())?;
    }
    end(import, job).await.map_err(|failure| failure.to_string())
}

/// Brings a version that is there to the state at the source; its files and its source never change.
async fn update(import: &Import, job: &Job) -> Result<(), Failure> {
    let (name, version) = (text(&job.version, "/name"), text(&job.version, "/version"));
    let body = json!({"name": name, "version": version, "description": text(&job.version, "/description")});
    import.target.send(Method::PATCH, "model-versions/update", &body).await?;
    for tag in mark::copied_tags(&job.version, "/tags") {
        set_tag(import, job, &tag).await?;
    }
    Ok(())
}

/// Its stage, and the mark that it is complete.
async fn end(import: &Import, job: &Job) -> Result<(), Failure> {
    let has_stage = |version: &Value| !matches!(text(version, "/current_stage"), "" | NO_STAGE);
    let back = json!({
        "name": text(&job.version, "/name"), "version": text(&job.version, "/version"), "stage": NO_STAGE,
        "archive_existing_versions": false,
    });
    let taken_back = job.existing.as_ref().is_some_and(has_stage).then_some(back);
    if let Some(body) = body::version_stage(&job.version).or(taken_back) {
        import.target.post("model-versions/transition-stage", &body).await?;
    }
    set_tag(import, job, &mark::complete(&job.digest)).await
}

async fn set_tag(import: &Import, job: &Job, tag: &Value) -> Result<(), Failure> {
    let mut body = key_value(text(tag, "/key"), text(tag, "/value"));
    body["name"] = text(&job.version, "/name").into();
    body["version"] = text(&job.version, "/version").into();
    import.target.post("model-versions/set-tag", &body).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(existing_tags: Option<Vec<Value>>) -> Job {
        let version = json!({"name": "churn#2", "version": "3", "source": "runs:/r/model"});
        let existing = existing_tags.map(|tags| json!({"version": "3", "tags": tags}));
        Job::new(version, existing, &Roots::default())
    }

    #[test]
    fn a_number_that_someone_else_took_is_never_touched() {
        let digest = job(None).digest;
        let source = mark::source("http://old", "churn#2/3");
        assert_eq!(job(None).step(), Step::Create);
        assert_eq!(job(Some(vec![])).step(), Step::Refuse);
        assert_eq!(job(Some(vec![source.clone()])).step(), Step::Update);
        assert_eq!(job(Some(vec![source, mark::complete(&digest)])).step(), Step::Skip);
    }
}
