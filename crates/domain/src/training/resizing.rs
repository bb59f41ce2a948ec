//! Another number of processes for a distributed job between two of its attempts.

use std::collections::BTreeMap;

use super::JobSpec;
use crate::{Invalid, invalid::ensure};

/// Field of a request that changes the number of processes.
const FIELD: &str = "replicas";

impl JobSpec {
    /// This job with other numbers of processes by role.
    ///
    /// # Errors
    /// The job, before or after, is not a distributed one; the roles are not valid; or its checkpoints cannot
    /// be read by another number of processes than wrote them.
    pub fn resized(&self, replicas: BTreeMap<String, u32>) -> Result<Self, Invalid> {
        let before = self.trainers("has one process")?;
        let mut resized = self.clone();
        if let Some(kubernetes) = &mut resized.kubernetes {
            kubernetes.replicas = replicas;
            // Also refuses what `group` takes for none.
            kubernetes.validate()?;
        }
        let after = resized.trainers("would have one process")?;
        let can_change = self.checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.resharding);
        ensure(before == after || can_change, FIELD, || {
            format!(
                "expected {before} processes that train, as those that wrote the checkpoints, got {after}; \
                 other numbers require a job with checkpoint.resharding"
            )
        })?;
        Ok(resized)
    }

    /// Number of processes that train.
    fn trainers(&self, otherwise: &str) -> Result<u32, Invalid> {
        let group = self.group();
        group
            .map(|group| group.trainers())
            .ok_or_else(|| Invalid::new(FIELD, format!("expected a distributed job, but it {otherwise}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(replicas: &[(&str, u32)], resharding: bool) -> JobSpec {
        let replicas: BTreeMap<&str, u32> = replicas.iter().copied().collect();
        serde_json::from_value(json!({"name": "train", "command": ["train"],
            "checkpoint": {"resharding": resharding},
            "kubernetes": {"image": "train:1", "replicas": replicas}}))
        .unwrap()
    }

    fn resized(job: &JobSpec, replicas: &[(&str, u32)]) -> Result<BTreeMap<String, u32>, String> {
        let replicas = replicas.iter().map(|(role, count)| ((*role).to_owned(), *count)).collect();
        let resized = job.resized(replicas).map_err(|invalid| invalid.to_string())?;
        resized.validate().unwrap();
        Ok(resized.kubernetes.unwrap().replicas)
    }

    #[test]
    fn the_number_of_processes_changes_where_checkpoints_can_be_resharded() {
        let roles = |resized: Result<BTreeMap<String, u32>, String>| {
            resized.map(|replicas| replicas.into_iter().collect::<Vec<_>>())
        };
        let worker = |count| Ok(vec![("worker".to_owned(), count)]);
        assert_eq!(roles(resized(&job(&[("worker", 2)], true), &[("worker", 4)])), worker(4));
        assert_eq!(roles(resized(&job(&[("worker", 4)], true), &[("worker", 2)])), worker(2));
        let refused = resized(&job(&[("worker", 2)], false), &[("worker", 4)]).unwrap_err();
        assert!(refused.starts_with("replicas: expected 2 processes that train"), "{refused}");
        // Parameter servers and evaluators write no checkpoint.
        let with_servers = resized(&job(&[("worker", 2), ("ps", 1)], false), &[("worker", 2), ("ps", 3)]);
        assert_eq!(roles(with_servers).unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_a_distributed_job_is_refused() {
        let alone = JobSpec { kubernetes: None, ..job(&[], true) };
        for (job, replicas, expected) in [
            (alone, &[("worker", 2)][..], "replicas: expected a distributed job, but it has one process"),
            (
                job(&[], true),
                &[("worker", 2)],
                "replicas: expected a distributed job, but it has one process",
            ),
            (job(&[("worker", 2)], true), &[], "replicas: expected a distributed job, but it would have one"),
            (job(&[("worker", 2)], true), &[("worker", 0)], "replicas.worker: must be 1 to"),
            (job(&[("worker", 2)], true), &[("server", 2)], "replicas.server: expected one of the roles"),
        ] {
            let refused = resized(&job, replicas).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }
}
