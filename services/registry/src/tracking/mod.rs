//! Use cases of tracking: experiments and runs, what runs log, and the group commit that they share.

pub(crate) mod create_run;
pub(crate) mod group_commit;
pub(crate) mod log_batch;
