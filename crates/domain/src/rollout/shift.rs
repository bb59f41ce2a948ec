//! Whether the new version's predictions are distributed as stable's, however often that is asked.
//!
//! Without labels and shadow copies this is all that is known of the answers. It finds gross breakage: one
//! class for everything, predictions of another magnitude, a collapsed mix of classes. It cannot find wrong
//! predictions that are distributed as the right ones are.
//!
//! Each request is one observation: the share of its rows in each cell, so that a client with large batches
//! does not count for more than it is. Cells are classes, or the ranges between quantiles of stable's first
//! predictions. The distance is the total variation distance for classes (largest difference of the
//! probability of any set of classes). For numbers it is the Kolmogorov-Smirnov distance at the quantiles, or
//! the difference of the shares beyond the outer deciles where that is larger: a change of scale around an
//! unchanged median moves the former little. The bound holds at all times together: a two-sided normal
//! mixture boundary for each set of cells and each version, joined by a union bound. Source: Howard, Ramdas,
//! McAuliffe and Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
//! Statistics 49(2), section 3.2 (after Robbins, 1970), for shares, which are 1/2-sub-Gaussian.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::side::Side;

/// A bound is wrong at any time with at most this probability.
const ALPHA: f64 = 0.01;
/// Variance proxy of a share: the largest variance of a number between 0 and 1 (Hoeffding).
const VARIANCE: f64 = 0.25;
/// The boundary's ρ, in units of the intrinsic time n/4: tightest at about 200 requests.
const RHO: f64 = 3.0;
/// Requests of stable that fix the cells.
const REFERENCE_REQUESTS: usize = 20;
/// Requests of either version below which the distributions are not compared.
pub(super) const MIN_REQUESTS: u64 = 10;
/// Requests that wait for the cells to be fixed; later ones are left out.
const MAX_WAITING: usize = 2_048;
/// Rows of one request that are looked at.
const MAX_ROWS: usize = 1_024;
/// Classes with a cell of their own; all others share one.
const MAX_CLASSES: usize = 11;
/// Ranges of numbers: deciles.
const RANGES: usize = 10;
/// Numbers closer than this to a quantile, relative to the spread of the predictions, equal it.
const SPREAD_TOLERANCE: f64 = 1e-3;
/// The same relative to their size: two builds of one model differ by less.
const SIZE_TOLERANCE: f64 = 1e-4;
/// A version that always predicts the same has collapsed where stable predicts something else; proven once
/// that would be implausible even if it predicted the rest this many times more rarely than stable.
const COLLAPSE_FACTOR: f64 = 5.0;

/// What a version predicted for one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// A class by its name.
    Class(String),
    /// A whole number: a class where there are few of them, else a number.
    Whole(f64),
    /// A number.
    Real(f64),
}

impl Prediction {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Class(_) => None,
            Self::Whole(number) | Self::Real(number) => Some(*number),
        }
    }

    fn class(&self) -> String {
        match self {
            Self::Class(name) => name.clone(),
            Self::Whole(number) | Self::Real(number) => number.to_string(),
        }
    }
}

/// How the predictions of both versions compare.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShiftFacts {
    /// Requests of stable that count.
    pub stable_requests: u64,
    /// Requests of the new version that count.
    pub candidate_requests: u64,
    /// Whether the predictions are numbers rather than classes.
    pub numeric: bool,
    /// The distance is the difference of the shares below the first and above the last decile of stable's
    /// first predictions.
    pub beyond_deciles: bool,
    /// Distance of the two distributions, 0 to 1.
    pub distance: f64,
    /// Distance that equal distributions would show on average with this many requests.
    pub noise: f64,
    /// What the true distance exceeds, valid at any stopping time; 0 where nothing is proven.
    pub bound: f64,
    /// The new version always predicts the same where stable does not, beyond chance.
    pub collapsed: bool,
    /// The class or range that differs most, for people.
    pub example: String,
}

/// Gathers predictions until they can be compared; bounded memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Shift {
    waiting: Vec<(Side, Vec<Prediction>)>,
    references: usize,
    cells: Option<Cells>,
    stable: Sums,
    candidate: Sums,
}

