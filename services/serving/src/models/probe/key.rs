//! What names a version for its probes.

/// Names a version's files, the library and the settings of its session: what is kept of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Key(pub(super) String);
