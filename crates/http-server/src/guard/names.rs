//! Names of this service: what a `Host` header may say, and which origins are its own or configured.

use std::net::IpAddr;

/// The name that every machine has for itself.
const LOOPBACK_NAME: &str = "localhost";

/// One entry of the allowed hosts: `registry`, `registry:5000`, `*.example.org`, or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostRule {
    name: NameRule,
    /// `None`: on every port, since port forwarding and proxies change it.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NameRule {
    Any,
    /// In lower case.
    Exact(String),
    /// `.example.org` in lower case, for all names below it.
    Below(String),
}

impl HostRule {
    /// Parses an entry.
    ///
    /// # Errors
    /// What was expected instead.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected a host name with an optional port, such as `registry`, \
            `registry:5000` or `*.example.org`, or `*` for any name";
        let named = Named::parse(text).ok_or(EXPECTED)?;
        let name = named.name.to_ascii_lowercase();
        let name = match name.strip_prefix('*') {
            Some("") if !text.contains('.') => NameRule::Any,
            Some(rest) if rest.len() > 1 && rest.starts_with('.') && !rest.contains('*') => {
                NameRule::Below(rest.to_owned())
            }
            Some(_) => return Err(EXPECTED),
            None if name.contains('*') => return Err(EXPECTED),
            None => NameRule::Exact(name),
        };
        Ok(Self { name, port: named.port })
    }

    fn matches(&self, named: &Named<'_>) -> bool {
        let name = match &self.name {
            NameRule::Any => true,
            NameRule::Exact(name) => named.name.eq_ignore_ascii_case(name),
            NameRule::Below(suffix) => named.name.len() > suffix.len() && ends_with(named.name, suffix),
        };
        name && self.port.is_none_or(|port| named.port == Some(port))
    }
}

fn ends_with(name: &str, suffix: &str) -> bool {
    let at = name.len() - suffix.len();
    name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// Whether a request may name `text` as its host.
///
/// DNS rebinding takes a name whose address the attacker chooses. An IP address is no such name, and
/// `localhost` has a fixed address, so both are always allowed; every other name has to be configured.
pub(super) fn is_allowed(rules: &[HostRule], text: &str) -> bool {
    let Some(named) = Named::parse(text) else { return false };
    named.is_address || named.name.eq_ignore_ascii_case(LOOPBACK_NAME) || {
        rules.iter().any(|rule| rule.matches(&named))
    }
}

/// A `Host` header or an authority, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    /// Without the dot that ends a fully qualified name.
    name: &'a str,
    port: Option<u16>,
    is_address: bool,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if port.is_empty() { None } else { Some(number(port.strip_prefix(':')?)?) };
            return Some(Self { name: address, port, is_address: true });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(number(port)?)),
            None => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let plain =
            |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'.' | b'-' | b'_' | b'*');
        let valid = !name.is_empty() && name.bytes().all(plain);
        valid.then(|| Self { name, port, is_address: name.parse::<IpAddr>().is_ok() })
    }
}

fn number(port: &str) -> Option<u16> {
    port.bytes().all(|letter| letter.is_ascii_digit()).then(|| port.parse().ok())?
}

/// An origin that may send requests that change something: `https://mlops.example.org`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OriginRule(String);

impl OriginRule {
    /// Parses an entry.
    ///
    /// # Errors
    /// What was expected instead.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected the origin of a web page, such as `https://mlops.example.org`: \
            scheme, host and optional port, without a path";
        let (_, authority) = scheme_and_authority(text).ok_or(EXPECTED)?;
        match Named::parse(authority) {
            Some(named) if !named.name.contains('*') => Ok(Self(text.to_ascii_lowercase())),
            _ => Err(EXPECTED),
        }
    }

    pub(super) fn matches(&self, origin: &str) -> bool {
        self.0.eq_ignore_ascii_case(origin)
    }
}

fn scheme_and_authority(origin: &str) -> Option<(&'static str, &str)> {
    ["http", "https"].into_iter().find_map(|scheme| {
        let prefix = origin.get(..scheme.len()).filter(|prefix| prefix.eq_ignore_ascii_case(scheme))?;
        Some((scheme, origin[prefix.len()..].strip_prefix("://")?))
    })
}

