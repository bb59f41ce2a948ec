//! Which versions leave memory when there are more than fit. Pure.

use std::cmp::Reverse;

/// A version in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Its digest.
    pub digest: String,
    /// What it takes.
    pub bytes: u64,
    /// When it was last asked for, on any clock that all of them share.
    pub last_used_ms: u64,
    /// Whether no table names it: it is kept for a rollback.
    pub spare: bool,
    /// Whether it runs, or is waited for: it stays.
    pub pinned: bool,
}

/// The versions to unload, so that all together and `coming_bytes` more take no more than `limit_bytes`:
/// spares first, and of each kind those that were used longest ago. Where that is not enough, all that may
/// go; no more than is needed elsewhere.
pub(super) fn to_unload(held: &[Held], coming_bytes: u64, limit_bytes: u64) -> Vec<String> {
    let mut total = held.iter().fold(coming_bytes, |total, version| total.saturating_add(version.bytes));
    let mut able: Vec<&Held> = held.iter().filter(|version| !version.pinned && version.bytes > 0).collect();
    able.sort_by_key(|version| (Reverse(version.spare), version.last_used_ms, &version.digest));
    let mut unloaded = Vec::new();
    for version in able {
        if total <= limit_bytes {
            break;
        }
        total = total.saturating_sub(version.bytes);
        unloaded.push(version.digest.clone());
    }
    unloaded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(digest: &str, bytes: u64, last_used_ms: u64) -> Held {
        Held { digest: digest.into(), bytes, last_used_ms, spare: false, pinned: false }
    }

    #[test]
    fn what_was_used_longest_ago_goes_and_no_more_than_is_needed() {
        let all = [held("new", 40, 30), held("old", 40, 10), held("middle", 40, 20)];
        assert_eq!(to_unload(&all, 0, 120), Vec::<String>::new());
        assert_eq!(to_unload(&all, 0, 119), ["old"]);
        assert_eq!(to_unload(&all, 40, 100), ["old", "middle"]);
        // One that is larger than the limit takes the place of all others.
        assert_eq!(to_unload(&all, 500, 100), ["old", "middle", "new"]);
    }

    #[test]
    fn spares_go_first_and_what_runs_stays() {
        let spare = Held { spare: true, ..held("spare", 10, 99) };
        let busy = Held { pinned: true, ..held("busy", 500, 0) };
        assert_eq!(to_unload(&[held("old", 10, 1), spare.clone(), busy.clone()], 0, 510), ["spare"]);
        assert_eq!(to_unload(&[held("old", 10, 1), spare, busy], 0, 0), ["spare", "old"]);
    }

    prop_compose! {
        fn any_held()(bytes in 0_u64..1000, last_used_ms in 0_u64..50, spare: bool, pinned: bool) -> Held {
            Held { digest: String::new(), bytes, last_used_ms, spare, pinned }
        }
    }

    proptest! {
        #[test]
        fn the_limit_is_kept_with_the_fewest_that_were_used_longest_ago(
            mut all in prop::collection::vec(any_held(), 0..20),
            coming in 0_u64..2000,
            limit in 0_u64..5000,
        ) {
            for (at, version) in all.iter_mut().enumerate() {
                version.digest = format!("{at:02}");
            }
            let unloaded = to_unload(&all, coming, limit);
            let (gone, stay): (Vec<_>, Vec<_>) = all.iter()
                .partition(|version| unloaded.contains(&version.digest));
            prop_assert!(gone.iter().all(|version| !version.pinned));
            let total: u64 = coming + stay.iter().map(|version| version.bytes).sum::<u64>();
            let all_that_may_go = stay.iter().all(|version| version.pinned || version.bytes == 0);
            prop_assert!(total <= limit || all_that_may_go);
            if let Some(last) = unloaded.last() {
                let last = all.iter().find(|version| version.digest == *last).unwrap();
                prop_assert!(total + last.bytes > limit, "{} need not have gone", last.digest);
            }
            for (left, stayed) in gone.iter().flat_map(|left| stay.iter().map(move |stayed| (left, stayed))) {
                if !stayed.pinned && stayed.bytes > 0 {
                    prop_assert!(left.spare || !stayed.spare);
                    prop_assert!(left.spare != stayed.spare || left.last_used_ms <= stayed.last_used_ms);
                }
            }
        }
    }
}