/// What predictions are sorted into.
#[derive(Debug, Clone)]
enum Cells {
    /// Classes, and a last cell for all others.
    Classes(Vec<String>),
    /// Below, at and between these ascending numbers.
    Cuts { cuts: Vec<f64>, tolerance: f64 },
}

#[derive(Debug, Clone, Default)]
struct Sums {
    requests: u64,
    /// Summed over requests: share of rows in each cell.
    shares: Vec<f64>,
}

impl Shift {
    /// Counts one request's predictions, one for each row.
    pub(super) fn request(&mut self, side: Side, predictions: &[Prediction]) {
        let predictions = &predictions[..predictions.len().min(MAX_ROWS)];
        if predictions.is_empty() {
            return;
        }
        if self.cells.is_some() {
            return self.count(side, predictions);
        }
        if self.waiting.len() < MAX_WAITING || side == Side::Stable {
            self.references += usize::from(side == Side::Stable);
            self.waiting.push((side, predictions.to_vec()));
        }
        if self.references == REFERENCE_REQUESTS {
            self.fix_cells();
        }
    }

    fn fix_cells(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let reference: Vec<&Prediction> =
            waiting.iter().filter(|(side, _)| *side == Side::Stable).flat_map(|(_, rows)| rows).collect();
        let cells = Cells::of(&reference);
        // Quantiles of the reference say nothing new about it: it would seem less random than it is.
        let counts_reference = matches!(cells, Cells::Classes(_));
        self.cells = Some(cells);
        for (side, rows) in &waiting {
            if *side == Side::Candidate || counts_reference {
                self.count(*side, rows);
            }
        }
    }

    fn count(&mut self, side: Side, predictions: &[Prediction]) {
        let Some(cells) = &self.cells else { return };
        let sums = match side {
            Side::Stable => &mut self.stable,
            Side::Candidate => &mut self.candidate,
        };
        sums.requests += 1;
        sums.shares.resize(cells.len(), 0.0);
        for prediction in predictions {
            sums.shares[cells.place(prediction)] += 1.0 / predictions.len() as f64;
        }
    }

    /// The comparison so far.
    pub(super) fn facts(&self) -> ShiftFacts {
        let (stable, candidate) = (self.stable.requests, self.candidate.requests);
        let counts =
            ShiftFacts { stable_requests: stable, candidate_requests: candidate, ..ShiftFacts::default() };
        let Some(cells) = self.cells.as_ref().filter(|_| stable > 0 && candidate > 0) else { return counts };
        let (old, new) = (self.stable.rates(), self.candidate.rates());
        let (distance, noise) = cells.distance(&old, &new, stable as f64, candidate as f64);
        let events = cells.log_events();
        let margin = margin(stable as f64, events) + margin(candidate as f64, events);
        ShiftFacts {
            numeric: matches!(cells, Cells::Cuts { .. }),
            beyond_deciles: cells.beyond_deciles(&old, &new).is_some_and(|beyond| beyond >= distance),
            distance,
            noise,
            bound: (distance - margin).max(0.0),
            collapsed: collapsed(&old, &new, stable as f64, candidate as f64),
            example: cells.example(&old, &new),
            ..counts
        }
    }
}

impl Sums {
    fn rates(&self) -> Vec<f64> {
        self.shares.iter().map(|share| share / self.requests.max(1) as f64).collect()
    }
}

/// Half-width of the boundary for one share over `requests`, one of the two versions, at the natural
/// logarithm of the number of shares that have to hold together.
fn margin(requests: f64, log_events: f64) -> f64 {
    let time = requests * VARIANCE;
    let log_level = 2.0 * ((2.0 / ALPHA).ln() + log_events);
    ((time + RHO) * (((time + RHO) / RHO).ln() + log_level)).sqrt() / requests
}

/// Whether the candidate predicts one thing only, and stable something else often enough for that not to be
/// chance.
///
/// Were the candidate's requests with another prediction at least `rate` of all, none in the first n would
/// have the probability (1 - rate)^n; this is decreasing in n, so it holds at any time, too.
fn collapsed(old: &[f64], new: &[f64], stable: f64, candidate: f64) -> bool {
    let Some(only) = new.iter().position(|rate| *rate >= 1.0 - 1e-9) else { return false };
    let others = 1.0 - old.get(only).copied().unwrap_or(0.0) - margin(stable, (old.len() as f64).ln());
    let rate = (others / COLLAPSE_FACTOR).clamp(0.0, 0.5);
    candidate * -(1.0 - rate).ln() > (old.len() as f64 * 2.0 / ALPHA).ln()
}

