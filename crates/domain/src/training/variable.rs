//! Names of environment variables that a job sets.

use crate::{Invalid, invalid::ensure};

/// The agent sets these itself.
const RESERVED_ENV_PREFIX: &str = "SLIPWAY_";

/// Checks the name of an environment variable that a job sets.
pub(super) fn check_variable_name(field: &str, name: &str) -> Result<(), Invalid> {
    ensure(!name.is_empty() && !name.contains(['=', '\0']), field, || {
        "a name must not be empty or hold '='".into()
    })?;
    ensure(!name.starts_with(RESERVED_ENV_PREFIX), field, || {
        format!("names that begin with {RESERVED_ENV_PREFIX} are set by the agent")
    })
}
