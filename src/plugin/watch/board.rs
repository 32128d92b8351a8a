//! The jobs as the watch has told of them, and what of each was told last. Pure.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use serde_json::json;

use crate::api::FocusJob;
use crate::api::job_view;
use crate::plugin::screen::{Screen, seconds};
use crate::plugin::show::job::status;
use crate::plugin::show::list::{self, Listed};

/// Namespace and name.
type Key = (String, String);

/// The jobs that there are.
#[derive(Default)]
pub struct Board {
    jobs: BTreeMap<Key, FocusJob>,
    list: Option<BTreeMap<Key, FocusJob>>,
    complete: bool,
}

/// A change of a job that a person would want told.
#[derive(Clone, Debug)]
pub struct Change {
    job: FocusJob,
    gone: bool,
}

impl Board {
    /// Whether the first list has come.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The jobs, the most urgent first.
    pub fn sorted(&self) -> Vec<FocusJob> {
        let mut jobs: Vec<FocusJob> = self.jobs.values().cloned().collect();
        list::sort(&mut jobs);
        jobs
    }

    /// Enters what the watch tells; gives the changes that show.
    pub fn take(&mut self, event: Event<FocusJob>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.list = Some(BTreeMap::new());
                Vec::new()
            }
            Event::InitApply(job) => {
                self.list.get_or_insert_default().insert(key(&job), job);
                Vec::new()
            }
            Event::InitDone => {
                self.complete = true;
                let listed = self.list.take().unwrap_or_default();
                let gone: Vec<Key> =
                    self.jobs.keys().filter(|key| !listed.contains_key(*key)).cloned().collect();
                let mut changes: Vec<Change> = gone.iter().filter_map(|key| self.remove(key)).collect();
                let mut jobs: Vec<FocusJob> = listed.into_values().collect();
                list::sort(&mut jobs);
                changes.extend(jobs.into_iter().filter_map(|job| self.apply(job)));
                changes
            }
            Event::Apply(job) => self.apply(job).into_iter().collect(),
            Event::Delete(job) => self.remove(&key(&job)).into_iter().collect(),
        }
    }

    fn apply(&mut self, job: FocusJob) -> Option<Change> {
        let before = self.jobs.insert(key(&job), job.clone());
        let shows = before.is_none_or(|before| before.uid() != job.uid() || told(&before) != told(&job));
        shows.then_some(Change { job, gone: false })
    }

    fn remove(&mut self, key: &Key) -> Option<Change> {
        self.jobs.remove(key).map(|job| Change { job, gone: true })
    }
}

fn key(job: &FocusJob) -> Key {
    (job.namespace().unwrap_or_default(), job.name_any())
}

/// What of a job makes a line of its own: its state, what it waits for and why.
fn told(job: &FocusJob) -> (&'static str, String, String) {
    let (waiting, why) = list::awaited(job);
    (job_view::state(job).as_str(), waiting, why)
}

impl Change {
    /// The change as a line: time, job, state, what is awaited, the seconds of the phases that are over.
    pub fn to_line(&self, namespace: bool, now: Timestamp) -> String {
        let (state, waiting, why) = told(&self.job);
        let name = self.job.name_any();
        let name = if namespace { format!("{}/{name}", key(&self.job).0) } else { name };
        let mut parts = vec![format!("{now:.3}"), name];
        if self.gone {
            parts.push("Gone".to_owned());
        } else {
            parts.push(state.to_owned());
            parts.extend(Some(waiting).filter(|text| !text.is_empty()));
            parts.extend(Some(why).filter(|text| !text.is_empty()));
            let phases = status(&self.job).phase_seconds.named().into_iter();
            let spent: Vec<String> =
                phases.filter_map(|(name, s)| Some(format!("{name}={}", seconds(s?)))).collect();
            parts.extend(Some(spent.join(" ")).filter(|text| !text.is_empty()));
        }
        let any = Screen { width: None, height: None, colour: false, unicode: true, headings: false };
        any.clean(&parts.join("  "))
    }

    /// The change as a JSON object: `type` is `Changed` or `Gone`, and the job as `status -o json` lists it.
    pub fn to_json(&self) -> String {
        let type_ = if self.gone { "Gone" } else { "Changed" };
        json!({"type": type_, "job": Listed::new(&self.job)}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{CONSUMER_READY, READY};
    use crate::api::focusjob::JobPhase;
    use crate::api::job_view::tests::job;

    fn named(name: &str, reason: &str) -> FocusJob {
        let ready = reason == "Ready";
        let phase = if ready { JobPhase::Ready } else { JobPhase::Starting };
        let mut job = job(Some(phase), &[(if ready { READY } else { CONSUMER_READY }, ready, reason)]);
        job.metadata.name = Some(name.to_owned());
        job.metadata.namespace = Some("fibre".to_owned());
        job
    }

    fn lines(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|change| change.to_line(true, Timestamp::UNIX_EPOCH)).collect()
    }

    #[test]
    fn each_change_that_shows_is_one_line() {
        let mut board = Board::default();
        for event in
            [Event::Init, Event::InitApply(named("a", "NoConsumer")), Event::InitApply(named("b", "Ready"))]
        {
            assert!(board.take(event).is_empty() && !board.is_complete());
        }
        let expected = [
            "1970-01-01T00:00:00.000Z  fibre/a  Starting  consumer: NoConsumer  so it is",
            "1970-01-01T00:00:00.000Z  fibre/b  Ready",
        ];
        assert_eq!(lines(&board.take(Event::InitDone)), expected);
        assert!(board.take(Event::Apply(named("a", "NoConsumer"))).is_empty(), "nothing that shows");
        assert_eq!(board.take(Event::Apply(named("a", "Ready"))).len(), 1);
        let gone = board.take(Event::Delete(named("a", "Ready")));
        assert_eq!(lines(&gone), ["1970-01-01T00:00:00.000Z  fibre/a  Gone"]);
        assert!(gone[0].to_json().starts_with("{\"job\":{"), "{}", gone[0].to_json());
        assert!(board.take(Event::Delete(named("a", "Ready"))).is_empty());
    }

    #[test]
    fn after_a_gap_only_what_changed_is_told() {
        let mut board = Board::default();
        for event in
            [Event::Init, Event::InitApply(named("a", "Ready")), Event::InitApply(named("b", "Ready"))]
        {
            board.take(event);
        }
        board.take(Event::InitDone);
        for event in
            [Event::Init, Event::InitApply(named("b", "Ready")), Event::InitApply(named("c", "Ready"))]
        {
            board.take(event);
        }
        assert_eq!(board.sorted().len(), 2, "the old list holds until the new one is whole");
        let told = lines(&board.take(Event::InitDone));
        assert!(
            told.len() == 2 && told[0].contains("fibre/a  Gone") && told[1].contains("fibre/c"),
            "{told:?}"
        );
        let mut again = named("c", "Ready");
        again.metadata.uid = Some("another".to_owned());
        assert_eq!(board.take(Event::Apply(again)).len(), 1, "another job of the same name");
    }
}