/// Whether `origin` is that of a page which this service itself sent to the client that reached it as `host`.
///
/// Another port of the same host is another origin. On a port without TLS both schemes are this service's: a
/// proxy in front may have ended TLS.
pub(super) fn is_own(origin: &str, host: &str, secure: bool) -> bool {
    let Some((scheme, authority)) = scheme_and_authority(origin) else { return false };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |authority| -> &str { str::strip_suffix(authority, default_port).unwrap_or(authority) };
    (scheme == "https" || !secure) && bare(authority).eq_ignore_ascii_case(bare(host))
}

/// The origin of a `Referer`: all before the path.
pub(super) fn origin_of(referer: &str) -> &str {
    let after_scheme = referer.find("://").map_or(0, |at| at + 3);
    let end = referer[after_scheme..].find(['/', '?', '#']).map_or(referer.len(), |at| after_scheme + at);
    &referer[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_always_allowed_and_other_names_are_not() {
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "localhost.",
            "127.0.0.1:5000",
            "10.2.3.4",
            "[::1]:5000",
            "[fd00::7]",
        ] {
            assert!(is_allowed(&[], host), "{host}");
        }
        for host in [
            "",
            ":5000",
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io:5000",
            "evil",
            "2130706433",
            "0x7f.1",
            "127.1",
            "localhost:5000:5000",
            "localhost:",
            "localhost:+80",
            "localhost@evil.example",
            "user@localhost",
            "localhost/evil.example",
            "[::1",
            "[localhost]",
            "[::1].evil.example",
            "::1",
            "localhost evil.example",
            "*",
        ] {
            assert!(!is_allowed(&[], host), "{host}");
        }
    }

    #[test]
    fn configured_names_are_allowed_as_they_are_written() {
        let rules: Vec<HostRule> = ["registry", "mlops.example.org:8443", "*.svc.cluster.local"]
            .map(|text| HostRule::parse(text).unwrap())
            .into();
        for host in ["registry", "Registry:5000", "mlops.example.org:8443", "a.b.svc.cluster.local:5000"] {
            assert!(is_allowed(&rules, host), "{host}");
        }
        for host in [
            "registry.evil.example",
            "mlops.example.org",
            "mlops.example.org:80",
            "svc.cluster.local",
            "xsvc.cluster.local",
        ] {
            assert!(!is_allowed(&rules, host), "{host}");
        }
        assert!(is_allowed(&[HostRule::parse("*").unwrap()], "anything.example:1"));
        for text in ["", "http://registry", "a b", "*x", "a.*.b", "*.", "registry:port", "**"] {
            assert!(HostRule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_very_origin_is_its_own() {
        for (origin, host) in [
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://LocalHost:5000", "localhost:5000"),
            ("https://mlops.example.org", "mlops.example.org"),
            ("https://mlops.example.org", "mlops.example.org:443"),
            ("http://[::1]:5000", "[::1]:5000"),
        ] {
            assert!(is_own(origin, host, false), "{origin}");
        }
        for (origin, host) in [
            ("null", "127.0.0.1:5000"),
            ("", "127.0.0.1:5000"),
            ("http://127.0.0.1:5001", "127.0.0.1:5000"),
            ("http://localhost:5000", "127.0.0.1:5000"),
            ("http://127.0.0.1", "127.0.0.1:5000"),
            ("http://127.0.0.1:5000.evil.example", "127.0.0.1:5000"),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000"),
            ("http://evil.example@127.0.0.1:5000", "127.0.0.1:5000"),
            ("ftp://127.0.0.1:5000", "127.0.0.1:5000"),
            ("chrome-extension://127.0.0.1:5000", "127.0.0.1:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
        ] {
            assert!(!is_own(origin, host, false), "{origin}");
        }
        assert!(!is_own("http://a.example", "a.example", true), "this port speaks TLS alone");
    }

    #[test]
    fn origins_are_configured_without_a_path() {
        let rule = OriginRule::parse("https://MLOps.example.org").unwrap();
        assert!(
            rule.matches("https://mlops.example.org")
                && !rule.matches("https://mlops.example.org.evil.example")
        );
        for text in
            ["", "null", "*", "mlops.example.org", "https://mlops.example.org/", "https://*.example.org"]
        {
            assert!(OriginRule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_referer_has_the_origin_of_its_page() {
        assert_eq!(origin_of("http://evil.example/page?x=http://localhost/"), "http://evil.example");
        assert_eq!(origin_of("http://localhost:5000?x"), "http://localhost:5000");
        assert_eq!(origin_of("http://localhost:5000"), "http://localhost:5000");
        assert_eq!(origin_of("about:blank"), "about:blank");
    }
}