impl Cells {
    fn of(reference: &[&Prediction]) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for prediction in reference {
            *counts.entry(prediction.class()).or_default() += 1;
        }
        let has_names = reference.iter().any(|prediction| prediction.number().is_none());
        let is_whole = reference.iter().all(|prediction| matches!(prediction, Prediction::Whole(_)));
        if has_names || is_whole && counts.len() <= MAX_CLASSES {
            let mut classes: Vec<(String, usize)> = counts.into_iter().collect();
            classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            return Self::Classes(classes.into_iter().take(MAX_CLASSES).map(|(class, _)| class).collect());
        }
        let mut numbers: Vec<f64> = reference.iter().filter_map(|prediction| prediction.number()).collect();
        numbers.sort_by(f64::total_cmp);
        let at = |place: usize| numbers.get(place).copied().unwrap_or(0.0);
        let (least, most) = (at(0), at(numbers.len().saturating_sub(1)));
        let tolerance = (SPREAD_TOLERANCE * (most - least)).max(SIZE_TOLERANCE * least.abs().max(most.abs()));
        let mut cuts: Vec<f64> = (1..RANGES).map(|range| at(numbers.len() * range / RANGES)).collect();
        cuts.dedup_by(|next, before| *next - *before <= 2.0 * tolerance);
        Self::Cuts { cuts, tolerance }
    }

    fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len() + 1,
            Self::Cuts { cuts, .. } => cuts.len() * 2 + 1,
        }
    }

    fn place(&self, prediction: &Prediction) -> usize {
        match self {
            Self::Classes(classes) => {
                let class = prediction.class();
                classes.iter().position(|known| *known == class).unwrap_or(classes.len())
            }
            Self::Cuts { cuts, tolerance } => {
                let number = prediction.number().unwrap_or(f64::NAN);
                let below = cuts.iter().filter(|cut| **cut + tolerance < number).count();
                let at = cuts.get(below).is_some_and(|cut| (cut - number).abs() <= *tolerance);
                below * 2 + usize::from(at)
            }
        }
    }

    /// Natural logarithm of the number of shares whose bounds have to hold together.
    fn log_events(&self) -> f64 {
        match self {
            // Every set of classes; a set and its complement differ alike.
            Self::Classes(classes) => classes.len() as f64 * std::f64::consts::LN_2,
            Self::Cuts { cuts, .. } => (cuts.len() as f64 * 2.0 + 1.0).ln(),
        }
    }

    /// Distance, and the distance to be expected of equal distributions.
    fn distance(&self, old: &[f64], new: &[f64], stable: f64, candidate: f64) -> (f64, f64) {
        let pairs = || old.iter().zip(new);
        let spread = 1.0 / stable + 1.0 / candidate;
        match self {
            Self::Classes(_) => {
                let distance = pairs().map(|(old, new)| (old - new).abs()).sum::<f64>() / 2.0;
                // Mean absolute value of a normal variable: sqrt(2/π) of its standard deviation.
                let noise = pairs().map(|(old, new)| {
                    let rate = (old * stable + new * candidate) / (stable + candidate);
                    (std::f64::consts::FRAC_2_PI * rate * (1.0 - rate) * spread).sqrt()
                });
                (distance, noise.sum::<f64>() / 2.0)
            }
            Self::Cuts { .. } => {
                let mut difference = 0.0;
                let distances = pairs().map(|(old, new)| {
                    difference += new - old;
                    f64::abs(difference)
                });
                // Mean of Kolmogorov's distribution: sqrt(π/2) · ln 2.
                let beyond = self.beyond_deciles(old, new).unwrap_or(0.0);
                (distances.fold(beyond, f64::max), 0.868_7 * spread.sqrt())
            }
        }
    }

    /// Difference of the shares in the two outer ranges of numbers.
    fn beyond_deciles(&self, old: &[f64], new: &[f64]) -> Option<f64> {
        let Self::Cuts { .. } = self else { return None };
        let share = |rates: &[f64]| Some(rates.first()? + rates.last()?);
        Some((share(new)? - share(old)?).abs())
    }

    fn example(&self, old: &[f64], new: &[f64]) -> String {
        let differs = |place: &usize| (old[*place] - new[*place]).abs();
        let most = (0..old.len().min(new.len())).max_by(|a, b| differs(a).total_cmp(&differs(b)));
        let Some(place) = most else { return String::new() };
        let what = match self {
            Self::Classes(classes) => match classes.get(place) {
                Some(class) => format!("`{class}`"),
                None => "classes that stable did not predict first".to_owned(),
            },
            Self::Cuts { cuts, .. } => {
                let cut = |at: usize| cuts.get(at).copied().unwrap_or(f64::NAN);
                match place {
                    at if at % 2 == 1 => format!("{:.4}", cut(at / 2)),
                    0 => format!("less than {:.4}", cut(0)),
                    at if at / 2 == cuts.len() => format!("more than {:.4}", cut(at / 2 - 1)),
                    at => format!("{:.4} to {:.4}", cut(at / 2 - 1), cut(at / 2)),
                }
            }
        };
        let percent = |rate: f64| format!("{:.1} %", rate * 100.0);
        format!("{} of its predictions are {what}, of stable's {}", percent(new[place]), percent(old[place]))
    }
}

