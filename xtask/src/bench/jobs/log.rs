//! What the training printed.

use anyhow::Context as _;

/// The log of an attempt.
#[derive(Debug)]
pub(super) struct Log(String);

impl Log {
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }

    /// When this happened, in seconds since 1970.
    pub(super) fn at(&self, what: &str) -> anyhow::Result<f64> {
        let times = self.0.lines().filter_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
        let time = times.filter_map(|time| time.parse().ok()).next();
        time.with_context(|| format!("the log does not say when this happened: {what}"))
    }

    /// Steps per second between two moments.
    pub(super) fn steps_per_second(&self, from: f64, to: f64) -> anyhow::Result<f64> {
        let ends: Vec<f64> = self.ends()?.into_iter().filter(|end| (from..to).contains(end)).collect();
        let (Some(first), Some(last)) = (ends.first(), ends.last()) else {
            anyhow::bail!("no step ended between {from} and {to}");
        };
        Ok((ends.len() - 1) as f64 / (last - first))
    }

    /// When each step ended.
    fn ends(&self) -> anyhow::Result<Vec<f64>> {
        let mut end = self.at("started")?;
        let mut ends = vec![end];
        for line in self.0.lines().filter_map(|line| line.strip_prefix("steps ")) {
            for milliseconds in line.split(' ') {
                end += milliseconds.parse::<f64>()? / 1e3;
                ends.push(end);
            }
        }
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_between_two_moments() {
        let log =
            Log::new("saved 4.5\nstarted 1.0\nsteps 500.00 500.00 1000.00\nsteps 250.00\nover\n".to_owned());
        assert_eq!(log.at("saved").unwrap(), 4.5);
        assert_eq!(log.steps_per_second(0.0, 2.5).unwrap(), 2.0);
        assert_eq!(log.steps_per_second(2.5, 9.0).unwrap(), 4.0);
        assert!(log.steps_per_second(9.0, 10.0).is_err() && log.at("gone").is_err());
    }
}
