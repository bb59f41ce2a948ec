//! Parameters of a request that decide when it runs. Both protocols read them, so that both refuse alike.

use slipway_inference::Priority;

use crate::failure::Failure;

/// The parameter `timeout`: how long the client waits, in microseconds; 0 is no limit of its own. `given` is
/// `None` where there is none, and has no number where it is something else.
///
/// # Errors
/// It is no whole number.
pub(crate) fn timeout_us(given: Option<Option<u64>>) -> Result<Option<u64>, Failure> {
    match given {
        None => Ok(None),
        Some(Some(timeout_us)) => Ok(Some(timeout_us).filter(|timeout_us| *timeout_us > 0)),
        Some(None) => Err(expected("timeout", "a whole number of microseconds, not negative")),
    }
}

/// The parameter `priority`: 1 goes first, then 2, which is the default (0), then all others.
///
/// # Errors
/// It is no whole number.
pub(crate) fn priority(given: Option<Option<u64>>) -> Result<Priority, Failure> {
    match given {
        None | Some(Some(0 | 2)) => Ok(Priority::Normal),
        Some(Some(1)) => Ok(Priority::High),
        Some(Some(_)) => Ok(Priority::Low),
        Some(None) => {
            Err(expected("priority", "a whole number: 0 for the default, or from 1, which goes first"))
        }
    }
}

fn expected(parameter: &str, what: &str) -> Failure {
    Failure::invalid(format!("the parameter '{parameter}' expects {what}"))
}