/// Rows that came with the same input to both versions: each distinct input counts once.
#[derive(Debug, Clone, Default)]
pub(super) struct SameInputs {
    stable: BTreeMap<u64, String>,
    candidate: BTreeMap<u64, String>,
    counted: BTreeSet<u64>,
    differing: u64,
}

impl SameInputs {
    /// Inputs that are remembered of either version; later ones are left out.
    const MAX_INPUTS: usize = 20_000;

    /// Counts one row whose input has this hash. Numbers are not compared: two regressions hardly ever agree
    /// exactly.
    pub(super) fn row(&mut self, side: Side, input: u64, prediction: &Prediction) {
        if matches!(prediction, Prediction::Real(_)) || self.counted.contains(&input) {
            return;
        }
        let (own, other) = match side {
            Side::Stable => (&mut self.stable, &self.candidate),
            Side::Candidate => (&mut self.candidate, &self.stable),
        };
        let class = prediction.class();
        if let Some(predicted) = other.get(&input) {
            self.differing += u64::from(*predicted != class);
            self.counted.insert(input);
        } else if own.len() < Self::MAX_INPUTS {
            own.entry(input).or_insert(class);
        }
    }

    /// Distinct inputs that both saw, and how many of them they predict differently.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counted.len() as u64, self.differing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::Random;

    fn whole(class: u32) -> Vec<Prediction> {
        vec![Prediction::Whole(f64::from(class))]
    }

    /// Draws a class by these cumulative rates.
    fn draw(random: &mut Random, rates: &[f64]) -> u32 {
        let mut left = random.uniform();
        for (class, rate) in (0..).zip(rates) {
            left -= rate;
            if left < 0.0 {
                return class;
            }
        }
        0
    }

    /// Whether the bound exceeds `limit` at any look within `most` requests of each version.
    fn ever_proven(
        seed: u64,
        limit: f64,
        most: u64,
        mut old: impl FnMut(&mut Random) -> Vec<Prediction>,
        mut new: impl FnMut(&mut Random) -> Vec<Prediction>,
    ) -> Option<u64> {
        let (mut random, mut shift) = (Random(seed), Shift::default());
        (1..=most).find(|_| {
            shift.request(Side::Stable, &old(&mut random));
            shift.request(Side::Candidate, &new(&mut random));
            let facts = shift.facts();
            facts.bound > limit || facts.collapsed
        })
    }

    #[test]
    fn equal_distributions_are_never_told_apart_however_often_they_are_looked_at() {
        for seed in 0..200 {
            let mix = [0.5, 0.3, 0.1, 0.1];
            let classes = |random: &mut Random| whole(draw(random, &mix));
            assert_eq!(ever_proven(seed, 0.0, 600, classes, classes), None, "classes, seed {seed}");
            let numbers = |random: &mut Random| vec![Prediction::Real(random.normal())];
            assert_eq!(ever_proven(seed, 0.0, 600, numbers, numbers), None, "numbers, seed {seed}");
        }
    }

