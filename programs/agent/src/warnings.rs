//! What is not as it should be with an attempt, without being a failure. The launcher shows it with the
//! attempt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Warnings beyond this many are only in the log.
const MAX_WARNINGS: usize = 20;
const MAX_CHARS: usize = 500;

/// The attempt's warnings. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings {
    texts: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Warnings {
    /// Sets the warning of this key; `true` where it is news.
    pub(crate) fn set(&self, key: &str, text: &str) -> bool {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let cut: String = text.chars().take(MAX_CHARS).collect();
        if texts.get(key) == Some(&cut) || (texts.len() >= MAX_WARNINGS && !texts.contains_key(key)) {
            return false;
        }
        texts.insert(key.to_owned(), cut);
        true
    }

    /// What the warning of this key was about is well again.
    pub(crate) fn clear(&self, key: &str) {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_news_once_until_it_is_cleared() {
        let warnings = Warnings::default();
        assert!(warnings.set("step-1", "it is broken"));
        assert!(!warnings.set("step-1", "it is broken"));
        assert!(warnings.set("step-1", "it is broken in another way"));
        assert_eq!(warnings.all(), ["it is broken in another way"]);
        warnings.clear("step-1");
        assert_eq!(warnings.all(), Vec::<String>::new());
        assert!(warnings.set("step-1", "it is broken"));
    }

    #[test]
    fn warnings_are_limited_in_number_and_length() {
        let warnings = Warnings::default();
        let news = (0..100).filter(|at| warnings.set(&format!("step-{at}"), &"é".repeat(10_000))).count();
        assert_eq!((news, warnings.all().len()), (MAX_WARNINGS, MAX_WARNINGS));
        assert!(warnings.all().iter().all(|text| text.chars().count() == MAX_CHARS));
        assert!(warnings.set("step-0", "one that is known may change"));
    }
}
