//! Applies objects once for what they are made from.

use std::time::Instant;

use slipway_domain::Invalid;
use slipway_kubernetes_serving::{Objects, Owner, Situation};

use super::applied::{Applied, Basis, Built};
use super::children::Refusal;
use super::follower::{Error, Follower};

impl Follower {
    /// Whether the objects of this name are as they were applied.
    pub(super) fn are_as_applied(&self, owner: &Owner) -> bool {
        let known = self.known();
        known.applied.get(owner).is_some_and(|applied| self.children.are_as_applied(owner, &applied.marks))
    }

    /// Applies the objects of this name, unless they are as they were applied.
    pub(super) async fn apply(
        &self,
        owner: &Owner,
        basis: Basis,
        make: impl FnOnce(&Situation) -> Result<Objects, Invalid> + Send,
    ) -> Result<Built, Error> {
        let applied = self.known().applied.get(owner).cloned();
        if let Some(applied) = applied.filter(|applied| applied.basis == basis) {
            if self.children.are_as_applied(owner, &applied.marks) {
                return Ok(Built::Same);
            }
            if applied.is_recent() {
                return Ok(Built::Changed);
            }
        }
        let objects = match make(&basis.situation) {
            Ok(objects) => objects,
            Err(invalid) => return Ok(Built::Refused(invalid.to_string())),
        };
        match self.children.apply(owner, &objects).await {
            Ok(marks) => {
                let applied = Applied { basis, marks, at: Instant::now() };
                self.known().applied.insert(owner.clone(), applied);
                Ok(Built::Changed)
            }
            Err(Refusal::Finally(reason)) => Ok(Built::Refused(reason)),
            Err(Refusal::ForNow(error)) => Err(error.into()),
        }
    }

    /// Removes the objects of this name.
    pub(super) async fn remove(&self, owner: &Owner) -> Result<(), Error> {
        self.known().applied.remove(owner);
        match self.children.remove(owner).await {
            Err(Refusal::ForNow(error)) => Err(error.into()),
            Ok(()) | Err(Refusal::Finally(_)) => Ok(()),
        }
    }
}
