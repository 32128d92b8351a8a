//! What is remembered for a while. Pure: the time is given.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A map that forgets: each entry after a while, and the oldest when it is full.
pub struct Cache<K, V> {
    most: usize,
    life: Duration,
    entries: HashMap<K, (V, Instant)>,
}

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
    /// Remembers at most `most` entries, each for `life`.
    pub fn new(most: usize, life: Duration) -> Self {
        Self { most, life, entries: HashMap::new() }
    }

    /// What was put under `key` and is not forgotten at `now`.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (value, put) = self.entries.get(key)?;
        (now.saturating_duration_since(*put) < self.life).then_some(value)
    }

    /// Remembers `value` from `now` on.
    pub fn put(&mut self, key: K, value: V, now: Instant) {
        if self.entries.len() >= self.most && !self.entries.contains_key(&key) {
            let life = self.life;
            self.entries.retain(|_, (_, put)| now.saturating_duration_since(*put) < life);
        }
        if self.entries.len() >= self.most
            && !self.entries.contains_key(&key)
            && let Some(oldest) =
                self.entries.iter().min_by_key(|(_, (_, put))| *put).map(|(key, _)| key.clone())
        {
            self.entries.remove(&oldest);
        }
        self.entries.insert(key, (value, now));
    }

    /// Forgets what was put under `key`.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_after_its_time_and_the_oldest_when_full() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::new(2, Duration::from_secs(10));
        cache.put('a', 1, at(0));
        assert_eq!(
            (cache.get(&'a', at(9)), cache.get(&'a', at(10)), cache.get(&'b', at(0))),
            (Some(&1), None, None)
        );
        cache.put('b', 2, at(1));
        cache.put('c', 3, at(2));
        assert_eq!(
            [cache.get(&'a', at(3)), cache.get(&'b', at(3)), cache.get(&'c', at(3))],
            [None, Some(&2), Some(&3)]
        );
        // One that is there already pushes nobody out.
        cache.put('b', 4, at(3));
        assert_eq!([cache.get(&'b', at(3)), cache.get(&'c', at(3))], [Some(&4), Some(&3)]);
        // All that have had their time go first.
        cache.put('d', 5, at(14));
        assert_eq!(cache.entries.len(), 1);
    }
}
