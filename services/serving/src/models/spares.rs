//! Versions that left the traffic and stay loaded, so that a rollback loads nothing. Pure.

use slipway_api::traffic::Target;

use super::files::LOCAL_PREFIX;

/// What stays of a deployment, newest first: of those that `left` just now and of those that were `kept`
/// before, no more than `most` and none that is `named` by a table.
///
/// Versions of a folder do not stay: it holds the earlier versions itself, and they are loaded as long as
/// they are there.
pub(super) fn kept(
    kept: &[Target],
    left: impl IntoIterator<Item = Target>,
    named: impl Fn(&Target) -> bool,
    most: usize,
) -> Vec<Target> {
    let mut spares: Vec<Target> = Vec::new();
    for target in left.into_iter().chain(kept.iter().cloned()) {
        let known = spares.iter().any(|spare| spare.digest == target.digest);
        if spares.len() < most && !known && !named(&target) && !target.digest.starts_with(LOCAL_PREFIX) {
            spares.push(target);
        }
    }
    spares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(version: &str) -> Target {
        Target { version: version.into(), digest: format!("sha256:{version}") }
    }

    fn versions(spares: &[Target]) -> Vec<&str> {
        spares.iter().map(|spare| spare.version.as_str()).collect()
    }

    #[test]
    fn the_newest_stay_and_what_comes_back_is_no_spare() {
        let nobody = |_: &Target| false;
        let first = kept(&[], [target("1")], nobody, 2);
        let second = kept(&first, [target("2")], nobody, 2);
        assert_eq!(versions(&second), ["2", "1"]);
        assert_eq!(versions(&kept(&second, [target("3")], nobody, 2)), ["3", "2"]);
        assert_eq!(versions(&kept(&second, [target("1")], nobody, 2)), ["1", "2"]);
        assert_eq!(versions(&kept(&second, [target("3")], |target| target.version == "2", 2)), ["3", "1"]);
        assert_eq!(kept(&second, [target("3")], nobody, 0), []);
        let local = Target { version: "4".into(), digest: "local:4".into() };
        assert_eq!(kept(&[], [local], nobody, 2), []);
    }
}
