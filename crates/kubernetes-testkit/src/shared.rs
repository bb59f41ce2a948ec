//! Clusters for tests: on machines that can run them, and one per level for the tests of a process.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::{Cluster, Error, Level, Machine, Options};

/// Environment variable with a level: tests of that level and of those before it must run. Otherwise, tests
/// whose level this machine cannot run are left out; all are if it is [`OFF`].
pub const REQUIRED_LEVEL: &str = "SLIPWAY_TEST_CLUSTER";
/// Value of [`REQUIRED_LEVEL`] that leaves all levels out.
pub const OFF: &str = "off";

/// Whether tests of a level are left out, because this machine cannot run it or its programs are not built;
/// the reason is printed.
///
/// # Panics
/// [`REQUIRED_LEVEL`] is neither a level nor [`OFF`].
#[expect(clippy::expect_used, reason = "for tests, which can only fail")]
pub fn left_out(level: Level) -> bool {
    let required = std::env::var(REQUIRED_LEVEL).ok().filter(|text| !text.is_empty());
    if required.as_deref() == Some(OFF) {
        eprintln!("left out: level {level} of the Kubernetes test cluster: {REQUIRED_LEVEL} is `{OFF}`");
        return true;
    }
    let required = required.map(|text| text.parse::<Level>().expect(REQUIRED_LEVEL));
    if required.is_some_and(|required| level <= required) {
        return false;
    }
    let obstacle = Machine::examine().obstacle_now(level);
    if let Some(reason) = &obstacle {
        eprintln!("left out: level {level} of the Kubernetes test cluster: {reason}");
    }
    obstacle.is_some()
}

/// A program that tests need beside a cluster. `None` if it could not be built; the reason is printed.
///
/// # Panics
/// It could not be built, and [`REQUIRED_LEVEL`] says that tests must run.
pub(crate) fn program_or_left_out(what: &str, built: Result<PathBuf, Error>) -> Option<PathBuf> {
    built
        .inspect_err(|error| {
            let required = std::env::var(REQUIRED_LEVEL).ok().filter(|level| !level.is_empty());
            assert!(required.is_none_or(|level| level == OFF), "{what}: {error}");
            eprintln!("left out: tests with {what}: {error}");
        })
        .ok()
}

impl Cluster {
    /// The cluster that all tests of this process share at a level; it starts when it is first needed and
    /// ends with the process. Its API server logs every request, see [`Cluster::audit_log`]. `None` if the
    /// level is left out, see [`left_out`].
    ///
    /// # Panics
    /// The cluster does not start.
    pub fn shared(level: Level) -> Option<&'static Self> {
        static SHARED: [OnceLock<Option<Cluster>>; 3] = [const { OnceLock::new() }; 3];
        SHARED[level as usize]
            .get_or_init(|| Self::own(&Options { audit: true, ..Options::new(level) }))
            .as_ref()
    }

    /// A cluster of one's own. `None` if the level is left out, see [`left_out`].
    ///
    /// # Panics
    /// The cluster does not start.
    #[expect(clippy::expect_used, reason = "for tests, which can only fail without it")]
    pub fn own(options: &Options) -> Option<Self> {
        if left_out(options.level) {
            return None;
        }
        Some(Self::start(options, &mut |_| {}).expect("the cluster starts"))
    }
}
