//! Versions of ONNX Runtime.

/// Versions of ONNX Runtime that the tests of Slipway run with: major and minor number of the first and the
/// last.
pub const TESTED: [(u32, u32); 2] = [(1, 23), (1, 31)];

/// The tested range, for people.
pub(crate) fn tested() -> String {
    let [(first, from), (last, to)] = TESTED;
    format!("{first}.{from} to {last}.{to}")
}

/// Whether a version such as `1.23.2` is within [`TESTED`].
pub(crate) fn is_tested(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return false };
    let [first, last] = TESTED;
    (first..=last).contains(&(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_tested_from_the_first_to_the_last() {
        for version in ["1.23.0", "1.23.2", "1.31.1", "1.30"] {
            assert!(is_tested(version), "{version}");
        }
        for version in ["1.22.9", "1.32.0", "2.23.0", "0.25.1", "1", "", "1.x", "1.-24", "one"] {
            assert!(!is_tested(version), "{version}");
        }
        assert_eq!(tested(), "1.23 to 1.31");
    }
}
