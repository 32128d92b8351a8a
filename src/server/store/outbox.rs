//! What is to be written of each job when the database can take it: bounded, by job, in order. Pure.
//!
//! A job that comes up changes several times within a second, and the database has other things to do: what can wait
//! lingers, and what has come together is written at once. What makes a window free hardly waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::snapshot::Snapshot;

/// How long a change waits for others of its job.
pub const LINGER: Duration = Duration::from_secs(1);
/// The same of a change that makes the job's window free and is not its end, which mostly comes at once: a job that is
/// deleted costs one write.
const FREES_WITHIN: Duration = Duration::from_millis(50);

/// Most jobs that wait.
pub const MOST_JOBS: usize = 10_000;
/// Most changes of one job that wait.
const MOST_CHANGES: usize = 16;
/// A job's changes are given up when the database, reachable, has refused them this often.
const MOST_REFUSALS: u32 = 5;

/// Why something will not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Too many jobs wait.
    Full,
    /// A job has changed too often: one of the states between is left out.
    Change,
    /// The database refuses it.
    Refused,
}

impl Lost {
    /// Every cause.
    pub const ALL: [Lost; 3] = [Lost::Full, Lost::Change, Lost::Refused];

    /// The word that the metric shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Lost::Full => "full",
            Lost::Change => "change",
            Lost::Refused => "refused",
        }
    }
}

/// What waits of one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pending {
    /// Its changes, the oldest first.
    pub changes: VecDeque<Snapshot>,
    /// Its record is to be removed: the job was never made.
    pub discard: bool,
    refusals: u32,
}

/// The jobs that wait, each in its place.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: HashMap<String, (Place, Pending)>,
    order: BTreeMap<Place, String>,
    placed: u64,
}

/// When a job is due, and which number it was among those that are due together.
type Place = (Instant, u64);

impl Outbox {
    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a change, at `now`.
    pub fn change(&mut self, change: Snapshot, now: Instant) -> Option<Lost> {
        let due = match change {
            Snapshot { ended_at: Some(_), .. } => now,
            Snapshot { live: false, .. } => now + FREES_WITHIN,
            _ => now + LINGER,
        };
        let Some(pending) = self.entry(&change.id, due) else { return Some(Lost::Full) };
        pending.add(change)
    }

    /// Has the record `id` removed, from `now` on.
    pub fn discard(&mut self, id: &str, now: Instant) -> Option<Lost> {
        let Some(pending) = self.entry(id, now) else { return Some(Lost::Full) };
        pending.discard = true;
        None
    }

    /// Takes the first `most` jobs out that are due at `now`.
    pub fn take(&mut self, most: usize, now: Instant) -> Vec<(String, Pending)> {
        let mut taken = Vec::new();
        while taken.len() < most && self.next_due().is_some_and(|due| due <= now) {
            let Some((_, id)) = self.order.pop_first() else { break };
            taken.extend(self.waiting.remove(&id).map(|(_, pending)| (id, pending)));
        }
        taken
    }

    /// Whether something of the job `id` waits.
    pub fn has(&self, id: &str) -> bool {
        self.waiting.contains_key(id)
    }

