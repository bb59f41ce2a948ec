//! Violations of one kind are shown a few times.

/// Violations of one kind that are shown.
const SHOWN: usize = 5;

/// At most a few of one kind, and how many more there are.
pub(super) fn some(found: Vec<String>) -> Vec<String> {
    let more = found.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = found.into_iter().take(SHOWN).collect();
    if more > 0 {
        shown.push(format!("… and {more} more like these"));
    }
    shown
}
