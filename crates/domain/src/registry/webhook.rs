//! Webhooks: which events one wants, which addresses may be called, what follows an attempt, and when the
//! next one is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Invalid;

/// Patterns of one webhook at most.
pub const MAX_PATTERNS: usize = 50;
/// Length of a name.
const MAX_NAME_BYTES: usize = 100;
/// Length of a pattern.
const MAX_PATTERN_BYTES: usize = 200;
/// Maximum factor between a delay and the first one, before jitter.
const MAX_DOUBLINGS: u32 = 20;

/// Format of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// CloudEvents, signed after Standard Webhooks.
    CloudEvents,
    /// As MLflow's own server tells it.
    Mlflow,
}

impl Format {
    /// Its name in the API and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::Mlflow => "mlflow",
        }
    }
}

impl TryFrom<String> for Format {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        let known = [Self::CloudEvents, Self::Mlflow].into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| Invalid::new("format", format!("`{name}`: expected `cloudevents` or `mlflow`")))
    }
}

/// Checks the name of a webhook or of a rule: what can stand in a path as it is.
///
/// # Errors
/// It is empty, too long, or has other letters.
pub fn validate_slug(name: &str) -> Result<(), Invalid> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(fits) {
        let expected = format!("expected 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` or `.`");
        return Err(Invalid::new("name", expected));
    }
    Ok(())
}

/// Checks a pattern of subjects: words between dots, `*` for any one word, `>` at the end for the rest.
///
/// # Errors
/// It is not such a pattern, or does not begin with `slipway`.
pub fn validate_pattern(pattern: &str) -> Result<(), Invalid> {
    let refuse = |why: &str| Err(Invalid::new("events", format!("`{pattern}`: {why}")));
    if pattern.len() > MAX_PATTERN_BYTES {
        return refuse("too long");
    }
    let words: Vec<&str> = pattern.split('.').collect();
    for (index, word) in words.iter().enumerate() {
        let last = index + 1 == words.len();
        let plain =
            !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
        if !(plain || *word == "*" || (*word == ">" && last)) {
            return refuse(
                "expected words between dots, `*` for any one word, or `>` at the end for the rest",
            );
        }
    }
    if words[0] != "slipway" { refuse("events begin with `slipway.`") } else { Ok(()) }
}

/// Whether a subject fits a pattern, as NATS matches them.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some(want), Some(word)) if want == "*" || want == word => {}
            _ => return false,
        }
    }
}

/// Filters for one subscription that lets through at least what the patterns want. NATS refuses filters that
/// overlap, so patterns are widened to whole entities or services where they are no plain subjects;
/// `everything` are the filters of all subjects.
pub fn filters<'pattern>(
    patterns: impl IntoIterator<Item = &'pattern str>,
    everything: &[&str],
) -> Vec<String> {
    let mut wide: Vec<String> = patterns
        .into_iter()
        .flat_map(|pattern| {
            let words: Vec<&str> = pattern.split('.').collect();
            let plain = words.iter().take_while(|word| !matches!(**word, "*" | ">")).count();
            match plain {
                plain if plain == words.len() => vec![pattern.to_owned()],
                0 | 1 => everything.iter().map(|filter| (*filter).to_owned()).collect(),
                plain => vec![format!("{}.>", words[..plain].join("."))],
            }
        })
        .collect();
    wide.sort_unstable();
    wide.dedup();
    let covered = |filter: &String| {
        wide.iter().any(|other| {
            other != filter && other.strip_suffix('>').is_some_and(|prefix| filter.starts_with(prefix))
        })
    };
    wide.iter().filter(|filter| !covered(filter)).cloned().collect()
}

