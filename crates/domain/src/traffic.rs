//! How requests are split between versions: the traffic table and the choice of a target.
//!
//! Everything here is a function of the table and of a number or key that the caller brings, so every replica
//! and every restart splits the same way.

mod drill;
mod overrides;
mod rules;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::drill::{Drill, DrillTarget, Fault, Replay};
pub use self::rules::{Condition, Frozen, KillMode, KillSwitch, Rule, Variant};
use crate::{Invalid, invalid::ensure};

/// Percent of a whole; weights of a table never sum to more.
pub const WHOLE_PERCENT: u8 = 100;
/// Largest number of versions that one table may name, in every role together.
pub const MAX_TARGETS: usize = 32;

/// One version of the deployment's model, pinned to its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Registry version, decimal.
    pub version: String,
    /// `sha256:<hex>` of the version's manifest.
    pub digest: String,
}

/// A candidate and its share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighted {
    /// The candidate.
    pub target: Target,
    /// Its share of all requests, 0 to 100.
    pub weight_percent: u8,
}

/// A version that sees copies of requests and whose answers no client gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// The shadow.
    pub target: Target,
    /// Share of requests that are copied to it, 0 to 100.
    pub sample_percent: u8,
}

/// Which part of a request names the user who is to keep seeing the same version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickyKey {
    /// HTTP header (and gRPC metadata key) that carries the user's key.
    pub header: String,
}

/// What the pool, the shared replicas of a group of dedicated deployments, does for one of them that scales
/// to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// It answers, and the deployment's own replicas go.
    Answering,
    /// It answers until the deployment's own replicas are there again.
    Waking,
    /// They are. It answers clients that have connections to it, and asks them to leave.
    Leaving,
}

/// Who answers a deployment's requests. Written by the rollout controller only, watched by every serving
/// replica.
///
/// A table without stable and candidates is legal: the deployment is known, its first version is being
/// loaded, and nothing is answered yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrafficTable {
    /// Deployment: the name that clients call.
    pub deployment: String,
    /// Identity of the deployment: another deployment of the same name, earlier or on another platform, has
    /// another one. Absent in tables that no rollout controller wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Registered model behind it.
    pub model: String,
    /// Grows by one with each write.
    pub revision: u64,
    /// Gets what the candidates leave of 100 percent.
    #[serde(default)]
    pub stable: Option<Target>,
    /// Versions on trial with their shares.
    #[serde(default)]
    pub candidates: Vec<Weighted>,
    /// Versions that see copies.
    #[serde(default)]
    pub shadows: Vec<Shadow>,
    /// Versions to keep loaded without traffic: the next one, and the previous one for a rollback.
    #[serde(default)]
    pub warm: Vec<Target>,
    /// Absent: each request is drawn afresh.
    #[serde(default)]
    pub sticky_key: Option<StickyKey>,
    /// Requests that go by their headers, whatever the weights; the first rule that holds decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Stops what is on trial, or everything, until it is taken out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<KillSwitch>,
    /// Output that holds the prediction; absent: the first output of whole numbers, strings or booleans, else
    /// the first.
    #[serde(default)]
    pub prediction_output: Option<String>,
    /// Whether only serving replicas that are set to serve this deployment do so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// What the shared replicas of its group do for a dedicated deployment; absent: nothing, its own replicas
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// A fault that is rehearsed; readers that do not know it leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "drill::known")]
    pub drill: Option<Drill>,
    /// W3C trace context of the decision.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// When the decision was taken, Unix time in milliseconds.
    pub decided_at_unix_ms: u64,
}

/// The target of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'table> {
    /// Who answers.
    pub target: &'table Target,
    /// Why.
    pub variant: Variant,
}

/// What decides the target of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draw<'key> {
    /// A number drawn uniformly from `[0, 1)` for this request alone.
    Uniform(f64),
    /// The value of the table's sticky key in this request.
    Sticky(&'key str),
    /// A rule says who.
    Ruled(Variant),
}

impl TrafficTable {
    /// The table of a deployment that nothing has been rolled out to.
    pub fn empty(deployment: impl Into<String>, model: impl Into<String>) -> Self {
        Self { deployment: deployment.into(), model: model.into(), ..Self::default() }
    }

