//! Which replicas of the server are alive, and which of them a job belongs to. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Alive;

/// What a replica says of itself in the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Its name.
    pub name: String,
    /// Where the others reach it: `http://host:port`.
    pub address: String,
    /// The time of its last sign of life, in its own words: only that it changes matters, not what it says.
    pub renewed: String,
    /// How long the sign is good for.
    pub lasts: Duration,
}

/// The replicas that have been heard of.
#[derive(Debug, Default)]
pub struct Members {
    heard: BTreeMap<String, Heard>,
    /// When this replica's last sign was asked for that the API server took.
    own: Option<Instant>,
}

/// The last sign of one of them.
#[derive(Debug)]
struct Heard {
    sign: Sign,
    /// When it was read for the first time.
    at: Instant,
    /// It looked old when its replica was first heard of, and has not changed since: whoever gave it is not waited for.
    doubted: bool,
}

impl Heard {
    /// From when on it is no longer good.
    fn until(&self) -> Instant {
        self.at + self.sign.lasts
    }
}

impl Members {
    /// Takes in `sign`, which was read at `now`. A sign that was read before proves nothing anew. `looks_old` is asked
    /// only of a replica that is not known: a sign that changes is a sign of life whatever the clocks say.
    pub fn heard(&mut self, sign: Sign, now: Instant, looks_old: impl FnOnce(&Sign) -> bool) {
        let doubted = match self.heard.get(&sign.name) {
            Some(known) if known.sign.renewed == sign.renewed => return,
            Some(_) => false,
            None => looks_old(&sign),
        };
        self.heard.insert(sign.name.clone(), Heard { sign, at: now, doubted });
    }

    /// Takes in a sign of this replica itself, asked for at `now`. When it comes late, the API server was away for the
    /// others too: theirs are good for once more, so that they have the time to give new ones.
    pub fn heard_own(&mut self, sign: Sign, now: Instant) {
        let in_time = self.own.is_some_and(|at| now <= at + sign.lasts / 2);
        if !in_time {
            self.heard.values_mut().for_each(|heard| heard.at = now);
        }
        self.own = Some(now);
        self.heard(sign, now, |_| false);
    }

    /// When this replica's last sign was asked for that the API server took; None: none was yet.
    pub fn told_at(&self) -> Option<Instant> {
        self.own
    }

    /// Replicas that are not `told` of have taken their leave.
    pub fn only(&mut self, told: impl Fn(&str) -> bool) {
        self.heard.retain(|name, _| told(name));
    }

    /// The replica called `name` has taken its leave.
    pub fn left(&mut self, name: &str) {
        self.heard.remove(name);
    }

    /// The replicas that are alive at `now`: name and address.
    pub fn alive(&self, now: Instant) -> Alive {
        let alive = self.heard.values().filter(|heard| !heard.doubted && now < heard.until());
        alive.map(|heard| (heard.sign.name.clone(), heard.sign.address.clone())).collect()
    }

    /// When the next of those who are alive at `now` may no longer be, unless it is heard again.
    pub fn next_lapse(&self, now: Instant) -> Option<Instant> {
        self.heard.values().filter(|heard| !heard.doubted).map(Heard::until).filter(|at| *at > now).min()
    }

    /// Replicas that have been silent for `silence` at `now`.
    pub fn silent(&self, silence: Duration, now: Instant) -> Vec<String> {
        self.heard
            .values()
            .filter(|heard| now.saturating_duration_since(heard.at) >= silence)
            .map(|heard| heard.sign.name.clone())
            .collect()
    }
}

/// Whether `now` tells the replica called `own` something that `before` did not. When its own sign is not among them
/// the API server takes and tells none: the silence of the others means nothing then, and all stays as it was.
pub fn is_news(own: &str, before: &Alive, now: &Alive) -> bool {
    now.contains_key(own) && before != now
}

/// The replica among `alive` that consumes for the job with `uid`: the one that it is `bound` to, or else the one
/// with the highest hash, so that the jobs of a replica that died spread over the others and all agree on it.
pub fn owner<'a>(bound: Option<&str>, uid: &str, alive: &'a Alive) -> Option<&'a str> {
    let names = || alive.keys().map(String::as_str);
    names().find(|name| Some(*name) == bound).or_else(|| names().max_by_key(|name| hash(name, uid)))
}