    #[test]
    fn gross_breakage_is_proven_within_a_few_hundred_requests() {
        let mut spreads = Vec::new();
        for seed in 0..50 {
            let ten = |random: &mut Random| whole(draw(random, &[0.1; 10]));
            let constant = ever_proven(seed, 0.3, 2_000, ten, |_| whole(3)).expect("one class of ten");
            assert!(constant <= 150, "{constant}");
            let rare = |random: &mut Random| whole(u32::from(random.chance(0.15)));
            let collapsed = ever_proven(seed, 0.3, 3_000, rare, |_| whole(0)).expect("never the rare class");
            assert!(collapsed <= 1_500, "{collapsed}");
            let prices = |random: &mut Random| vec![Prediction::Real(100.0 + 20.0 * random.normal())];
            let cents = |random: &mut Random| vec![Prediction::Real(10_000.0 + 2_000.0 * random.normal())];
            let magnitude = ever_proven(seed, 0.3, 2_000, prices, cents).expect("another magnitude");
            assert!(magnitude <= 200, "{magnitude}");
            let centred = |random: &mut Random| vec![Prediction::Real(random.normal())];
            let scaled = |random: &mut Random| vec![Prediction::Real(1_000.0 * random.normal())];
            spreads.push(ever_proven(seed, 0.3, 2_000, centred, scaled).expect("another scale around zero"));
            let zero = |_: &mut Random| vec![Prediction::Real(0.0)];
            assert!(ever_proven(seed, 0.3, 2_000, prices, zero).expect("constant zero") <= 200);
        }
        // The deciles of 20 requests are rough, so that a few take longer.
        spreads.sort_unstable();
        assert!(spreads[25] <= 250, "{spreads:?}");
    }

    #[test]
    fn an_improved_model_and_a_rebuilt_one_stay_below_the_limit() {
        for seed in 0..50 {
            // Stable predicts the majority too often; the better version has the true mix.
            let stable = |random: &mut Random| whole(u32::from(random.chance(0.25)));
            let better = |random: &mut Random| whole(u32::from(random.chance(0.4)));
            assert_eq!(ever_proven(seed, 0.3, 2_000, stable, better), None);
            let old = |random: &mut Random| vec![Prediction::Real(100.0 + 20.0 * random.normal())];
            let new = |random: &mut Random| vec![Prediction::Real(104.0 + 18.0 * random.normal())];
            assert_eq!(ever_proven(seed, 0.3, 2_000, old, new), None);
            let rebuilt = |_: &mut Random| vec![Prediction::Real(1.000_01)];
            assert_eq!(ever_proven(seed, 0.3, 300, |_| vec![Prediction::Real(1.0)], rebuilt), None);
        }
    }

    #[test]
    fn a_request_of_many_rows_is_one_observation() {
        let mut shift = Shift::default();
        for batch in 0..40_u32 {
            // Each batch is of one kind of customer; both versions see the same kinds.
            let rows = vec![Prediction::Whole(f64::from(batch % 2)); 1_000];
            shift.request(if batch % 4 < 2 { Side::Stable } else { Side::Candidate }, &rows);
        }
        let facts = shift.facts();
        assert_eq!((facts.stable_requests, facts.candidate_requests, facts.bound), (20, 20, 0.0));
    }

    #[test]
    fn memory_is_bounded_before_stable_answers() {
        let mut shift = Shift::default();
        for _ in 0..3 * MAX_WAITING {
            shift.request(Side::Candidate, &vec![Prediction::Real(1.0); 2 * MAX_ROWS]);
        }
        assert_eq!(shift.waiting.len(), MAX_WAITING);
        assert_eq!(shift.facts(), ShiftFacts::default());
    }

    #[test]
    fn each_distinct_input_counts_once() {
        let mut same = SameInputs::default();
        for _ in 0..100 {
            same.row(Side::Stable, 1, &Prediction::Whole(1.0));
            same.row(Side::Candidate, 1, &Prediction::Whole(0.0));
            same.row(Side::Stable, 2, &Prediction::Class("a".into()));
            same.row(Side::Candidate, 2, &Prediction::Class("a".into()));
            same.row(Side::Candidate, 3, &Prediction::Whole(0.0));
            same.row(Side::Stable, 4, &Prediction::Real(0.5));
            same.row(Side::Candidate, 4, &Prediction::Real(0.6));
        }
        assert_eq!(same.counts(), (2, 1));
    }
}