    /// Checks the laws of a table: names are there, weights leave nothing unanswered, no version plays two
    /// answering roles.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure(!self.deployment.is_empty(), "deployment", || "must not be empty".into())?;
        ensure(!self.model.is_empty(), "model", || "must not be empty".into())?;
        ensure(self.targets().count() <= MAX_TARGETS, "candidates", || {
            format!("a table names at most {MAX_TARGETS} versions")
        })?;
        for (field, target) in self.named_targets() {
            ensure(!target.version.is_empty(), &format!("{field}.version"), || "must not be empty".into())?;
            ensure(!target.digest.is_empty(), &format!("{field}.digest"), || "must not be empty".into())?;
        }
        for (index, shadow) in self.shadows.iter().enumerate() {
            let field = format!("shadows[{index}].sample_percent");
            ensure(shadow.sample_percent <= WHOLE_PERCENT, &field, || "must be 0 to 100".into())?;
        }
        if let Some(sticky) = &self.sticky_key {
            ensure(!sticky.header.is_empty(), "sticky_key.header", || "must not be empty".into())?;
        }
        self.validate_weights()?;
        self.validate_roles()?;
        rules::validate_all(&self.rules)?;
        self.kill_switch.as_ref().map_or(Ok(()), KillSwitch::validate)
    }

    fn validate_weights(&self) -> Result<(), Invalid> {
        let sum = percent_of(&self.candidates);
        ensure(sum <= u32::from(WHOLE_PERCENT), "candidates", || {
            format!("weights sum to {sum} percent, more than 100")
        })?;
        let answered = self.stable.is_some() || sum == u32::from(WHOLE_PERCENT) || self.candidates.is_empty();
        ensure(answered, "stable", || format!("missing, while candidates take only {sum} percent"))
    }

    fn validate_roles(&self) -> Result<(), Invalid> {
        let mut answering = BTreeSet::new();
        let stable = self.stable.iter().map(|target| ("stable".to_owned(), target));
        let candidates = self.candidates.iter().enumerate();
        let candidates = candidates.map(|(at, weighted)| (format!("candidates[{at}]"), &weighted.target));
        for (field, target) in stable.chain(candidates) {
            ensure(answering.insert(&target.version), &field, || {
                format!("version {} answers in two roles", target.version)
            })?;
        }
        let mut shadowing = BTreeSet::new();
        for (index, shadow) in self.shadows.iter().enumerate() {
            ensure(shadowing.insert(&shadow.target.version), &format!("shadows[{index}]"), || {
                format!("version {} is a shadow twice", shadow.target.version)
            })?;
        }
        Ok(())
    }

    fn named_targets(&self) -> impl Iterator<Item = (String, &Target)> {
        let stable = self.stable.iter().map(|target| ("stable".to_owned(), target));
        let candidates = self.candidates.iter().enumerate();
        let candidates = candidates.map(|(at, entry)| (format!("candidates[{at}].target"), &entry.target));
        let shadows = self.shadows.iter().enumerate();
        let shadows = shadows.map(|(at, entry)| (format!("shadows[{at}].target"), &entry.target));
        let warm = self.warm.iter().enumerate().map(|(at, target)| (format!("warm[{at}]"), target));
        stable.chain(candidates).chain(shadows).chain(warm)
    }

    /// Every version that a replica has to hold, in order of importance, each once.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let all = self.stable.iter().chain(self.candidates.iter().map(|entry| &entry.target));
        let all = all.chain(self.shadows.iter().map(|entry| &entry.target)).chain(&self.warm);
        let mut seen = BTreeSet::new();
        all.filter(move |target| seen.insert(*target))
    }

    /// Who answers which share, zero shares left out. The shares of a valid table sum to 100, or there are
    /// none at all because nothing is deployed yet.
    pub fn weights(&self) -> Vec<(Target, u8)> {
        self.shares().map(|(choice, weight)| (choice.target.clone(), weight)).collect()
    }

    fn shares(&self) -> impl Iterator<Item = (Choice<'_>, u8)> {
        let candidates = self.on_trial();
        let left =
            WHOLE_PERCENT - u8::try_from(percent_of(candidates)).unwrap_or(WHOLE_PERCENT).min(WHOLE_PERCENT);
        let stable =
            self.stable.iter().map(move |target| (Choice { target, variant: Variant::Stable }, left));
        let candidates = candidates.iter().map(|entry| {
            (Choice { target: &entry.target, variant: Variant::Candidate }, entry.weight_percent)
        });
        stable.chain(candidates).filter(|(_, weight)| *weight > 0)
    }

    /// The next revision of the table after `change`; `None` if the change makes no difference.
    ///
    /// # Errors
    /// The changed table is not valid.
    pub fn revised(
        &self,
        now_unix_ms: u64,
        traceparent: Option<String>,
        change: impl FnOnce(&mut Self),
    ) -> Result<Option<Self>, Invalid> {
        let mut table = self.clone();
        change(&mut table);
        table.validate()?;
        if table.routes_like(self) {
            return Ok(None);
        }
        let revision = self.revision + 1;
        Ok(Some(Self { revision, decided_at_unix_ms: now_unix_ms, traceparent, ..table }))
    }

    /// Whether both tables route every request alike: revision, trace and time of decision do not count.
    pub fn routes_like(&self, other: &Self) -> bool {
        let plain =
            |table: &Self| Self { revision: 0, traceparent: None, decided_at_unix_ms: 0, ..table.clone() };
        plain(self) == plain(other)
    }
}