/// FNV-1a of both texts, stirred as MurmurHash3 ends: alike in every version of the server.
fn hash(name: &str, uid: &str) -> u64 {
    let bytes = name.bytes().chain([0]).chain(uid.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(3);

    fn sign(name: &str, renewed: &str) -> Sign {
        Sign { name: name.into(), address: format!("http://{name}:1"), renewed: renewed.into(), lasts: LASTS }
    }

    /// To a sign that is first heard: it does not look old.
    fn new(_: &Sign) -> bool {
        false
    }

    fn alive(names: &[&str]) -> Alive {
        names.iter().map(|name| ((*name).to_owned(), String::new())).collect()
    }

    #[test]
    fn a_replica_lives_as_long_as_its_sign_changes() {
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        let names = |members: &Members, s| members.alive(after(s)).into_keys().collect::<Vec<_>>();
        let mut members = Members::default();
        members.heard(sign("a", "1"), start, new);
        members.heard(sign("b", "1"), start, new);
        members.heard(sign("a", "2"), after(2), new);
        members.heard(sign("b", "1"), after(2), new);
        assert_eq!(names(&members, 2), ["a", "b"]);
        assert_eq!(names(&members, 3), ["a"]);
        assert_eq!(names(&members, 5), Vec::<String>::new());
        assert_eq!(members.silent(LASTS, after(3)), ["b"]);
        assert_eq!(members.next_lapse(start), Some(after(3)));
        assert_eq!(members.next_lapse(after(3)), Some(after(5)));
        assert_eq!(members.next_lapse(after(5)), None);
        members.left("a");
        assert_eq!(names(&members, 2), ["b"]);
    }

    #[test]
    fn a_replica_whose_clock_is_behind_lives_from_its_first_change() {
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        let names = |members: &Members, s| members.alive(after(s)).into_keys().collect::<Vec<_>>();
        let mut members = Members::default();
        let old = |_: &Sign| true;
        members.heard(sign("a", "1"), start, old);
        members.heard(sign("a", "1"), after(1), old);
        assert_eq!((names(&members, 1), members.next_lapse(after(1))), (Vec::<String>::new(), None));
        assert_eq!(members.silent(LASTS, after(3)), ["a"], "one that is dead is tidied away all the same");
        members.heard(sign("a", "2"), after(2), old);
        assert_eq!(names(&members, 4), ["a"]);
    }

    #[test]
    fn who_cannot_tell_of_itself_does_not_judge_the_others() {
        let both = alive(&["a", "b"]);
        for (now, news) in [
            (alive(&["a"]), true),
            (alive(&["a", "b", "c"]), true),
            (alive(&["b"]), false),
            (alive(&[]), false),
        ] {
            assert_eq!(is_news("a", &both, &now), news, "{now:?}");
        }
        assert!(!is_news("a", &both, &both));
        assert!(is_news("a", &alive(&[]), &both));
    }

    #[test]
    fn after_an_outage_the_others_have_the_time_to_tell_of_themselves() {
        let start = Instant::now();
        let after = |s: u64| start + Duration::from_secs(s);
        let names = |members: &Members, s| members.alive(after(s)).into_keys().collect::<Vec<_>>();
        let mut members = Members::default();
        members.heard_own(sign("a", "1"), start);
        members.heard(sign("b", "1"), start, new);
        for s in 1..=3 {
            members.heard_own(sign("a", &s.to_string()), after(s));
        }
        assert_eq!(names(&members, 3), ["a"]);
        for (s, both) in [(60, true), (61, true), (62, true), (63, false)] {
            members.heard_own(sign("a", &s.to_string()), after(s));
            assert_eq!(names(&members, s).len() == 2, both, "{s} s");
        }
    }

    #[test]
    fn after_an_api_server_that_was_away_the_others_have_time_for_a_sign() {
        let start = Instant::now();
        let after = |millis: u64| start + Duration::from_millis(millis);
        for between in [0, 250, 500, 999] {
            let mut members = Members::default();
            members.heard_own(sign("a", "0"), start);
            members.heard(sign("b", "1"), start, new);
            members.heard_own(sign("a", "1"), after(between));
            members.heard_own(sign("a", "2"), after(between + 2500));
            assert!(members.alive(after(between + 4500)).contains_key("b"), "{between}");
        }
    }

    #[test]
    fn a_bound_job_stays_and_an_orphan_goes_where_all_agree() {
        let three = alive(&["a", "b", "c"]);
        for bound in ["a", "b", "c"] {
            assert_eq!(owner(Some(bound), "u", &three), Some(bound));
        }
        let orphan = owner(Some("dead"), "u", &three);
        assert_eq!(orphan, owner(None, "u", &three));
        assert!(orphan.is_some());
        assert_eq!(owner(Some("a"), "u", &alive(&[])), None);
    }

    #[test]
    fn orphans_spread_over_the_living_and_the_others_stay() {
        let (two, three) = (alive(&["a", "b"]), alive(&["a", "b", "c"]));
        let uids: Vec<String> = (0..300).map(|i| format!("uid-{i}")).collect();
        for name in ["a", "b", "c"] {
            let share = uids.iter().filter(|uid| owner(None, uid, &three) == Some(name)).count();
            assert!((60..140).contains(&share), "{name}: {share} of 300");
        }
        for uid in &uids {
            let before = owner(None, uid, &three);
            assert!(before == Some("c") || before == owner(None, uid, &two), "{uid} moved without need");
        }
    }
}
