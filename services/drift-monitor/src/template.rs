//! Variables in the environment of jobs that a policy submits: `{{monitor}}`, `{{deployment}}`, `{{model}}`,
//! `{{baseline_version}}`, `{{event_id}}` and `{{windows}}` (comma-separated window numbers).

use slipway_domain::training::JobSpec;

/// Variables that a job gets without asking.
const EVENT_ID_VARIABLE: &str = "DRIFT_EVENT_ID";
const DEPLOYMENT_VARIABLE: &str = "DRIFT_DEPLOYMENT";
const NAMES: [&str; 6] = ["monitor", "deployment", "model", "baseline_version", "event_id", "windows"];

/// What the variables stand for at one drift event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variables<'event> {
    pub(crate) monitor: &'event str,
    pub(crate) deployment: &'event str,
    pub(crate) model: &'event str,
    pub(crate) baseline_version: &'event str,
    pub(crate) event_id: &'event str,
    pub(crate) windows: &'event str,
}

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "monitor" => Some(self.monitor),
            "deployment" => Some(self.deployment),
            "model" => Some(self.model),
            "baseline_version" => Some(self.baseline_version),
            "event_id" => Some(self.event_id),
            "windows" => Some(self.windows),
            _ => None,
        }
    }

    /// The job to submit: with its variables replaced, and those that every such job gets added.
    pub(crate) fn job(&self, job: &JobSpec) -> JobSpec {
        let mut job = job.clone();
        for value in job.env.values_mut() {
            *value = self.fill(value);
        }
        job.env.insert(EVENT_ID_VARIABLE.to_owned(), self.event_id.to_owned());
        job.env.insert(DEPLOYMENT_VARIABLE.to_owned(), self.deployment.to_owned());
        job
    }

    fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, name, after)) = next_variable(rest) {
            filled.push_str(before);
            // Names were checked when the monitor was made.
            filled.push_str(self.get(name).unwrap_or_default());
            rest = after;
        }
        filled + rest
    }
}

/// Checks that every variable in `text` is one of ours.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, name, after)) = next_variable(rest) {
        if !NAMES.contains(&name) {
            return Err(format!("`{{{{{name}}}}}` is no variable; known are {}", NAMES.join(", ")));
        }
        rest = after;
    }
    Ok(())
}

/// Text before the first `{{name}}`, the name, and the text behind it.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    let (before, opened) = text.split_once("{{")?;
    let (name, after) = opened.split_once("}}")?;
    Some((before, name.trim(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_and_the_event_is_told() {
        let variables = Variables {
            monitor: "m",
            deployment: "d",
            model: "cancer",
            baseline_version: "3",
            event_id: "e-1",
            windows: "4,5",
        };
        let mut job = JobSpec { name: "retrain".into(), command: vec!["true".into()], ..JobSpec::default() };
        job.env.insert("WHY".into(), "{{monitor}}/{{ event_id }}: {{windows}} }} {{".into());
        let filled = variables.job(&job);
        assert_eq!(filled.env["WHY"], "m/e-1: 4,5 }} {{");
        assert_eq!(filled.env["DRIFT_EVENT_ID"], "e-1");
        assert_eq!(filled.env["DRIFT_DEPLOYMENT"], "d");
    }

    #[test]
    fn an_unknown_variable_is_refused_by_name() {
        assert!(check("{{nope}}").unwrap_err().contains("{{nope}}"));
        assert!(check("plain {{model}}").is_ok());
    }
}
