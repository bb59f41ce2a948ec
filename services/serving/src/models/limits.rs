//! What settings of a model may be, whether they come from flags, a version's `slipway-serving.json` or a
//! `config.pbtxt`.

use std::fmt;

use slipway_inference::LoadOptions;

/// Most runs at a time, threads of one, and waiting requests.
const MAX_THREADS: usize = 1024;
const MAX_QUEUE: usize = 1_000_000;
/// Longest wait for further requests; beyond it every client would have given up.
const MAX_DELAY_US: u128 = 1_000_000;

/// A setting that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    /// As `slipway-serving.json` calls it.
    pub field: &'static str,
    /// What it is, and what was expected.
    pub complaint: String,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.field, self.complaint)
    }
}

/// Refuses what means nothing, or would take all of a machine.
///
/// # Errors
/// Names the first setting at fault.
pub(crate) fn check(options: &LoadOptions) -> Result<(), OutOfRange> {
    let batching = &options.batching;
    let preferred =
        batching.preferred_rows.iter().map(|rows| ("preferred_batch_rows", *rows, 1, batching.max_rows));
    let numbers = [
        ("instances", options.instances, 0, MAX_THREADS),
        ("intra_threads", options.intra_threads, 0, MAX_THREADS),
        ("queue_limit", options.queue_limit, 1, MAX_QUEUE),
        ("max_batch_rows", batching.max_rows, 1, usize::MAX),
    ];
    for (field, value, least, most) in numbers.into_iter().chain(preferred) {
        let complaint = match value {
            _ if value < least => format!("is {value}; expected at least {least}"),
            _ if value > most && field == "preferred_batch_rows" => {
                format!("is {value}; expected at most max_batch_rows, which is {most}")
            }
            _ if value > most => format!("is {value}; expected at most {most}"),
            _ => continue,
        };
        return Err(OutOfRange { field, complaint });
    }
    let delay_us = batching.delay.as_micros();
    if delay_us > MAX_DELAY_US {
        let complaint = format!("is {delay_us}; expected at most {MAX_DELAY_US}");
        return Err(OutOfRange { field: "batch_delay_us", complaint });
    }
    Ok(())
}