    /// When the first job is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.order.first_key_value().map(|((due, _), _)| *due)
    }

    /// Puts back, at `now`, what could not be written, behind the others that are due; tells why and how much of it is
    /// lost. `refused`: the database could be reached.
    pub fn put_back(
        &mut self,
        id: &str,
        mut old: Pending,
        refused: bool,
        now: Instant,
    ) -> Option<(Lost, usize)> {
        old.refusals += u32::from(refused);
        if old.refusals >= MOST_REFUSALS {
            return Some((Lost::Refused, old.len()));
        }
        let Some(pending) = self.entry(id, now) else { return Some((Lost::Full, old.len())) };
        let newer = std::mem::replace(pending, old);
        pending.discard |= newer.discard;
        let lost = newer.changes.into_iter().filter_map(|change| pending.add(change)).count();
        (lost > 0).then_some((Lost::Change, lost))
    }

    /// What waits of the job `id`, which is due at `due` at the latest; None when too many wait.
    fn entry(&mut self, id: &str, due: Instant) -> Option<&mut Pending> {
        let placed = self.waiting.get(id).map(|(place, _)| *place);
        if placed.is_none() && self.waiting.len() >= MOST_JOBS {
            return None;
        }
        let place = match placed {
            Some(place) if place.0 <= due => place,
            earlier => {
                earlier.and_then(|place| self.order.remove(&place));
                self.placed += 1;
                let place = (due, self.placed);
                self.order.insert(place, id.to_owned());
                place
            }
        };
        let (kept, pending) =
            self.waiting.entry(id.to_owned()).or_insert_with(|| (place, Pending::default()));
        *kept = place;
        Some(pending)
    }
}

impl Pending {
    /// How many writes wait.
    fn len(&self) -> usize {
        self.changes.len() + usize::from(self.discard)
    }

