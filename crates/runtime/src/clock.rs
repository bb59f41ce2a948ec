//! The system's clock, for the edge: the domain takes times as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of the system")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Unix time in milliseconds; 0 where the clock is set to a time before 1970.
pub fn now_unix_ms() -> u64 {
    unix_ms(now())
}

/// Unix time in milliseconds, as a `BIGINT` column stores it.
pub fn now_unix_ms_column() -> i64 {
    i64::try_from(now_unix_ms()).unwrap_or(i64::MAX)
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_before_1970_count_as_0_and_fractions_are_cut_off() {
        assert_eq!(unix_ms(UNIX_EPOCH), 0);
        assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(unix_ms(UNIX_EPOCH + Duration::from_micros(1_999)), 1);
    }

    #[test]
    fn both_forms_are_of_the_same_clock() {
        let before = unix_ms(now());
        let column = u64::try_from(now_unix_ms_column()).unwrap();
        let after = now_unix_ms();
        assert!(before <= column && column <= after, "{before} {column} {after}");
    }
}
