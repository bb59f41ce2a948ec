//! How long it takes to store a checkpoint, and whether there is time for another one.
//!
//! A pod that is evicted is killed at the end of its grace period. The agent does not start a save that
//! cannot finish by then, since it would only keep the pod's GPUs occupied.

/// Weight of the newest save in the average.
const WEIGHT: f64 = 0.5;
/// Part of the remaining time that a save may take by its estimate: the store may be slower this time.
const USABLE_SHARE: f64 = 0.9;

/// Size and time of the saves so far, as exponentially weighted moving averages.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SaveTime {
    average: Option<Average>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Average {
    bytes: f64,
    elapsed_ms: f64,
}

impl SaveTime {
    /// Records the size and duration of a completed save.
    pub fn observe(&mut self, bytes: u64, elapsed_ms: u64) {
        let (bytes, elapsed_ms) = (bytes as f64, elapsed_ms as f64);
        self.average = Some(match self.average {
            None => Average { bytes, elapsed_ms },
            Some(before) => Average {
                bytes: before.bytes + WEIGHT * (bytes - before.bytes),
                elapsed_ms: before.elapsed_ms + WEIGHT * (elapsed_ms - before.elapsed_ms),
            },
        });
    }

    /// Estimated duration of a save of `bytes`, in milliseconds; `None` before the first save. A save larger
    /// than the average scales in proportion; a smaller one counts as the average, since part of the duration
    /// does not depend on the size.
    pub fn estimate_ms(&self, bytes: u64) -> Option<u64> {
        let Average { bytes: usual, elapsed_ms } = self.average?;
        let times = (bytes as f64 / usual.max(1.0)).max(1.0);
        Some((elapsed_ms * times).ceil() as u64)
    }

    /// Whether a save of `bytes` is expected to finish within the remaining time. `true` before the first
    /// save, if any time remains.
    pub fn fits(&self, bytes: u64, remaining_ms: u64) -> bool {
        let usable_ms = remaining_ms as f64 * USABLE_SHARE;
        remaining_ms > 0 && self.estimate_ms(bytes).is_none_or(|estimate_ms| estimate_ms as f64 <= usable_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(saves: &[(u64, u64)]) -> SaveTime {
        let mut times = SaveTime::default();
        for (bytes, elapsed_ms) in saves {
            times.observe(*bytes, *elapsed_ms);
        }
        times
    }

    #[test]
    fn a_save_starts_if_it_is_expected_to_finish_in_time() {
        let times = after(&[(1_000_000, 10_000)]);
        assert!(times.fits(1_000_000, 12_000) && !times.fits(1_000_000, 11_000));
        assert!(!times.fits(3_000_000, 30_000), "it is larger");
        assert!(!times.fits(1_000, 9_000), "a small one may take as long");
        assert_eq!(after(&[(100, 1_000), (300, 3_000)]).estimate_ms(200), Some(2_000));
    }

    #[test]
    fn the_first_save_starts_while_there_is_time() {
        assert!(SaveTime::default().fits(u64::MAX, 1) && !SaveTime::default().fits(1, 0));
        assert!(!after(&[(1, 1)]).fits(1, 0));
    }

    proptest! {
        /// With saves of constant duration and any grace period: a save that starts finishes in time, and a
        /// save that would finish with a tenth of the time to spare starts.
        #[test]
        fn the_choice_is_right_where_saves_take_the_same_time(
            save_ms in 1_u64..100_000, share in 0.0_f64..2.0, count in 1_usize..20,
        ) {
            let times = after(&vec![(1 << 30, save_ms); count]);
            let grace_ms = (save_ms as f64 * share) as u64;
            let starts = times.fits(1 << 30, grace_ms);
            prop_assert!(!starts || save_ms <= grace_ms);
            prop_assert!(starts || save_ms as f64 * 1.13 + 2.0 > grace_ms as f64);
        }
    }
}
