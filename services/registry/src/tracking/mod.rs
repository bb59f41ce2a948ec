//! Use cases of tracking: experiments and runs, what runs log, and the group commit that they share.

pub(crate) mod artifacts;
pub(crate) mod create_run;
pub(crate) mod direct_uploads;
pub(crate) mod experiments;
pub(crate) mod group_commit;
pub(crate) mod histories;
pub(crate) mod inputs;
pub(crate) mod log_batch;
pub(crate) mod logged_models;
pub(crate) mod runs;
