//! How a rule comes out for a version, with the numbers.

use super::{Evidence, Identities, Outcome, Rule};
use crate::registry::report::decimal;

/// Whether it holds, and what was found.
type Found = (bool, String);

impl Rule {
    /// Judges a version against the one that the alias points at now.
    pub(super) fn judge(&self, version: &Evidence, current: Option<&Evidence>) -> Outcome {
        let within = match self {
            Self::AnyOf { rules } | Self::AllOf { rules } => {
                rules.iter().map(|rule| rule.judge(version, current)).collect()
            }
            _ => Vec::new(),
        };
        let (passed, detail) = match self {
            Self::AnyOf { .. } => any_of(&within),
            Self::AllOf { .. } => all_of(&within),
            _ => self.find(version, current),
        };
        Outcome { rule: self.clone(), passed, detail, within }
    }

    /// Judges a rule that holds no others.
    fn find(&self, version: &Evidence, current: Option<&Evidence>) -> Found {
        let has =
            |there: bool, what: &str| (there, if there { what.to_owned() } else { format!("no {what}") });
        match self {
            Self::Servable => match &version.unservable_reason {
                None => (true, "serving can load it".to_owned()),
                Some(reason) => (false, format!("serving cannot load it: {reason}")),
            },
            Self::ScannedSafe => match version.scanned_safe {
                Some(true) => (true, "its files are safe to load".to_owned()),
                Some(false) => {
                    let reason = version.unsafe_reason.as_deref();
                    (false, reason.unwrap_or("one of its files is not safe to load").to_owned())
                }
                None => (false, "its files were not scanned".to_owned()),
            },
            Self::NoLoaderCode => match version.without_code {
                Some(true) => (true, "its files carry no code that a loader runs".to_owned()),
                Some(false) => {
                    (false, "its files carry code that a loader runs, or were not understood".to_owned())
                }
                None => (false, "its files were not scanned".to_owned()),
            },
            Self::HasSignature => has(version.has_signature, "signature"),
            Self::HasDescription => has(version.has_description, "description"),
            Self::HasRun => has(version.run_id.is_some(), "run that it came from"),
            Self::HasDataset => has(version.datasets > 0, "data set of its run"),
            Self::HasTag { key, value } => tag(version.tags.get(key), key, value.as_deref()),
            Self::Signed { keys } => signed(version, keys),
            Self::CardComplete { fields } => card(version, fields),
            Self::MetricAtLeast { metric, value } => at_least(&Source::Run(metric), version, *value),
            Self::MetricAtMost { metric, value } => at_most(&Source::Run(metric), version, *value),
            Self::ReportMetricAtLeast { report, metric, value } => {
                at_least(&Source::Report(report, metric), version, *value)
            }
            Self::ReportMetricAtMost { report, metric, value } => {
                at_most(&Source::Report(report, metric), version, *value)
            }
            Self::NotWorseThanCurrent { metric, report, tolerance, greater_is_better } => {
                let source = match report {
                    Some(report) => Source::Report(report, metric),
                    None => Source::Run(metric),
                };
                against(&source, version, current, *tolerance, *greater_is_better)
            }
            Self::FairnessGapAtMost { report, attribute, metric, value, min_rows } => {
                let gap = GapBy { report, attribute, metric, min_rows: *min_rows };
                fairness(version, &gap, *value)
            }
            Self::Approved { by_at_least } => approved(version, *by_at_least),
            // Judged by what they hold.
            Self::AnyOf { .. } | Self::AllOf { .. } => (false, String::new()),
        }
    }
}

fn any_of(within: &[Outcome]) -> Found {
    match within.iter().find(|outcome| outcome.passed) {
        Some(outcome) => (true, outcome.detail.clone()),
        None => {
            let details: Vec<String> = within.iter().map(|outcome| format!("({})", outcome.detail)).collect();
            (false, format!("none of {} alternatives holds: {}", within.len(), details.join(" or ")))
        }
    }
}

fn all_of(within: &[Outcome]) -> Found {
    let passed = within.iter().all(|outcome| outcome.passed);
    let told = within.iter().filter(|outcome| passed || !outcome.passed);
    let details: Vec<&str> = told.map(|outcome| outcome.detail.as_str()).collect();
    (passed, details.join("; "))
}

fn tag(found: Option<&String>, key: &str, wanted: Option<&str>) -> Found {
    match (found, wanted) {
        (None, _) => (false, format!("no tag {key}")),
        (Some(found), Some(wanted)) if found != wanted => {
            (false, format!("tag {key} is '{found}', '{wanted}' is required"))
        }
        (Some(found), _) => (true, format!("tag {key} is '{found}'")),
    }
}

fn signed(version: &Evidence, keys: &[String]) -> Found {
    let signing = &version.signing;
    let counts = |key: &&String| keys.is_empty() || keys.contains(key);
    if let Some(key) = signing.keys.iter().find(counts) {
        return (true, format!("validly signed by {key}"));
    }
    if signing.keys.is_empty() {
        return (false, format!("not validly signed: {}", signing.detail));
    }
    let found: Vec<&str> = signing.keys.iter().map(String::as_str).collect();
    (false, format!("signed by {}, a signature by {} is required", found.join(", "), keys.join(" or ")))
}

