//! Prompts, which MLflow keeps as registered models with a tag and Slipway does not serve.

use super::error::Failure;
use crate::store::tags::PROMPT_TAG;

/// MLflow's client registers a prompt as a model with a tag, and then a version without files. Refused at the
/// first step, nothing is left behind.
pub(super) fn refuse_prompt(key: &str, value: &str) -> Result<(), Failure> {
    let is_prompt = key == PROMPT_TAG && value.eq_ignore_ascii_case("true");
    if is_prompt { Err(Failure::no_prompts()) } else { Ok(()) }
}
