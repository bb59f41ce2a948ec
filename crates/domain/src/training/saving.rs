//! How long it takes to store a checkpoint, and whether there is time for another one.
//!
//! A pod that is evicted is killed when its grace period is over. A checkpoint that could not be stored by
//! then is not begun: it would keep the pod's GPUs for nothing.

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
    /// Takes in a save of so many bytes that took so long.
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

    /// Time that a save of so many bytes takes, milliseconds; `None` before the first one. What is larger
    /// than the average takes longer in proportion; what is smaller counts like the average, since a part of
    /// the time does not depend on the size.
    pub fn estimate_ms(&self, bytes: u64) -> Option<u64> {
        let Average { bytes: usual, elapsed_ms } = self.average?;
        let times = (bytes as f64 / usual.max(1.0)).max(1.0);
        Some((elapsed_ms * times).ceil() as u64)
    }

    /// Whether a save of so many bytes ends within the remaining time, as far as is known.
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
    fn a_save_is_begun_if_one_like_those_before_ends_in_time() {
        let times = after(&[(1_000_000, 10_000)]);
        assert!(times.fits(1_000_000, 12_000) && !times.fits(1_000_000, 11_000));
        assert!(!times.fits(3_000_000, 30_000), "it is larger");
        assert!(!times.fits(1_000, 9_000), "a small one may take as long");
        assert_eq!(after(&[(100, 1_000), (300, 3_000)]).estimate_ms(200), Some(2_000));
    }

    #[test]
    fn the_first_save_is_begun_while_there_is_time() {
        assert!(SaveTime::default().fits(u64::MAX, 1) && !SaveTime::default().fits(1, 0));
        assert!(!after(&[(1, 1)]).fits(1, 0));
    }

    proptest! {
        /// With saves that always take the same time: what is begun ends in time, and what would end with a
        /// tenth to spare is begun, whatever the grace period.
        #[test]
        fn the_choice_is_right_where_saves_take_the_same_time(
            save_ms in 1_u64..100_000, share in 0.0_f64..2.0, count in 1_usize..20,
        ) {
            let times = after(&vec![(1 << 30, save_ms); count]);
            let grace_ms = (save_ms as f64 * share) as u64;
            let begun = times.fits(1 << 30, grace_ms);
            prop_assert!(!begun || save_ms <= grace_ms);
            prop_assert!(begun || save_ms as f64 * 1.13 + 2.0 > grace_ms as f64);
        }
    }
}
