//! Versions of servers.

use std::fmt;

/// The first two numbers of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64, pub u64);

impl Version {
    /// From `16.4 (Debian …)`, `v1.32.0-eks-…` or `2.10.3`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(['v', 'V']);
        let mut numbers = text.split(|sign: char| !sign.is_ascii_digit()).map(str::parse);
        let major = numbers.next()?.ok()?;
        Some(Self(major, numbers.next().and_then(Result::ok).unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_servers_are_read() {
        for (text, expected) in [
            ("18.3", Some(Version(18, 3))),
            ("14beta2", Some(Version(14, 0))),
            ("16.4 (Debian 16.4-1.pgdg120+2)", Some(Version(16, 4))),
            ("v1.32.0-eks-5ca49cb", Some(Version(1, 32))),
            ("2.10.3", Some(Version(2, 10))),
            ("17", Some(Version(17, 0))),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert!(Version(2, 9) < Version(2, 10));
    }
}