/// Picks who answers a request. `None` only where nothing is deployed.
///
/// A sticky draw uses weighted rendezvous hashing: each target scores `-weight / ln(u)` with `u` a hash of
/// (deployment, key, version) in (0, 1), and the highest score wins. That gives exactly the asked shares over
/// keys, and raising one weight moves keys only towards that target.
pub fn choose<'table>(table: &'table TrafficTable, draw: Draw<'_>) -> Option<Choice<'table>> {
    match draw {
        Draw::Uniform(uniform) => choose_by_share(table, uniform),
        Draw::Sticky(key) => choose_by_key(table, key),
        Draw::Ruled(variant) => choose_by_role(table, variant),
    }
}

fn choose_by_role(table: &TrafficTable, variant: Variant) -> Option<Choice<'_>> {
    let largest = table.on_trial().iter().max_by_key(|entry| entry.weight_percent);
    match largest.filter(|_| variant == Variant::Candidate) {
        Some(entry) => Some(Choice { target: &entry.target, variant }),
        None => table.stable.as_ref().map(|target| Choice { target, variant: Variant::Stable }),
    }
}

fn percent_of(candidates: &[Weighted]) -> u32 {
    candidates.iter().map(|weighted| u32::from(weighted.weight_percent)).sum()
}

fn choose_by_share(table: &TrafficTable, uniform: f64) -> Option<Choice<'_>> {
    let mut left = uniform.clamp(0.0, 1.0) * f64::from(WHOLE_PERCENT);
    let mut last = None;
    for (choice, weight) in table.shares() {
        last = Some(choice);
        left -= f64::from(weight);
        if left < 0.0 {
            break;
        }
    }
    last
}

fn choose_by_key<'table>(table: &'table TrafficTable, key: &str) -> Option<Choice<'table>> {
    let score = |choice: &Choice<'_>, weight: u8| {
        let hash = stable_hash(&[&table.deployment, key, &choice.target.version]);
        -f64::from(weight) / unit_interval(hash).ln()
    };
    let scored = table.shares().map(|(choice, weight)| (score(&choice, weight), choice));
    scored.max_by(|left, right| left.0.total_cmp(&right.0)).map(|(_, choice)| choice)
}

/// The shadows that get a copy of a request which `answering` answers. `request_hash` is any number spread
/// over all of `u64` that stays the same for a retried request, e.g. [`stable_hash`] of its id.
pub fn shadows_for<'table>(
    table: &'table TrafficTable,
    answering: &Target,
    request_hash: u64,
) -> Vec<&'table Target> {
    let sampled = |shadow: &&Shadow| {
        let draw =
            unit_interval(mix(request_hash ^ hash_bytes(FNV_OFFSET, shadow.target.version.as_bytes())));
        draw * f64::from(WHOLE_PERCENT) < f64::from(shadow.sample_percent)
    };
    let shadows = if table.is_stable_only() { &[] } else { table.shadows.as_slice() };
    let others = shadows.iter().filter(|shadow| shadow.target != *answering);
    others.filter(sampled).map(|shadow| &shadow.target).collect()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A 64-bit hash of some strings: FNV-1a over each string's bytes and a 0xff byte, then the finaliser of
/// `MurmurHash3`.
///
/// It has no per-process seed, so it is the same on every replica, after every restart and in every release.
/// It is no defence against people who choose keys to be hashed alike.
pub fn stable_hash(parts: &[&str]) -> u64 {
    let hashed = parts.iter().fold(FNV_OFFSET, |hash, part| {
        // No UTF-8 string holds 0xff, so ("ab", "c") and ("a", "bc") differ.
        hash_bytes(hash_bytes(hash, part.as_bytes()), &[0xff])
    });
    mix(hashed)
}

fn hash_bytes(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// FNV alone leaves the high bits of short keys nearly alike.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Maps a hash into (0, 1), both ends excluded so that its logarithm is finite and not zero.
fn unit_interval(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests;
