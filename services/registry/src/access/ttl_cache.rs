//! Answers that are good for a few seconds, so that a busy caller is not looked up for each request.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A revoked token, a changed grant is forgotten within this time on every replica.
pub(crate) const KEPT_S: u64 = 5;
const MAX_ENTRIES: usize = 10_000;

/// A small map whose entries end by themselves.
#[derive(Debug)]
pub(crate) struct TtlCache<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K, V> Default for TtlCache<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> TtlCache<K, V> {
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = entries.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    /// Keeps an answer; at most for `most`.
    pub(crate) fn put(&self, key: K, value: V, most: Duration) {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, (until, _)| now < *until);
            if entries.len() >= MAX_ENTRIES {
                entries.clear();
            }
        }
        entries.insert(key, (now + most.min(Duration::from_secs(KEPT_S)), value));
    }

    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_and_their_number_is_bounded() {
        let recent = TtlCache::<String, u8>::default();
        recent.put("a".to_owned(), 1, Duration::from_secs(60));
        recent.put("b".to_owned(), 2, Duration::ZERO);
        assert_eq!((recent.get("a"), recent.get("b")), (Some(1), None));
        for index in 0..2 * MAX_ENTRIES {
            recent.put(index.to_string(), 0, Duration::from_secs(60));
        }
        assert!(recent.entries.lock().unwrap().len() <= MAX_ENTRIES);
        recent.clear();
        assert_eq!(recent.get("a"), None);
    }
}
