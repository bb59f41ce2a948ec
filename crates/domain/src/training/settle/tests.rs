//! No half-written checkpoint is stored, and no whole one is forgotten.

use proptest::prelude::*;

use super::*;

const LOOK_MS: u64 = 200;

fn sighting(step: u64, fingerprint: u64, age_ms: u64) -> Sighting {
    Sighting { step, fingerprint, age_ms, evidence: Evidence::None }
}

fn whole(step: u64, fingerprint: u64) -> Sighting {
    Sighting { step, fingerprint, age_ms: 0, evidence: Evidence::Whole }
}

fn look(watch: &mut Watch, now_ms: u64, sightings: &[Sighting], moment: Moment) -> Option<u64> {
    watch.look(now_ms, sightings, moment).store
}

#[test]
fn a_renamed_checkpoint_is_stored_at_first_sight_and_once() {
    let mut watch = Watch::default();
    assert_eq!(look(&mut watch, 0, &[whole(5, 1)], Moment::Running), Some(5));
    watch.set_done(5, 1);
    assert_eq!(look(&mut watch, 200, &[whole(5, 1)], Moment::Running), None);
    assert_eq!(look(&mut watch, 400, &[whole(5, 2)], Moment::Running), Some(5), "it was changed afterwards");
    watch.set_done(5, 2);
    assert_eq!(look(&mut watch, 600, &[whole(4, 1), whole(5, 2)], Moment::Running), None);
}

#[test]
fn a_step_below_the_last_one_is_superseded() {
    let mut watch = Watch::default();
    watch.set_done(5, 1);
    assert_eq!(look(&mut watch, 0, &[whole(4, 9)], Moment::Running), None);
    assert_eq!(look(&mut watch, 0, &[whole(4, 9)], Moment::EndedOrderly), None);
}

#[test]
fn the_end_of_the_command_decides_about_what_time_has_not() {
    let at_end =
        |age_ms, moment| Watch::default().look(10, &[sighting(1, 7, 9_000), sighting(2, 1, age_ms)], moment);
    let decided = |store, abandoned: &[u64]| Decision { store, abandoned: abandoned.to_vec() };
    assert_eq!(at_end(0, Moment::EndedOrderly), decided(Some(2), &[]));
    assert_eq!(at_end(QUIET_BEFORE_END_MS, Moment::EndedAbruptly), decided(Some(2), &[]));
    assert_eq!(at_end(QUIET_BEFORE_END_MS - 1, Moment::EndedAbruptly), decided(Some(1), &[2]));
}

#[test]
fn files_that_were_renamed_one_by_one_wait_for_others_unless_the_command_has_ended() {
    let so_far = Sighting { evidence: Evidence::WholeSoFar, ..sighting(3, 1, 0) };
    assert_eq!(look(&mut Watch::default(), 0, &[so_far], Moment::Running), None);
    assert_eq!(look(&mut Watch::default(), 0, &[so_far], Moment::EndedAbruptly), Some(3));
}

#[test]
fn a_missing_marker_outweighs_time_and_end() {
    let unfinished = Sighting { evidence: Evidence::Unfinished, ..sighting(3, 1, u64::MAX) };
    for moment in [Moment::Running, Moment::EndedOrderly, Moment::EndedAbruptly] {
        let mut watch = Watch::default();
        watch.look(0, &[unfinished], Moment::Running);
        assert_eq!(look(&mut watch, 1_000_000, &[unfinished], moment), None);
    }
}

#[test]
fn steps_that_follow_quickly_do_not_keep_the_older_ones_from_being_stored() {
    let mut watch = Watch::default();
    let mut stored = Vec::new();
    for now_ms in (0..30_000).step_by(200) {
        // A step each second, each written at once and kept.
        let sightings: Vec<_> =
            (0..=now_ms / 1_000).map(|step| sighting(step, 1, now_ms - step * 1_000)).collect();
        if let Some(step) = look(&mut watch, now_ms, &sightings, Moment::Running) {
            watch.set_done(step, 1);
            stored.push(step);
        }
    }
    assert!(stored.len() > 20, "{stored:?}");
    assert!(stored.is_sorted());
}

