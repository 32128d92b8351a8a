//! What became of one job.

use std::time::Duration;

use super::report::{Failure, Row};
use crate::api::timeline::PhaseSeconds;

/// What became of one job.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The job's name, once it has one.
    pub name: Option<String>,
    /// Intervals seen from outside, s.
    pub times: Vec<(&'static str, f64)>,
    /// The status' own phases.
    pub phases: Option<PhaseSeconds>,
    /// From queue to consumer, s: the status' own, or what the mode takes for it.
    pub consumer: Option<f64>,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// Something that a reader should know.
    pub note: Option<String>,
    /// The job could not be taken away, and why.
    pub leftover: Option<String>,
}

impl Outcome {
    /// An outcome that is a failure.
    pub fn failed(job: &str, reason: &str, message: impl Into<String>) -> Self {
        Self { failure: Some(Failure::new(job, reason, message)), ..Self::default() }
    }

    /// Adds an interval seen from outside.
    pub fn time(&mut self, name: &'static str, took: Duration) {
        self.times.push((name, took.as_secs_f64()));
    }

    /// Makes a failure of a consumer that took longer than `limit`.
    pub fn judge(&mut self, limit: Duration) {
        let Some(consumer) = self.consumer.filter(|s| *s > limit.as_secs_f64()) else { return };
        let name = self.name.clone().unwrap_or_default();
        let message =
            format!("the consumer took {consumer:.3} s, more than --max-consumer {} s", limit.as_secs_f64());
        self.failure.get_or_insert_with(|| Failure::new(name, "ConsumerTooSlow", message));
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let mut parts: Vec<String> =
            self.times.iter().map(|(name, s)| format!("{name} {:.1} ms", s * 1e3)).collect();
        if let Some(phases) = &self.phases {
            parts.push(format!(
                "status: {}",
                phases
                    .named()
                    .iter()
                    .map(|(name, s)| format!(
                        "{name} {}",
                        s.map_or("-".to_owned(), |s| format!("{:.1}", s * 1e3))
                    ))
                    .collect::<Vec<_>>()
                    .join(" ")
            ));
        }
        parts.extend(self.failure.iter().map(|f| format!("FAILED {}: {}", f.reason, f.message)));
        format!("{}: {}", self.name.as_deref().unwrap_or("(no job)"), parts.join(", "))
    }
}

/// The rows of `outcomes`: the intervals in order of first appearance, then the status' phases.
pub fn rows(outcomes: &[Outcome]) -> Vec<Row> {
    let mut names: Vec<&'static str> = Vec::new();
    for (name, _) in outcomes.iter().flat_map(|o| &o.times) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let seen = names.into_iter().map(|wanted| {
        let of = |o: &Outcome| o.times.iter().find(|(name, _)| *name == wanted).map(|(_, s)| *s);
        Row::new(wanted, outcomes.iter().filter_map(of).collect())
    });
    seen.chain(status_rows(outcomes.iter().filter_map(|o| o.phases.as_ref()))).collect()
}

/// A row for each phase of the status that at least one job has.
pub fn status_rows<'a>(phases: impl Iterator<Item = &'a PhaseSeconds>) -> Vec<Row> {
    let mut rows: Vec<(&'static str, Vec<f64>)> = Vec::new();
    for (name, seconds) in phases.flat_map(PhaseSeconds::named) {
        let samples = match rows.iter_mut().find(|(known, _)| *known == name) {
            Some((_, samples)) => samples,
            None => {
                rows.push((name, Vec::new()));
                let last = rows.len() - 1;
                &mut rows[last].1
            }
        };
        samples.extend(seconds);
    }
    rows.into_iter().map(|(name, samples)| Row::new(format!("status: {name}"), samples)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(times: &[(&'static str, f64)], consumer: Option<f64>) -> Outcome {
        let phases = consumer.map(|c| PhaseSeconds { consumer: Some(c), ..PhaseSeconds::default() });
        Outcome { name: Some("j".to_owned()), times: times.to_vec(), consumer, phases, ..Outcome::default() }
    }

    #[test]
    fn rows_keep_their_order_and_skip_what_never_came() {
        let outcomes = [outcome(&[("a", 1.0), ("b", 2.0)], Some(0.5)), outcome(&[("a", 3.0)], None)];
        let rows = rows(&outcomes);
        let got: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.samples.clone())).collect();
        assert_eq!(got[..2], [("a", vec![1.0, 3.0]), ("b", vec![2.0])]);
        assert_eq!(got[5], ("status: consumer", vec![0.5]));
        assert_eq!(got.len(), 7);
    }

    #[test]
    fn slow_consumers_fail() {
        for (consumer, failed) in [(None, false), (Some(30.0), false), (Some(30.1), true)] {
            let mut outcome = outcome(&[], consumer);
            outcome.judge(Duration::from_secs(30));
            assert_eq!(outcome.failure.is_some(), failed, "{consumer:?}");
        }
    }

    #[test]
    fn an_earlier_failure_is_kept() {
        let mut outcome = Outcome::failed("j", "NoConsumer", "why");
        outcome.consumer = Some(99.0);
        outcome.judge(Duration::from_secs(1));
        assert_eq!(outcome.failure.map(|f| f.reason), Some("NoConsumer".to_owned()));
    }
}
