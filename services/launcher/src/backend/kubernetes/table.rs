//! The objects of an installation as the watches have shown them, found by attempt.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use slipway_kubernetes_jobs::attempt_of;

/// Id of a job and number of an attempt.
pub(super) type AttemptKey = (String, u32);

/// Objects that have labels of an attempt.
pub(super) trait Labelled {
    /// Their metadata.
    fn metadata(&self) -> &ObjectMeta;
}

/// Objects of one kind, of some namespaces.
#[derive(Debug)]
pub(super) struct Table<K> {
    /// By attempt, then by namespace and name.
    objects: HashMap<AttemptKey, BTreeMap<(String, String), Arc<K>>>,
    /// What a list has shown so far, by namespace.
    listed: HashMap<String, Vec<K>>,
    /// Namespaces that have been listed completely.
    synced: BTreeSet<String>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listed: HashMap::new(), synced: BTreeSet::new() }
    }
}

impl<K: Labelled> Table<K> {
    /// Takes in what the watch of a namespace tells.
    pub(super) fn apply(&mut self, namespace: &str, event: Event<K>) {
        match event {
            Event::Init => {
                self.listed.insert(namespace.to_owned(), Vec::new());
            }
            Event::InitApply(object) => {
                self.listed.entry(namespace.to_owned()).or_default().push(object);
            }
            Event::InitDone => {
                for objects in self.objects.values_mut() {
                    objects.retain(|(of, _), _| of != namespace);
                }
                self.objects.retain(|_, objects| !objects.is_empty());
                for object in self.listed.remove(namespace).unwrap_or_default() {
                    self.insert(namespace, object);
                }
                self.synced.insert(namespace.to_owned());
            }
            Event::Apply(object) => self.insert(namespace, object),
            Event::Delete(object) => self.remove(namespace, object.metadata()),
        }
    }

    /// Adds an object, or replaces it.
    pub(super) fn insert(&mut self, namespace: &str, object: K) {
        let Some(key) = attempt_of(object.metadata()) else { return };
        let name = object.metadata().name.clone().unwrap_or_default();
        self.objects.entry(key).or_default().insert((namespace.to_owned(), name), Arc::new(object));
    }

    fn remove(&mut self, namespace: &str, metadata: &ObjectMeta) {
        let Some(key) = attempt_of(metadata) else { return };
        let name = metadata.name.clone().unwrap_or_default();
        if let Some(objects) = self.objects.get_mut(&key) {
            objects.remove(&(namespace.to_owned(), name));
            if objects.is_empty() {
                self.objects.remove(&key);
            }
        }
    }

    /// The objects of an attempt.
    pub(super) fn of(&self, key: &AttemptKey) -> Vec<Arc<K>> {
        self.objects.get(key).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// Attempts that have objects.
    pub(super) fn attempts(&self) -> impl Iterator<Item = &AttemptKey> {
        self.objects.keys()
    }

    /// Whether all of these namespaces have been listed.
    pub(super) fn is_synced(&self, namespaces: &[String]) -> bool {
        namespaces.iter().all(|namespace| self.synced.contains(namespace))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, job: &str, attempt: u32) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {
            "slipway.dev/job-id": job, "slipway.dev/attempt": attempt.to_string()}}}))
        .unwrap()
    }

    fn names(table: &Table<Pod>, job: &str, attempt: u32) -> Vec<String> {
        let name = |pod: &Arc<Pod>| pod.metadata.name.clone().unwrap();
        table.of(&(job.to_owned(), attempt)).iter().map(name).collect()
    }

    #[test]
    fn a_new_list_replaces_what_its_namespace_had() {
        let mut table = Table::default();
        let both = ["a".to_owned(), "b".to_owned()];
        for event in [Event::Init, Event::InitApply(pod("p1", "j", 1)), Event::InitApply(pod("p2", "j", 1))] {
            table.apply("a", event);
        }
        assert_eq!(names(&table, "j", 1), [""; 0], "the list is not complete");
        table.apply("a", Event::InitDone);
        assert!(table.is_synced(&both[..1]) && !table.is_synced(&both));
        table.apply("b", Event::Apply(pod("p3", "j", 1)));
        table.apply("a", Event::Delete(pod("p1", "j", 1)));
        assert_eq!(names(&table, "j", 1), ["p2", "p3"]);
        for event in [Event::Init, Event::InitApply(pod("p4", "j", 2)), Event::InitDone] {
            table.apply("a", event);
        }
        assert_eq!((names(&table, "j", 1), names(&table, "j", 2)), (vec!["p3".into()], vec!["p4".into()]));
        table.apply("b", Event::Delete(pod("p3", "j", 1)));
        assert_eq!(table.attempts().cloned().collect::<Vec<_>>(), [("j".to_owned(), 2)]);
        let foreign =
            Pod { metadata: ObjectMeta { labels: None, ..pod("x", "j", 3).metadata }, ..Pod::default() };
        table.apply("a", Event::Apply(foreign));
        assert_eq!(table.attempts().count(), 1, "an object without labels belongs to no attempt");
    }
}