/// A command that writes one checkpoint in place: pauses between its writes, milliseconds, and when the
/// observer looks.
#[derive(Debug, Clone)]
struct Writing {
    pauses_ms: Vec<u64>,
    delays_ms: Vec<u64>,
}

impl Writing {
    /// How much was written at a time, and how long ago the last write was.
    fn at(&self, now_ms: u64) -> (u64, u64) {
        let (mut written, mut last_ms, mut at_ms) = (0, 0, 0);
        for pause_ms in &self.pauses_ms {
            at_ms += pause_ms;
            if at_ms > now_ms {
                break;
            }
            (written, last_ms) = (written + 1, at_ms);
        }
        (written, now_ms - last_ms)
    }

    fn looks(&self) -> impl Iterator<Item = u64> + '_ {
        self.delays_ms.iter().scan(0, |now_ms, delay_ms| {
            *now_ms += LOOK_MS + delay_ms;
            Some(*now_ms)
        })
    }
}

fn writing() -> impl Strategy<Value = Writing> {
    let pauses_ms = proptest::collection::vec(0..QUIET_WHILE_RUNNING_MS, 1..12);
    // The observer is late at times, as on a loaded machine.
    let delays_ms = proptest::collection::vec(prop_oneof![4 => Just(0), 1 => 0_u64..3_000], 200);
    (pauses_ms, delays_ms).prop_map(|(pauses_ms, delays_ms)| Writing { pauses_ms, delays_ms })
}

proptest! {
    /// Writes that come closer together than the quiet period: only the whole checkpoint is ever stored, and
    /// it is stored.
    #[test]
    fn only_what_is_whole_is_stored_while_the_command_runs(writing in writing()) {
        let mut watch = Watch::default();
        let mut stored = Vec::new();
        for now_ms in writing.looks() {
            let (written, age_ms) = writing.at(now_ms);
            if look(&mut watch, now_ms, &[sighting(1, written, age_ms)], Moment::Running).is_some() {
                watch.set_done(1, written);
                stored.push(written);
            }
        }
        let all = writing.pauses_ms.len() as u64;
        let long_enough = writing.looks().last().unwrap_or(0)
            > writing.pauses_ms.iter().sum::<u64>() + 2 * QUIET_WHILE_RUNNING_MS;
        prop_assert!(stored.iter().all(|written| *written == all), "{stored:?} of {all}");
        prop_assert!(!long_enough || stored == [all], "{stored:?} of {all}");
    }

    /// A clock of the file system that is wrong by any amount does not make a changing checkpoint look whole.
    #[test]
    fn a_wrong_clock_stores_nothing_that_changes(ages in proptest::collection::vec(any::<u64>(), 1..100)) {
        let mut watch = Watch::default();
        for (index, age_ms) in ages.into_iter().enumerate() {
            let index = index as u64;
            let now_ms = index * LOOK_MS;
            prop_assert_eq!(look(&mut watch, now_ms, &[sighting(1, index, age_ms)], Moment::Running), None);
        }
    }

    /// Stored steps never go back, whatever is seen.
    #[test]
    fn stored_steps_never_go_back(
        looks in proptest::collection::vec(
            proptest::collection::vec((0_u64..5, 0_u64..3, 0_u64..12_000, any::<bool>()), 0..4), 1..60),
    ) {
        let mut watch = Watch::default();
        let mut last = 0;
        for (index, seen) in looks.into_iter().enumerate() {
            let sightings: BTreeMap<u64, Sighting> = seen.into_iter()
                .map(|(step, fingerprint, age_ms, renamed)| {
                let evidence = if renamed { Evidence::Whole } else { Evidence::None };
                (step, Sighting { step, fingerprint, age_ms, evidence })
            }).collect();
            let sightings: Vec<Sighting> = sightings.into_values().collect();
            if let Some(step) = look(&mut watch, index as u64 * LOOK_MS, &sightings, Moment::Running) {
                prop_assert!(step >= last);
                let stored = sightings.iter().find(|sighting| sighting.step == step).expect("it was seen");
                watch.set_done(step, stored.fingerprint);
                last = step;
            }
        }
    }
}
