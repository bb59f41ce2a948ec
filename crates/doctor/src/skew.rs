//! Clocks and certificates.

use crate::{Finding, Level};

/// Clocks that differ by more cost precision of windows and logs.
const WARN_SKEW_MS: u64 = 1_000;
/// Clocks that differ by more break signatures of S3 (15 min), tokens and leases.
const FAIL_SKEW_MS: u64 = 60_000;
const WARN_DAYS: i64 = 14;
const DAY_S: i64 = 86_400;

/// The clock of another machine against ours. `slack_ms` is what the measurement cannot tell: the time of the
/// request, and a second where the other one gives no fractions.
pub fn clock(of: &str, difference_ms: i64, slack_ms: u64) -> Finding {
    let check = format!("{of} clock");
    let apart = difference_ms.unsigned_abs().saturating_sub(slack_ms);
    let direction = if difference_ms < 0 { "behind" } else { "ahead of" };
    if apart <= WARN_SKEW_MS {
        return Finding::ok(check, "differs from this machine's by less than a second");
    }
    let seconds = apart / 1_000;
    let found = format!("{seconds} s {direction} this machine's");
    let advice = "synchronize the clocks of both machines, e.g. with chrony or systemd-timesyncd";
    let level = if apart > FAIL_SKEW_MS { Level::Fail } else { Level::Warn };
    Finding { level, ..Finding::warn(check, found, advice) }
}

/// A certificate, by the Unix times in seconds of its end and of now.
pub fn certificate(of: &str, not_after_s: i64, now_s: i64) -> Finding {
    let check = format!("{of} certificate");
    let left = not_after_s - now_s;
    let advice = "renew the certificate, or check why cert-manager does not";
    if left <= 0 {
        return Finding::fail(check, format!("expired {} days ago", -left / DAY_S), advice);
    }
    let found = format!("expires in {} days", left / DAY_S);
    Finding::of(left / DAY_S >= WARN_DAYS, Level::Warn, &check, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_by_what_is_certain() {
        for (difference_ms, slack_ms, level) in [
            (0, 0, Level::Ok),
            (-900, 0, Level::Ok),
            (1_900, 1_000, Level::Ok),
            (3_500, 1_000, Level::Warn),
            (-30_000, 0, Level::Warn),
            (61_001, 0, Level::Fail),
            (i64::MIN, 0, Level::Fail),
        ] {
            assert_eq!(clock("s3", difference_ms, slack_ms).level, level, "{difference_ms} {slack_ms}");
        }
        assert_eq!(clock("s3", -30_000, 0).found, "30 s behind this machine's");
    }

    #[test]
    fn certificates_are_reported_before_they_expire() {
        for (days, level) in [(90, Level::Ok), (14, Level::Ok), (13, Level::Warn), (-1, Level::Fail)] {
            assert_eq!(certificate("s3", 1_000 + days * DAY_S, 1_000).level, level, "{days}");
        }
        assert_eq!(certificate("s3", 0, 3 * DAY_S).found, "expired 3 days ago");
    }
}
