//! Latencies as counts by size, which add up over replicas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets of each doubling: a bucket is at most an eighth wide.
const PER_DOUBLING: u64 = 8;
const PER_DOUBLING_BITS: u32 = PER_DOUBLING.trailing_zeros();
/// Number of buckets; the last one has everything from 126 s on.
pub const BUCKETS: usize = 25 * 8;

/// Counts of latencies by bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies(BTreeMap<u16, u64>);

/// The bucket of a latency in microseconds. Those below 8 µs have one each.
pub fn bucket_of(latency_us: u64) -> usize {
    if latency_us < PER_DOUBLING {
        return usize::try_from(latency_us).unwrap_or_default();
    }
    let doubling = u64::from(latency_us.ilog2() - PER_DOUBLING_BITS);
    // The bits below the highest one that tell the bucket of its doubling.
    let within = (latency_us >> doubling) - PER_DOUBLING;
    let bucket = (doubling + 1) * PER_DOUBLING + within;
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The smallest latency of a bucket, in microseconds.
fn least_us(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < PER_DOUBLING {
        return bucket;
    }
    let (doubling, within) = (bucket / PER_DOUBLING - 1, bucket % PER_DOUBLING);
    (PER_DOUBLING + within) << doubling
}

impl Latencies {
    /// Counts by bucket; zeros are left out.
    pub fn of(counts: impl IntoIterator<Item = u64>) -> Self {
        let numbered = (0_u16..).zip(counts);
        Self(numbered.filter(|(_, count)| *count > 0).collect())
    }

    /// Adds those of another replica.
    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let sum = self.0.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Nearest-rank percentile in microseconds, as the middle of its bucket; 0 of nothing.
    pub fn percentile_us(&self, percent: u64) -> u64 {
        let rank = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.0 {
            seen += count;
            if seen >= rank {
                return least_us(*bucket).midpoint(least_us(bucket + 1).saturating_sub(1));
            }
        }
        0
    }

    /// How many are above a limit for sure.
    pub(super) fn above(&self, limit_us: u64) -> u64 {
        self.0.iter().filter(|(bucket, _)| least_us(**bucket) > limit_us).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(values: impl Iterator<Item = u64>) -> Latencies {
        let mut counts = vec![0; BUCKETS];
        values.for_each(|value| counts[bucket_of(value)] += 1);
        Latencies::of(counts)
    }

    #[test]
    fn every_latency_is_in_a_bucket_that_is_an_eighth_wide_at_most() {
        for latency in (0..10_000).chain((14..27).map(|power| (1 << power) + 12_345)) {
            let bucket = u16::try_from(bucket_of(latency)).unwrap();
            let (least, next) = (least_us(bucket), least_us(bucket + 1));
            assert!((least..next).contains(&latency), "{latency}: {least} to {next}");
            assert!((next - least) * PER_DOUBLING <= latency.max(PER_DOUBLING), "{latency}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_and_shares_are_those_of_all_replicas() {
        let mut all = latencies((1..=100).map(|ms| ms * 1_000));
        assert!(all.percentile_us(95).abs_diff(95_000) < 95_000 / 8, "{}", all.percentile_us(95));
        all.add(&latencies((1..=100).map(|_| 400_000)));
        assert_eq!(all.count(), 200);
        assert!(all.percentile_us(95).abs_diff(400_000) < 400_000 / 8);
        assert_eq!((all.above(200_000), all.above(1_000_000)), (100, 0));
        assert_eq!(Latencies::default().percentile_us(99), 0);
    }
}
