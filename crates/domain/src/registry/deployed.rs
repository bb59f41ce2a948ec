//! Where versions are deployed, as the news of rollouts tell it.

/// One deployment: what serves, and what is on trial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deployed {
    /// Registered model.
    pub model: String,
    /// The version that serves.
    pub stable: Option<Placed>,
    /// The version on its way to serve.
    pub candidate: Option<Placed>,
    /// Share of the traffic that the candidate has, in percent.
    pub candidate_weight_percent: u8,
    /// Unix milliseconds of the newest news taken in.
    pub told_ms: i64,
}

/// A version in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The version.
    pub version: String,
    /// Unix milliseconds since when.
    pub since_ms: i64,
}

/// What happened to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'news> {
    /// It was made.
    Created,
    /// It is gone.
    Deleted,
    /// Its model has another name.
    Renamed,
    /// A rollout moved on; what it did is that of the event's name, e.g. `advanced`.
    Rollout {
        /// E.g. `promoted` or `rolled-back`.
        what: &'news str,
        /// What served before.
        from: Option<&'news str>,
        /// What is rolled out.
        to: &'news str,
        /// Share of the traffic that it has, in percent.
        weight_percent: u8,
    },
}

impl Deployed {
    /// Takes in what happened to a deployment of `model` at `at_ms`. What is older than what is known changes
    /// nothing, so news may come again and out of order.
    #[must_use]
    pub fn hear(self, model: &str, news: News<'_>, at_ms: i64) -> Self {
        if at_ms < self.told_ms {
            return self;
        }
        let mut next = Self { model: model.to_owned(), told_ms: at_ms, ..self };
        match news {
            News::Created | News::Deleted => {
                next = Self { model: next.model, told_ms: at_ms, ..Self::default() };
            }
            News::Renamed => {}
            News::Rollout { what: "promoted", to, .. } => {
                next.stable = Some(place(next.stable, to, at_ms));
                next.end_trial();
            }
            News::Rollout { what: "rolled-back" | "failed" | "aborted", from, .. } => {
                next.stable = from.map(|from| place(next.stable, from, at_ms));
                next.end_trial();
            }
            News::Rollout { from, to, weight_percent, .. } => {
                next.stable = from.map(|from| place(next.stable, from, at_ms));
                next.candidate = Some(place(next.candidate, to, at_ms));
                next.candidate_weight_percent = weight_percent;
            }
        }
        next
    }

    fn end_trial(&mut self) {
        self.candidate = None;
        self.candidate_weight_percent = 0;
    }
}

/// The version in a place; one that is there already stays since when it came.
fn place(before: Option<Placed>, version: &str, at_ms: i64) -> Placed {
    match before {
        Some(before) if before.version == version => before,
        _ => Placed { version: version.to_owned(), since_ms: at_ms },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout<'news>(what: &'news str, from: Option<&'news str>, to: &'news str, weight: u8) -> News<'news> {
        News::Rollout { what, from, to, weight_percent: weight }
    }

    fn placed(version: &str, since_ms: i64) -> Option<Placed> {
        Some(Placed { version: version.to_owned(), since_ms })
    }

    #[test]
    fn a_version_serves_after_its_promotion_and_no_more_after_a_rollback() {
        let first =
            Deployed::default().hear("m", News::Created, 1).hear("m", rollout("started", None, "1", 0), 1);
        assert_eq!((&first.stable, &first.candidate), (&None, &placed("1", 1)));
        let first = first.hear("m", rollout("promoted", None, "1", 100), 5);
        assert_eq!((&first.stable, &first.candidate), (&placed("1", 5), &None));
        let canary = first.hear("m", rollout("started", Some("1"), "2", 0), 6);
        let canary = canary.hear("m", rollout("advanced", Some("1"), "2", 10), 8);
        assert_eq!((&canary.stable, &canary.candidate), (&placed("1", 5), &placed("2", 6)));
        assert_eq!(canary.candidate_weight_percent, 10);
        let bad = canary.clone().hear("m", rollout("rolled-back", Some("1"), "2", 0), 9);
        assert_eq!((bad.stable, bad.candidate, bad.candidate_weight_percent), (placed("1", 5), None, 0));
        let good = canary.hear("m", rollout("promoted", Some("1"), "2", 100), 9);
        let undone = good.hear("m", rollout("rolled-back", Some("1"), "2", 0), 12);
        assert_eq!(undone.stable, placed("1", 12), "also after the promotion");
        let gone = undone.hear("m", News::Deleted, 13);
        assert_eq!((gone.stable, gone.candidate), (None, None));
    }

    #[test]
    fn a_rename_of_the_model_moves_no_version() {
        let stable = Deployed::default().hear("m", rollout("promoted", None, "1", 100), 5);
        let renamed = stable.clone().hear("n", News::Renamed, 6);
        assert_eq!((renamed.model.as_str(), renamed.stable), ("n", stable.stable));
    }

    #[test]
    fn old_news_and_news_that_come_again_change_nothing() {
        let promoted = Deployed::default().hear("m", rollout("promoted", Some("1"), "2", 100), 9);
        let again = promoted.clone().hear("m", rollout("promoted", Some("1"), "2", 100), 9);
        assert_eq!(again, promoted);
        assert_eq!(promoted.clone().hear("m", rollout("advanced", Some("1"), "2", 50), 8), promoted);
    }
}
