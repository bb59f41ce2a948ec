//! Which partitions a replica takes, and which it gives up: a decision without a clock and without I/O.
//!
//! Every replica sees the same members and computes the same owner of each partition by rendezvous hashing
//! (<https://en.wikipedia.org/wiki/Rendezvous_hashing>), so that they need not agree, and only partitions of
//! a member that comes or goes move.

use std::collections::BTreeSet;

/// A replica that divides the work: the id of the process of Postgres that serves it.
pub(crate) type Member = i32;

/// What one replica has of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    me: Member,
    partitions: u16,
    owned: BTreeSet<u16>,
}

/// What a replica learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It looked who is there.
    Looked {
        /// All replicas, this one included.
        members: BTreeSet<Member>,
        /// Partitions of this one whose next term another one has begun.
        taken: BTreeSet<u16>,
    },
    /// It began terms of these partitions.
    Began(BTreeSet<u16>),
}

/// What a replica does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// End the terms of these partitions.
    GiveUp(BTreeSet<u16>),
    /// Begin terms of these partitions.
    Claim(BTreeSet<u16>),
}

impl Share {
    /// Nothing yet, of `partitions`.
    pub(crate) const fn new(me: Member, partitions: u16) -> Self {
        Self { me, partitions, owned: BTreeSet::new() }
    }
}

/// A replica gives up what another one has taken, or should have, and claims what is its own. A partition
/// that was taken is claimed again where the other one did not know of this replica yet.
pub(crate) fn step(mut share: Share, observation: &Observation) -> (Share, Vec<Action>) {
    let mut actions = Vec::new();
    match observation {
        Observation::Began(partitions) => share.owned.extend(partitions),
        Observation::Looked { members, taken } => {
            let due: BTreeSet<u16> = (0..share.partitions)
                .filter(|partition| owner(*partition, members) == Some(share.me))
                .collect();
            let kept: BTreeSet<u16> = share
                .owned
                .intersection(&due)
                .filter(|partition| !taken.contains(partition))
                .copied()
                .collect();
            let given_up: BTreeSet<u16> = share.owned.difference(&kept).copied().collect();
            let claimed: BTreeSet<u16> = due.difference(&kept).copied().collect();
            share.owned = kept;
            actions.extend(Some(given_up).filter(|partitions| !partitions.is_empty()).map(Action::GiveUp));
            actions.extend(Some(claimed).filter(|partitions| !partitions.is_empty()).map(Action::Claim));
        }
    }
    (share, actions)
}

/// The member whose hash with the partition is the greatest.
fn owner(partition: u16, members: &BTreeSet<Member>) -> Option<Member> {
    let weight = |member: Member| mixed((u64::from(partition) << 32) | u64::from(member.cast_unsigned()));
    members.iter().copied().max_by_key(|member| (weight(*member), *member))
}

/// The partition of a key, of so many: the same in every replica and every release.
pub(crate) fn partition_of(key: &str, partitions: u16) -> u16 {
    // FNV-1a: <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>.
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u16::try_from(mixed(hash) % u64::from(partitions.max(1))).unwrap_or_default()
}

/// Spreads numbers that differ in a few bits: the finalizer of SplitMix64 (<https://prng.di.unimi.it/>).
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITIONS: u16 = 64;

    fn looked(members: &[Member]) -> Observation {
        Observation::Looked { members: members.iter().copied().collect(), taken: BTreeSet::new() }
    }

    /// Looks once, and begins what was claimed; what was given up.
    fn look(share: &mut Share, seen: &Observation) -> BTreeSet<u16> {
        let (next, actions) = step(share.clone(), seen);
        *share = next;
        let mut given_up = BTreeSet::new();
        for action in actions {
            match action {
                Action::GiveUp(partitions) => given_up = partitions,
                Action::Claim(partitions) => {
                    let (next, more) = step(share.clone(), &Observation::Began(partitions));
                    assert!(more.is_empty());
                    *share = next;
                }
            }
        }
        given_up
    }

    fn shares(members: &[Member]) -> Vec<Share> {
        let mut shares: Vec<Share> = members.iter().map(|me| Share::new(*me, PARTITIONS)).collect();
        for share in &mut shares {
            look(share, &looked(members));
        }
        shares
    }

    #[test]
    fn every_partition_has_one_owner_and_all_members_have_some() {
        for count in 1..=8 {
            let members: Vec<Member> = (0..count).map(|member| 4_100 + member).collect();
            let shares = shares(&members);
            let all: usize = shares.iter().map(|share| share.owned.len()).sum();
            let union: BTreeSet<u16> = shares.iter().flat_map(|share| share.owned.clone()).collect();
            assert_eq!((all, union.len()), (usize::from(PARTITIONS), usize::from(PARTITIONS)));
            assert!(shares.iter().all(|share| !share.owned.is_empty()), "{shares:?}");
        }
    }

    #[test]
    fn only_the_partitions_of_who_goes_or_comes_move() {
        let before = shares(&[11, 12, 13]);
        for (share, gone) in [(&before[0], 12), (&before[2], 12), (&before[0], 13)] {
            let left: Vec<Member> = [11, 12, 13].into_iter().filter(|member| *member != gone).collect();
            let mut after = share.clone();
            assert_eq!(look(&mut after, &looked(&left)), BTreeSet::new(), "what remains is kept");
            assert!(after.owned.is_superset(&share.owned));
            let back = look(&mut after, &looked(&[11, 12, 13]));
            assert_eq!(after.owned, share.owned);
            assert!(back.is_disjoint(&share.owned));
        }
    }

    #[test]
    fn nothing_is_done_while_nothing_changes() {
        let mut share = shares(&[1, 2]).remove(0);
        let before = share.clone();
        let (after, actions) = step(share.clone(), &looked(&[1, 2]));
        assert_eq!((&after, actions), (&before, Vec::new()));
        look(&mut share, &looked(&[1, 2]));
        assert_eq!(share, before);
    }

    #[test]
    fn a_partition_that_another_one_took_is_given_up_and_claimed_again_if_it_is_due() {
        let share = shares(&[1, 2]).remove(0);
        let taken = BTreeSet::from([*share.owned.first().unwrap()]);
        let members = BTreeSet::from([1, 2]);
        let (after, actions) = step(share.clone(), &Observation::Looked { members, taken: taken.clone() });
        assert_eq!(actions, [Action::GiveUp(taken.clone()), Action::Claim(taken.clone())]);
        assert!(after.owned.is_disjoint(&taken), "until its next term has begun");
        let members = BTreeSet::from([2]);
        let (after, actions) = step(share.clone(), &Observation::Looked { members, taken });
        assert_eq!(actions, [Action::GiveUp(share.owned)], "a replica that is not a member has nothing");
        assert!(after.owned.is_empty());
    }

    #[test]
    fn keys_have_the_same_partition_in_every_release() {
        assert_eq!(partition_of("churn", PARTITIONS), 62);
        assert_eq!(partition_of("cancer", PARTITIONS), 16);
        let used: BTreeSet<u16> =
            (0..1_000).map(|key| partition_of(&format!("deployment-{key}"), PARTITIONS)).collect();
        assert_eq!(used.len(), usize::from(PARTITIONS));
    }
}