    fn add(&mut self, change: Snapshot) -> Option<Lost> {
        if let Some(last) = self.changes.back_mut().filter(|last| last.state.is_like(&change.state)) {
            // The same state, with more milestones or other words: it began when it was first seen.
            let since = last.since;
            *last = Snapshot { since, ..change };
            return None;
        }
        self.changes.push_back(change);
        if self.changes.len() <= MOST_CHANGES {
            return None;
        }
        self.changes.pop_front();
        Some(Lost::Change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::snapshot::State;
    use crate::server::store::snapshot::tests::{at, job};

    fn change(id: &str, state: &str, second: i64) -> Snapshot {
        let snapshot = Snapshot::of(&job(), at(second));
        Snapshot { id: id.to_owned(), state: State::new(state, "", ""), version: second, ..snapshot }
    }

    /// A moment at which all that has come is due.
    fn later() -> Instant {
        Instant::now() + 2 * LINGER
    }

    fn states(pending: &Pending) -> Vec<(&str, i64, i64)> {
        let seconds = |s: &Snapshot| s.since.as_second() - at(0).as_second();
        pending.changes.iter().map(|s| (s.state.state.as_str(), s.version, seconds(s))).collect()
    }

    #[test]
    fn what_can_wait_lingers_and_what_frees_a_window_hardly_does() {
        let mut outbox = Outbox::default();
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let ids = |outbox: &mut Outbox, at| -> Vec<String> {
            outbox.take(9, at).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(outbox.next_due(), None);
        for (id, after) in [("a", 0), ("b", 10), ("a", 20), ("c", 30)] {
            outbox.change(change(id, "Starting", 1), now + ms(after));
        }
        assert_eq!(outbox.next_due(), Some(now + LINGER), "it does not linger anew with each change");
        assert!(ids(&mut outbox, now + LINGER - ms(1)).is_empty());
        outbox.change(Snapshot { live: false, ..change("c", "Terminating", 2) }, now + ms(40));
        outbox.change(change("c", "Terminating", 3), now + ms(50));
        outbox.discard("d", now + ms(60));
        assert_eq!(ids(&mut outbox, now + ms(60)), ["d"], "it has no changes to wait for");
        assert_eq!(ids(&mut outbox, now + ms(40) + FREES_WITHIN), ["c"], "with all that has come");
        let end = Snapshot { ended_at: Some(at(4)), live: false, ..change("b", "Deleted", 4) };
        outbox.change(end, now + ms(200));
        assert_eq!(ids(&mut outbox, now + ms(200)), ["b"], "the end waits for nothing");
        assert_eq!(ids(&mut outbox, now + LINGER), ["a"]);
        assert_eq!(outbox.next_due(), None);
    }

    #[test]
    fn each_state_is_kept_once_with_its_first_time_and_its_newest_words() {
        let mut outbox = Outbox::default();
        for (state, second) in [("Starting", 1), ("Starting", 2), ("Ready", 3), ("Ready", 4), ("Starting", 5)]
        {
            assert_eq!(outbox.change(change("a", state, second), Instant::now()), None);
        }
        let taken = outbox.take(9, later());
        assert_eq!(states(&taken[0].1), [("Starting", 2, 1), ("Ready", 4, 3), ("Starting", 5, 5)]);
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn what_is_put_back_stays_before_what_came_since_and_behind_other_jobs() {
        let mut outbox = Outbox::default();
        outbox.change(change("a", "Starting", 1), Instant::now());
        outbox.change(change("b", "Starting", 1), Instant::now());
        let (id, failed) = outbox.take(1, later()).remove(0);
        outbox.change(change("a", "Ready", 2), Instant::now());
        assert_eq!(outbox.put_back(&id, failed, false, later()), None);
        let taken = outbox.take(2, later());
        assert_eq!(taken.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(states(&taken[1].1), [("Starting", 1, 1), ("Ready", 2, 2)]);
    }

    #[test]
    fn changes_are_bounded_and_the_last_one_stays() {
        let mut outbox = Outbox::default();
        let mut lost = 0;
        for second in 0..100 {
            let state = if second % 2 == 0 { "Ready" } else { "Degraded" };
            lost +=
                usize::from(outbox.change(change("a", state, second), Instant::now()) == Some(Lost::Change));
        }
        let taken = outbox.take(1, later());
        assert_eq!((taken[0].1.changes.len(), lost), (MOST_CHANGES, 100 - MOST_CHANGES));
        assert_eq!(states(&taken[0].1).last(), Some(&("Degraded", 99, 99)));
    }

    #[test]
    fn jobs_are_bounded() {
        let mut outbox = Outbox::default();
        for n in 0..MOST_JOBS {
            assert_eq!(outbox.discard(&n.to_string(), Instant::now()), None);
        }
        assert_eq!(outbox.discard("one more", Instant::now()), Some(Lost::Full));
        assert_eq!(outbox.change(change("one more", "Ready", 1), Instant::now()), Some(Lost::Full));
        assert_eq!(outbox.change(change("0", "Ready", 1), Instant::now()), None);
    }

    #[test]
    fn what_is_refused_again_and_again_is_given_up_and_an_absence_is_waited_out() {
        let mut outbox = Outbox::default();
        outbox.change(change("a", "Ready", 1), Instant::now());
        for _ in 0..100 {
            let (id, pending) = outbox.take(1, later()).remove(0);
            assert_eq!(outbox.put_back(&id, pending, false, Instant::now()), None);
        }
        for refusal in 1..=MOST_REFUSALS {
            let (id, pending) = outbox.take(1, later()).remove(0);
            let lost = (refusal == MOST_REFUSALS).then_some((Lost::Refused, 1));
            assert_eq!(outbox.put_back(&id, pending, true, Instant::now()), lost);
        }
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn each_write_that_is_given_up_is_counted() {
        let fill = |outbox: &mut Outbox, from: i64, count: usize| {
            for second in (from..).take(count) {
                outbox.change(change("a", &second.to_string(), second), Instant::now());
            }
        };
        let mut outbox = Outbox::default();
        fill(&mut outbox, 0, 3);
        outbox.discard("a", Instant::now());
        let (id, pending) = outbox.take(1, later()).remove(0);
        let worn = Pending { refusals: MOST_REFUSALS - 1, ..pending.clone() };
        assert_eq!(outbox.put_back(&id, worn, true, Instant::now()), Some((Lost::Refused, 4)));
        fill(&mut outbox, 3, MOST_CHANGES - 1);
        assert_eq!(outbox.put_back(&id, pending.clone(), false, Instant::now()), Some((Lost::Change, 2)));
        let mut full = Outbox::default();
        (0..MOST_JOBS).for_each(|n| assert_eq!(full.discard(&n.to_string(), Instant::now()), None));
        assert_eq!(full.put_back(&id, pending, false, Instant::now()), Some((Lost::Full, 4)));
    }
}
