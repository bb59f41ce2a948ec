//! Creating the objects of an attempt.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slipway_kubernetes_client::text;
use slipway_kubernetes_jobs::{Attempt, MANAGED_BY, owned_by, secret, service};

use super::{Cluster, Kubernetes};
use crate::backend::Launch;

/// The API server answers a request within this time, or it is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Answers after which trying again helps: the API server is busy, starting, or does not reach its store.
const PASSING: [u16; 6] = [408, 429, 500, 502, 503, 504];

/// Why objects were not created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Trying again may help.
    Passing(String),
    /// Trying again does not help.
    Final(String),
}

impl Failure {
    fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if !PASSING.contains(&status.code) => Self::Final(text(error)),
            kube::Error::BuildRequest(_) | kube::Error::SerdeError(_) => Self::Final(text(error)),
            _ => Self::Passing(text(error)),
        }
    }
}

impl Kubernetes {
    /// Creates the objects of an attempt. What exists already stays as it is.
    pub(super) async fn create(&self, launch: &Launch) -> Result<(), Failure> {
        let created = tokio::time::timeout(TIMEOUT, self.create_all(launch)).await;
        created.unwrap_or_else(|_| {
            let seconds = TIMEOUT.as_secs();
            Err(Failure::Passing(format!("the API server did not answer within {seconds} s")))
        })
    }

    async fn create_all(&self, launch: &Launch) -> Result<(), Failure> {
        let Cluster { facts, watched, secrets: known, .. } = &*self.cluster;
        let Some(kubernetes) = &launch.spec.kubernetes else {
            return Err(Failure::Final("the job has no section `kubernetes`".to_owned()));
        };
        let variables = launch.variables();
        let names: Vec<&str> = launch.secret_variables().map(|(name, _)| name).collect();
        let secrets: BTreeMap<String, String> = launch
            .secret_variables()
            .map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned()))
            .collect();
        let attempt = Attempt {
            job_id: &launch.job_id,
            attempt: launch.attempt,
            spec: &launch.spec,
            kubernetes,
            variables: &variables,
            secret_variables: &names,
            excluded_nodes: &launch.excluded_nodes,
        };
        let refused =
            |invalid: slipway_domain::Invalid| Failure::Final(invalid.under("kubernetes").to_string());
        let namespace = attempt.namespace(facts).to_owned();
        let job = self.cluster.job(&attempt).map_err(refused)?;
        let service = service(&attempt, facts).map_err(refused)?;
        let mut secret = secret(&attempt, secrets, facts);
        let job = match self.apply(&namespace, &attempt.name(), &job).await? {
            Some(job) => job,
            None => self.existing(&namespace, &attempt).await?,
        };
        owned_by(&mut secret.metadata, &job);
        self.apply(&namespace, &attempt.name(), &secret).await?;
        known.note_created((launch.job_id.clone(), launch.attempt));
        if let Some(mut service) = service {
            owned_by(&mut service.metadata, &job);
            self.apply(&namespace, &attempt.name(), &service).await?;
        }
        watched.insert(&namespace, job);
        Ok(())
    }

    /// Applies an object; `None` where it exists and others have changed it.
    async fn apply<K>(&self, namespace: &str, name: &str, object: &K) -> Result<Option<K>, Failure>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let api: Api<K> = Api::namespaced(self.cluster.client.clone(), namespace);
        match api.patch(name, &PatchParams::apply(MANAGED_BY), &Patch::Apply(object)).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
            Err(error) => Err(Failure::of(&error)),
        }
    }

    /// The Job of an attempt that exists already.
    async fn existing(&self, namespace: &str, attempt: &Attempt<'_>) -> Result<Job, Failure> {
        let found = self.cluster.find(namespace, attempt.job_id, attempt.attempt).await;
        found
            .map_err(|error| Failure::of(&error))?
            .ok_or_else(|| Failure::Passing(format!("Job {namespace}/{} was deleted", attempt.name())))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16, message: &str) -> Failure {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        Failure::of(&kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn an_api_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
        for code in PASSING {
            assert_eq!(answered(code, "busy"), Failure::Passing("busy".to_owned()), "{code}");
        }
        let denied = "secrets is forbidden: User \"x\" cannot patch resource \"secrets\"";
        for (code, message) in [(403, denied), (422, "Job is invalid: spec.x"), (404, "namespaces not found")]
        {
            assert_eq!(answered(code, message), Failure::Final(message.to_owned()));
        }
        assert_eq!(answered(418, ""), Failure::Final("HTTP status 418 ".to_owned()));
    }
}
