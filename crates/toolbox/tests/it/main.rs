//! The cache and the servers, with the real wheels.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod cache;
mod doors;
mod servers;

use slipway_toolbox::Toolbox;

/// The user's own cache: what is there is not fetched again for a test.
fn toolbox() -> Toolbox {
    Toolbox::from_env().unwrap()
}

fn quiet() -> impl FnMut(&str) {
    |_message: &str| {}
}
