//! Tags by which a version shows that it cannot be served, or is not verified.

use slipway_model_scan::Verdict;

use crate::store::Pair;
use crate::store::facts::Facts;

/// The tag that says why serving cannot load a version.
pub(super) const UNSERVABLE_TAG: &str = "slipway.unservable";
/// The tag that says why a version is not verified as safe to load.
pub(super) const UNVERIFIED_TAG: &str = "slipway.unverified";
/// Characters of such a tag.
pub(super) const MAX_REASON_CHARS: usize = 5_000;

/// The tag of a version that is not verified.
pub(super) fn unverified_tag(facts: &Facts) -> Option<Pair> {
    let scan = facts.scan.as_ref().filter(|scan| scan.verdict == Verdict::Unverified)?;
    Some((UNVERIFIED_TAG.to_owned(), scan.reason()?.chars().take(MAX_REASON_CHARS).collect()))
}
