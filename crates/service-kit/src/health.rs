//! Readiness: what a service waits for before it can answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a service still waits for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    waiting: Arc<Mutex<BTreeMap<String, String>>>,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Readiness {
    /// Not ready until [`Self::ready`] is called for `part`; `reason` says what is missing.
    pub fn waiting(&self, part: impl Into<String>, reason: impl Into<String>) {
        self.lock().insert(part.into(), reason.into());
    }

    /// The part is there.
    pub fn ready(&self, part: &str) {
        self.lock().remove(part);
    }

    /// What is missing, by part; empty when ready.
    pub fn missing(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    /// Something that operators should know of a part, and that does not keep the service from being ready.
    pub fn note(&self, part: impl Into<String>, text: impl Into<String>) {
        lock(&self.notes).insert(part.into(), text.into());
    }

    /// The note about the part no longer holds.
    pub fn forget(&self, part: &str) {
        lock(&self.notes).remove(part);
    }

    /// The notes, by part.
    pub fn notes(&self) -> BTreeMap<String, String> {
        lock(&self.notes).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        lock(&self.waiting)
    }
}

fn lock(map: &Mutex<BTreeMap<String, String>>) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
    // The map is valid after any panic: each change is one insert or remove.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_once_every_part_is() {
        let readiness = Readiness::default();
        readiness.waiting("models", "loading");
        readiness.waiting("traffic", "no table yet");
        readiness.waiting("models", "warming up");
        let shown: Vec<(String, String)> = readiness.missing().into_iter().collect();
        let of = |part: &str, reason: &str| (part.to_owned(), reason.to_owned());
        assert_eq!(shown, [of("models", "warming up"), of("traffic", "no table yet")]);
        readiness.ready("models");
        readiness.ready("traffic");
        readiness.ready("unknown");
        assert!(readiness.missing().is_empty());
        readiness.note("traffic", "an old table");
        assert!(readiness.missing().is_empty());
        assert_eq!(readiness.notes().into_iter().collect::<Vec<_>>(), [of("traffic", "an old table")]);
        readiness.forget("traffic");
        assert!(readiness.notes().is_empty());
    }
}