fn card(version: &Evidence, fields: &[super::CardField]) -> Found {
    let missing: Vec<&str> =
        version.missing_from_card(fields).into_iter().map(super::CardField::name).collect();
    match missing.as_slice() {
        [] => (true, "its card is complete".to_owned()),
        _ => (false, format!("its card lacks {}", missing.join(", "))),
    }
}

/// Where a number is looked for.
enum Source<'rule> {
    /// A metric of the run or the logged model.
    Run(&'rule str),
    /// A metric of the newest report of a name.
    Report(&'rule str, &'rule str),
}

impl Source<'_> {
    fn get(&self, version: &Evidence) -> Option<f64> {
        match self {
            Self::Run(metric) => version.metrics.get(*metric).copied(),
            Self::Report(report, metric) => version.reports.get(*report)?.metric(metric),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Run(metric) => format!("metric {metric}"),
            Self::Report(report, metric) => format!("metric {metric} of report {report}"),
        }
    }

    /// What is not there.
    fn absence(&self, version: &Evidence) -> String {
        match self {
            Self::Report(report, _) if !version.reports.contains_key(*report) => {
                format!("no report {report}")
            }
            _ => format!("no {}", self.name()),
        }
    }
}

fn at_least(source: &Source<'_>, version: &Evidence, limit: f64) -> Found {
    limited(source, version, |found| found >= limit, &format!("at least {limit} is required"))
}

fn at_most(source: &Source<'_>, version: &Evidence, limit: f64) -> Found {
    limited(source, version, |found| found <= limit, &format!("at most {limit} is allowed"))
}

fn limited(source: &Source<'_>, version: &Evidence, holds: impl Fn(f64) -> bool, asked: &str) -> Found {
    match source.get(version) {
        None => (false, format!("{}; {asked}", source.absence(version))),
        // NaN holds nothing.
        Some(found) => (holds(found), format!("{} is {found}, {asked}", source.name())),
    }
}

fn against(
    source: &Source<'_>,
    version: &Evidence,
    current: Option<&Evidence>,
    tolerance: f64,
    greater_is_better: bool,
) -> Found {
    let Some(current) = current else {
        return (true, "the alias points at no version yet".to_owned());
    };
    let Some(theirs) = source.get(current).filter(|value| !value.is_nan()) else {
        return (true, format!("the current version has no {} to be compared with", source.name()));
    };
    let (limit, word) = match greater_is_better {
        true => (decimal(theirs - tolerance), "at least"),
        false => (decimal(theirs + tolerance), "at most"),
    };
    let holds = |found: f64| if greater_is_better { found >= limit } else { found <= limit };
    let mut asked =
        format!("{word} {limit} is required: the current version has {theirs}, tolerance {tolerance}");
    if let Source::Report(name, _) = source {
        let data = |of: &Evidence| of.reports.get(*name).map(|report| report.dataset.digest.clone());
        if data(version).is_some() && data(version) != data(current) {
            asked.push_str(" (on other data)");
        }
    }
    limited(source, version, holds, &asked)
}

/// The gap of a metric between the segments of an attribute, as a report has it.
struct GapBy<'rule> {
    report: &'rule str,
    attribute: &'rule str,
    metric: &'rule str,
    /// Segments with fewer rows do not count.
    min_rows: u64,
}

fn fairness(version: &Evidence, gap: &GapBy<'_>, limit: f64) -> Found {
    let GapBy { report, attribute, metric, min_rows } = *gap;
    let asked = format!("at most {limit} is allowed");
    let Some(found) = version.reports.get(report) else {
        return (false, format!("no report {report}; a gap of {metric} by {attribute} of {asked}"));
    };
    match found.gap(attribute, metric, min_rows) {
        None => (
            false,
            format!(
                "report {report} has no two segments of {attribute} with {metric} and {min_rows} rows; a gap \
                 of {asked}"
            ),
        ),
        Some(gap) => (
            gap.gap <= limit,
            format!(
                "the gap of {metric} by {attribute} is {} ({} at '{}', {} at '{}'), {asked}",
                gap.gap, gap.least, gap.least_at, gap.greatest, gap.greatest_at
            ),
        ),
    }
}

fn approved(version: &Evidence, wanted: u32) -> Found {
    let counted: Vec<&str> = version.counted_approvers().collect();
    let enough = counted.len() >= wanted as usize;
    let by = if counted.is_empty() { "nobody".to_owned() } else { counted.join(", ") };
    let mut detail = format!("approved by {by}: {} of {wanted}", counted.len());
    let own: Vec<&str> =
        version.approvers.iter().filter(|one| version.authors.contains(*one)).map(String::as_str).collect();
    if !own.is_empty() {
        detail.push_str(&format!(" ({} made it, which does not count)", own.join(", ")));
    }
    match &version.identities {
        Identities::Authenticated => {}
        Identities::Claimed => detail.push_str("; access control is off, so the names are not verified"),
        Identities::Missing(what) => {
            detail.push_str(&format!(
                "; it is not on record who created its {what}, since access control was off then: register \
                 the version again from a new run"
            ));
            return (false, detail);
        }
    }
    (enough, detail)
}