/// Whether an address is public: what a person who may make webhooks, but not look into
/// the network of the server, may have called.
///
/// Sources: the IANA special-purpose address registries for IPv4 (RFC 6890) and IPv6.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || first == 0
        || first >= 240
        // Shared between a provider and its customers; IETF assignments; benchmarks.
        || (first == 100 && (64..128).contains(&second))
        || (first, second, third) == (192, 0, 0)
        || (first == 198 && (second == 18 || second == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let words = address.segments();
    let carried = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match words {
        // An IPv4 address in other clothes: mapped, compatible (also :: and ::1), translated, 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => is_public_v4(carried(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(carried(high, low)),
        [0x2002, high, low, ..] => is_public_v4(carried(high, low)),
        // Global unicast is what begins with 001; documentation and Teredo are in it.
        [0x2001, 0x0db8, ..] | [0x2001, 0, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// When a delivery is given up, and how long the pauses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts at most.
    pub max_attempts: u32,
    /// Pause after the first failure, in milliseconds; each further one doubles.
    pub initial_ms: u64,
    /// Longest pause, in milliseconds.
    pub max_ms: u64,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with this status, and perhaps with the wish to be left alone for some
    /// milliseconds.
    Answered {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// There was no answer.
    Silent,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// Again after this pause in milliseconds.
    Retry(u64),
    /// Given up: kept as a dead letter.
    Dead,
    /// The receiver is gone for good (410): the webhook is switched off, and the delivery is a dead letter.
    Gone,
}

impl Retries {
    /// What follows the attempt with this number, from 1. `jitter` from 0 to 1 spreads the pauses of many
    /// deliveries that failed together.
    pub fn after(&self, attempt: u32, outcome: Outcome, jitter: f64) -> Next {
        let asked_ms = match outcome {
            Outcome::Answered { status: 200..=299, .. } => return Next::Delivered,
            Outcome::Answered { status: 410, .. } => return Next::Gone,
            Outcome::Answered { retry_after_ms, .. } => retry_after_ms.unwrap_or(0),
            Outcome::Silent => 0,
        };
        if attempt >= self.max_attempts {
            return Next::Dead;
        }
        let doublings = attempt.saturating_sub(1).min(MAX_DOUBLINGS);
        let pause = self.initial_ms.saturating_mul(1 << doublings).min(self.max_ms);
        // Between half the pause and all of it.
        let spread = (pause as f64 * (0.5 + jitter.clamp(0.0, 1.0) / 2.0)) as u64;
        Next::Retry(spread.max(asked_ms.min(self.max_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_nats() {
        for (pattern, subject, fits) in [
            ("slipway.registry.alias.set", "slipway.registry.alias.set", true),
            ("slipway.registry.alias.*", "slipway.registry.alias.set", true),
            ("slipway.registry.*", "slipway.registry.alias.set", false),
            ("slipway.>", "slipway.registry.alias.set", true),
            ("slipway.registry.alias.set.>", "slipway.registry.alias.set", false),
            ("slipway.*.rollout.promoted", "slipway.rollout-controller.rollout.promoted", true),
            ("slipway.registry.alias", "slipway.registry.alias.set", false),
        ] {
            assert_eq!(matches(pattern, subject), fits, "{pattern} {subject}");
        }
        for wrong in ["", "registry.>", "slipway..x", "slipway.>.x", "slipway.re*", "slipway.a b", "other.x"]
        {
            assert!(validate_pattern(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn filters_let_through_what_is_wanted_and_never_overlap() {
        const ALL: [&str; 2] = ["slipway.registry.>", "slipway.launcher.>"];
        let of = |patterns: &[&str]| filters(patterns.iter().copied(), &ALL);
        assert_eq!(
            of(&["slipway.registry.alias.set", "slipway.registry.alias.set"]),
            ["slipway.registry.alias.set"]
        );
        assert_eq!(
            of(&["slipway.registry.alias.*", "slipway.registry.alias.set"]),
            ["slipway.registry.alias.>"]
        );
        assert_eq!(
            of(&["slipway.registry.*.created", "slipway.registry.alias.>", "slipway.launcher.job.failed"]),
            ["slipway.launcher.job.failed", "slipway.registry.>"]
        );
        assert_eq!(
            of(&["slipway.*.job.failed", "slipway.registry.run.*"]),
            ["slipway.launcher.>", "slipway.registry.>"]
        );
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn addresses_of_ones_own_network_are_known_in_every_form() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::7f00:1",
            "64:ff9b:1::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in
            ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_end() {
        let retries = Retries { max_attempts: 5, initial_ms: 100, max_ms: 350 };
        let failed = Outcome::Answered { status: 500, retry_after_ms: None };
        let after = |attempt, jitter| retries.after(attempt, failed, jitter);
        assert_eq!([after(1, 1.0), after(2, 1.0), after(3, 1.0)], [100, 200, 350].map(Next::Retry));
        assert_eq!((after(1, 0.0), after(5, 0.0)), (Next::Retry(50), Next::Dead));
        let busy = Outcome::Answered { status: 429, retry_after_ms: Some(300) };
        assert_eq!(retries.after(1, busy, 0.0), Next::Retry(300));
        let rude = Outcome::Answered { status: 503, retry_after_ms: Some(u64::MAX) };
        assert_eq!(retries.after(1, rude, 0.0), Next::Retry(350));
        assert_eq!(
            retries.after(9, Outcome::Answered { status: 204, retry_after_ms: None }, 0.0),
            Next::Delivered
        );
        assert_eq!(
            retries.after(1, Outcome::Answered { status: 410, retry_after_ms: None }, 0.0),
            Next::Gone
        );
        assert!(matches!(retries.after(1, Outcome::Silent, 0.0), Next::Retry(_)));
        // A redirect is not followed, so it is no success.
        assert!(matches!(
            retries.after(1, Outcome::Answered { status: 302, retry_after_ms: None }, 0.0),
            Next::Retry(_)
        ));
        let patient = Retries { max_attempts: u32::MAX, initial_ms: u64::MAX, max_ms: 1_000 };
        assert_eq!(patient.after(u32::MAX - 1, Outcome::Silent, 1.0), Next::Retry(1_000));
    }
}
