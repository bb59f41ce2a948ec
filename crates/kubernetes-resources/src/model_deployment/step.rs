//! What is to be done about a ModelDeployment.

use super::{Deployed, ModelDeployment};

/// What the operator does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Adds the finalizer: from then on the object stays until its deployment is gone.
    AddFinalizer,
    /// Creates the deployment.
    Create,
    /// Changes the deployment to what the spec says now.
    Change,
    /// Deletes the pods, which answer what they have taken.
    Drain,
    /// Deletes the deployment.
    Delete,
    /// Lets the object go.
    RemoveFinalizer,
}

/// What to do about an object with this deployment; `has_pods`: whether any of its pods is left.
///
/// A spec is applied once. What a person does to the deployment afterwards stays until the spec changes.
pub fn step(object: &ModelDeployment, deployed: Option<&Deployed>, has_pods: bool) -> Step {
    if object.is_deleted() {
        return match deployed {
            _ if !object.has_finalizer() => Step::Keep,
            _ if has_pods => Step::Drain,
            Some(_) => Step::Delete,
            None => Step::RemoveFinalizer,
        };
    }
    match deployed {
        _ if !object.has_finalizer() => Step::AddFinalizer,
        None => Step::Create,
        Some(deployed) if deployed.generation < object.generation() => Step::Change,
        Some(_) => Step::Keep,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;
    use serde_json::json;
    use slipway_api::rest::rollouts::{Phase, Rollout, Strategy};

    use super::*;

    pub(crate) fn rollout(phase: Phase, from: Option<&str>, to: &str) -> Rollout {
        let body = json!({"id": "0198c5a2-7b1e-7c44-9f0a-0123456789ab", "deployment": "ml_fraud",
            "deployment_id": "0198c5a2-7b1e-7c44-9f0a-0123456789ab", "model": "fraud", "from_version": from,
            "to_version": to, "phase": phase, "step": 0, "steps": 2, "weight_percent": 10,
            "reason": "10 % for 60 s", "strategy": Strategy::default(), "created_at_unix_ms": 0,
            "updated_at_unix_ms": 0});
        serde_json::from_value(body).unwrap()
    }

    pub(crate) fn deployed(stable: Option<&str>, rollout: Option<Rollout>) -> Deployed {
        let body = json!({"id": "0198c5a2-7b1e-7c44-9f0a-0123456789ab", "name": "ml_fraud", "model": "fraud",
            "stable_version": stable, "rules": [], "default_strategy": Strategy::default(),
            "traffic": {"deployment": "ml_fraud", "model": "fraud", "revision": 1, "candidates": [],
                "shadows": [], "warm": [], "decided_at_unix_ms": 0},
            "created_at_unix_ms": 0, "notices": []});
        Deployed { deployment: serde_json::from_value(body).unwrap(), rollout, generation: 3 }
    }

    /// An object that the operator knows, of generation 3.
    pub(crate) fn known() -> ModelDeployment {
        let mut object = ModelDeployment {
            spec: json!({"model": {"name": "fraud", "version": "1"}}),
            ..ModelDeployment::default()
        };
        object.metadata.name = Some("fraud".to_owned());
        object.metadata.namespace = Some("ml".to_owned());
        object.metadata.finalizers = Some(object.finalizers_with(true));
        object.metadata.generation = Some(3);
        object
    }

    fn deleted(mut object: ModelDeployment) -> ModelDeployment {
        let time = serde_json::from_value::<Time>(json!("2026-01-01T00:00:00Z")).unwrap();
        object.metadata.deletion_timestamp = Some(time);
        object
    }

    #[test]
    fn an_object_is_held_before_its_deployment_is_created() {
        let mut new = known();
        new.metadata.finalizers = None;
        assert_eq!(step(&new, None, false), Step::AddFinalizer);
        assert_eq!(step(&known(), None, false), Step::Create);
        assert_eq!(step(&known(), Some(&deployed(Some("1"), None)), true), Step::Keep);
        assert_eq!(step(&deleted(new), None, false), Step::Keep, "nothing was created");
    }

    #[test]
    fn a_spec_is_applied_once() {
        let mut changed = known();
        changed.metadata.generation = Some(4);
        let mut deployed = deployed(Some("1"), None);
        assert_eq!(step(&changed, Some(&deployed), true), Step::Change);
        deployed.generation = 4;
        assert_eq!(step(&changed, Some(&deployed), true), Step::Keep);
    }

    proptest! {
        /// Whatever is there: deleting an object ends its pods first, then its deployment, and the object
        /// goes.
        #[test]
        fn deletion_always_ends(mut has_pods: bool, mut is_deployed: bool) {
            let object = deleted(known());
            for _ in 0..3 {
                let deployed = is_deployed.then(|| deployed(Some("1"), None));
                match step(&object, deployed.as_ref(), has_pods) {
                    Step::Drain => has_pods = false,
                    Step::Delete => {
                        prop_assert!(!has_pods);
                        is_deployed = false;
                    }
                    Step::RemoveFinalizer => {
                        prop_assert!(!has_pods && !is_deployed);
                        return Ok(());
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert!(false, "it stays");
        }
    }
}
