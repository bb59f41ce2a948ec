//! How a service ends without failing a request: in stages, of which each ends what the next ones do not
//! need.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Default of [`parse_drain_time`]'s setting. Balancers, kube-proxy among them, need some seconds to notice
/// that a replica is no longer ready.
pub const DEFAULT_DRAIN_SECONDS: &str = "5";
/// Longest time for which a service goes on after its signal.
const MAX_DRAIN_SECONDS: f64 = 300.0;

/// The stages in which a service ends. Cheap to clone.
///
/// 1. [`Self::begun`]: the signal. The service is not ready, leads no longer and takes no further events, and
///    goes on answering requests, for the drain time.
/// 2. [`Self::hang_up`]: the drain time is over. Responses without an end, such as event streams, end.
/// 3. [`Self::over`]: the last request is answered. What requests need ends.
#[derive(Debug, Clone)]
pub struct Drain {
    begun: CancellationToken,
    hang_up: CancellationToken,
    over: CancellationToken,
}

impl Drain {
    /// A service that ends with `shutdown`. Its listener ends the other stages, which it therefore has to
    /// get.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { begun: shutdown, hang_up: CancellationToken::new(), over: CancellationToken::new() }
    }

    /// Set by the signal.
    pub const fn begun(&self) -> &CancellationToken {
        &self.begun
    }

    /// Set once the drain time is over.
    pub const fn hang_up(&self) -> &CancellationToken {
        &self.hang_up
    }

    /// Set once the last request is answered.
    pub const fn over(&self) -> &CancellationToken {
        &self.over
    }
}

impl From<CancellationToken> for Drain {
    /// All stages at the same time.
    fn from(shutdown: CancellationToken) -> Self {
        Self { begun: shutdown.clone(), hang_up: shutdown.clone(), over: shutdown }
    }
}

/// Reads a drain time, in seconds.
///
/// # Errors
/// It is no number, or out of range; says what is expected.
pub fn parse_drain_time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=MAX_DRAIN_SECONDS).contains(seconds));
    let seconds =
        seconds.ok_or_else(|| format!("expected seconds from 0 to {MAX_DRAIN_SECONDS}, e.g. 5 or 0.5"))?;
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_time_is_a_bounded_number_of_seconds() {
        assert_eq!(parse_drain_time("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_drain_time("0"), Ok(Duration::ZERO));
        assert_eq!(parse_drain_time("300"), Ok(Duration::from_secs(300)));
        for text in ["", "5s", "-1", "300.1", "NaN", "inf"] {
            assert!(parse_drain_time(text).unwrap_err().contains("from 0 to 300"), "{text}");
        }
    }
}
