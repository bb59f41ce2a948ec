//! Where a version came from, what is known of it, and where it went.

use slipway_domain::registry::deployed::{Deployed, Placed};
use slipway_domain::registry::promotion::{Evidence, Signing};
use sqlx::PgConnection;

use crate::access::caller::Caller;
use crate::access::references::Reader;
use crate::access::references::visible_run;
use crate::error::Error;
use crate::state::Registry;
use crate::store::logged_models::{self, LoggedModel};
use crate::store::model_versions::{ModelVersion, VersionName, version_get};
use crate::store::reports::{self, Approval, StoredReport};
use crate::store::runs::{self, Run};
use crate::store::tags::{BRANCH_TAG, PROGRAM_TAG, REPOSITORY_TAG, REVISION_TAG};
use crate::store::{deployments, policies};
use crate::trust::signing::{self, Judged};

/// People who are read of those that approved a version; more cannot approve it.
const MAX_APPROVALS: i64 = 1_000;

/// Why a version does not show its run.
pub(crate) const RUN_HIDDEN: &str = "the version refers to a run of an experiment that this caller may not \
    read, and the link to it was not authorised when the version was registered";

/// Tags that say where the code of a run came from.
const CODE_TAGS: [(&str, &str); 5] = [
    (PROGRAM_TAG, "program"),
    (REPOSITORY_TAG, "repository"),
    (BRANCH_TAG, "branch"),
    (REVISION_TAG, "commit"),
    ("slipway.job_id", "job"),
];

/// What others say of a version.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) signing: Judged,
    /// The newest of each name.
    pub(crate) reports: Vec<StoredReport>,
    pub(crate) approvals: Vec<Approval>,
    /// All of it, as policies weigh it.
    pub(crate) evidence: Evidence,
}

impl Known {
    /// Reads what is known of a version now. While access control is on, approvals by names that no caller
    /// proved do not count, and nothing is known of a run that the reader may not see.
    ///
    /// # Errors
    /// Postgres is unreachable.
    pub(crate) async fn read(
        db: &mut PgConnection,
        version: &ModelVersion,
        reader: Reader<'_>,
    ) -> Result<Self, Error> {
        let run_id = visible_run(db, version, reader).await?;
        Self::with_run(db, version, run_id, reader).await
    }

    async fn with_run(
        db: &mut PgConnection,
        version: &ModelVersion,
        run_id: Option<&str>,
        reader: Reader<'_>,
    ) -> Result<Self, Error> {
        let authenticated = reader.is_authenticated();
        let key = (version.model_key, version.version);
        let signing = signing::judge(db, key.0, key.1).await?;
        let reports = reports::reports_newest(db, key.0, key.1).await?;
        let approvals = reports::approvals(db, key, None, MAX_APPROVALS).await?;
        let evidence = Evidence {
            signing: Signing {
                keys: signing.valid_keys().map(str::to_owned).collect(),
                detail: signing.verdict.detail.clone(),
            },
            reports: reports.iter().map(|one| (one.body.0.name.clone(), one.body.0.clone())).collect(),
            approvers: approvals
                .iter()
                .filter(|one| one.authenticated || !authenticated)
                .map(|one| one.approver.clone())
                .collect(),
            ..policies::evidence(db, version, run_id, authenticated).await?
        };
        Ok(Self { signing, reports, approvals, evidence })
    }
}

/// A deployment of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) deployment: String,
    /// `stable` or `candidate`.
    pub(crate) role: &'static str,
    /// Share of the traffic of a candidate.
    pub(crate) weight_percent: Option<u8>,
    /// Unix milliseconds.
    pub(crate) since_ms: i64,
}

/// A version with everything that it hangs together with.
#[derive(Debug)]
pub(crate) struct Lineage {
    pub(crate) version: ModelVersion,
    /// The run that it came from, where the registry has it and the reader may see it.
    pub(crate) run: Option<Run>,
    /// The reader may not see the run.
    pub(crate) run_is_hidden: bool,
    pub(crate) logged_model: Option<LoggedModel>,
    pub(crate) known: Known,
    pub(crate) deployments: Vec<(String, Deployed)>,
}

impl Lineage {
    /// Reads all of it for a caller.
    ///
    /// # Errors
    /// The version does not exist, or Postgres is unreachable.
    pub(crate) async fn of(
        registry: &Registry,
        caller: &Caller,
        name: VersionName<'_>,
    ) -> Result<Self, Error> {
        let mut db = registry.pool.acquire().await?;
        let version = version_get(&mut db, name.model, name.version).await?;
        Self::read(&mut db, version, registry.access.reader(caller)).await
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Postgres is unreachable.
    async fn read(db: &mut PgConnection, version: ModelVersion, reader: Reader<'_>) -> Result<Self, Error> {
        let run_id = visible_run(db, &version, reader).await?;
        let run_is_hidden = run_id.is_none() && version.run_id.is_some();
        let run = match run_id {
            None => None,
            Some(run_id) => where_there(runs::run_get(db, run_id).await)?,
        };
        let logged_model = match &version.logged_model_id {
            None => None,
            Some(model_id) => where_there(logged_models::logged_model_get(db, model_id).await)?,
        };
        let known = Known::with_run(db, &version, run_id, reader).await?;
        let deployments = deployments::deployments_of(db, &version.name, version.version).await?;
        Ok(Self { run, run_is_hidden, logged_model, known, deployments, version })
    }

    /// The places that it has in deployments.
    pub(crate) fn places(&self) -> Vec<Place> {
        let version = self.version.version.to_string();
        let here = |placed: &Option<Placed>| {
            placed.as_ref().filter(|placed| placed.version == version).map(|placed| placed.since_ms)
        };
        let mut places = Vec::new();
        for (deployment, deployed) in &self.deployments {
            let mut add = |role, weight_percent, since_ms| {
                places.push(Place { deployment: deployment.clone(), role, weight_percent, since_ms });
            };
            if let Some(since_ms) = here(&deployed.stable) {
                add("stable", None, since_ms);
            }
            if let Some(since_ms) = here(&deployed.candidate) {
                add("candidate", Some(deployed.candidate_weight_percent), since_ms);
            }
        }
        places
    }

    /// Why the run is not shown, where there is one.
    pub(crate) fn run_hidden(&self) -> Option<&'static str> {
        self.run_is_hidden.then_some(RUN_HIDDEN)
    }
}

/// A run of another server, or one that was purged, is no error.
fn where_there<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the code of a run came from, as (name, value).
pub(crate) fn code_tags(run: &Run) -> impl Iterator<Item = (&'static str, &str)> {
    CODE_TAGS.iter().filter_map(|(tag, name)| Some((*name, tag_of(run, tag)?)))
}

/// A tag of a run.
pub(crate) fn tag_of<'run>(run: &'run Run, tag: &str) -> Option<&'run str> {
    let mut tags = run.tag_keys.iter().zip(&run.tag_values);
    tags.find(|(key, _)| *key == tag).map(|(_, value)| value.as_str())
}
