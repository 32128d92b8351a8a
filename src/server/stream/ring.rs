//! The ring that all readers of a job share, and what a cursor finds in it. Pure.

use std::collections::VecDeque;

/// How far a reader may fall behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most items.
    pub items: usize,
    /// Most bytes; the newest item is kept whatever its size.
    pub bytes: usize,
}

/// What a cursor finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken<T> {
    /// Items that had been pushed out before this one could be taken.
    pub lost: u64,
    /// The oldest item that is left.
    pub item: T,
}

/// The newest items, numbered from 0 on. An item goes when all who wait for it have taken it, or when the limits
/// push it out: with readers that keep up the ring is empty.
#[derive(Debug)]
pub struct Ring<T> {
    limits: Limits,
    items: VecDeque<Slot<T>>,
    bytes: usize,
    next: u64,
}

#[derive(Debug)]
struct Slot<T> {
    item: T,
    bytes: usize,
    /// Cursors that have not passed it.
    awaited_by: usize,
}

impl<T: Clone> Ring<T> {
    /// An empty ring.
    pub fn new(limits: Limits) -> Self {
        Self { limits, items: VecDeque::new(), bytes: 0, next: 0 }
    }

    /// Adds `item`, of `bytes` bytes, for `cursors` cursors, and pushes the oldest out as the limits demand.
    pub fn push(&mut self, item: T, bytes: usize, cursors: usize) {
        self.items.push_back(Slot { item, bytes, awaited_by: cursors });
        self.bytes += bytes;
        self.next += 1;
        while self.items.len() > 1 && (self.items.len() > self.limits.items || self.bytes > self.limits.bytes)
        {
            self.pop();
        }
    }

    /// A cursor that will find the next item which is pushed.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// The oldest item that `cursor` has not passed, which it then has; None when there is none yet.
    pub fn take(&mut self, cursor: &mut u64) -> Option<Taken<T>> {
        let oldest = self.oldest();
        let lost = oldest.saturating_sub(*cursor);
        let slot = self.items.get_mut(usize::try_from(*cursor + lost - oldest).ok()?)?;
        slot.awaited_by -= 1;
        let item = slot.item.clone();
        *cursor += lost + 1;
        self.let_go();
        Some(Taken { lost, item })
    }

    /// Takes `cursor` away: nothing is kept for it.
    pub fn leave(&mut self, cursor: u64) {
        let passed = usize::try_from(cursor.saturating_sub(self.oldest())).unwrap_or(usize::MAX);
        self.items.iter_mut().skip(passed).for_each(|slot| slot.awaited_by -= 1);
        self.let_go();
    }

    fn oldest(&self) -> u64 {
        self.next - self.items.len() as u64
    }

    fn let_go(&mut self) {
        while self.items.front().is_some_and(|slot| slot.awaited_by == 0) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(slot) = self.items.pop_front() {
            self.bytes -= slot.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &mut Ring<u64>, cursor: &mut u64) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| ring.take(cursor)).map(|taken| (taken.lost, taken.item)).collect()
    }

    #[test]
    fn the_oldest_are_lost_and_counted() {
        let limits = Limits { items: 3, bytes: 100 };
        for (limits, pushed, found) in [
            (limits, vec![], vec![]),
            (limits, vec![1, 1, 1], vec![(0, 0), (0, 1), (0, 2)]),
            (limits, vec![1, 1, 1, 1, 1], vec![(2, 2), (0, 3), (0, 4)]),
            (limits, vec![50, 50, 50], vec![(1, 1), (0, 2)]),
            (limits, vec![1, 1, 99], vec![(1, 1), (0, 2)]),
            (limits, vec![1, 1, 1000], vec![(2, 2)]),
            (Limits { items: 0, bytes: 0 }, vec![1, 1], vec![(1, 1)]),
        ] {
            let mut ring = Ring::new(limits);
            let mut cursor = ring.end();
            pushed.iter().enumerate().for_each(|(i, bytes)| ring.push(i as u64, *bytes, 1));
            assert_eq!(all(&mut ring, &mut cursor), found, "{limits:?} {pushed:?}");
            assert_eq!((cursor, ring.items.len(), ring.bytes), (pushed.len() as u64, 0, 0));
        }
    }

    #[test]
    fn each_cursor_is_its_own_and_nothing_is_kept_for_none() {
        let mut ring = Ring::new(Limits { items: 2, bytes: 100 });
        let (mut fast, mut slow) = (ring.end(), ring.end());
        for i in 0..6 {
            ring.push(i, 1, 2);
            assert_eq!(all(&mut ring, &mut fast), [(0, i)]);
        }
        assert_eq!(ring.items.len(), 2);
        let mut late = ring.end();
        assert_eq!(all(&mut ring, &mut slow), [(4, 4), (0, 5)]);
        assert_eq!(all(&mut ring, &mut late), []);
        assert_eq!((ring.items.len(), ring.bytes), (0, 0));
        ring.push(6, 1, 3);
        for cursor in [&mut fast, &mut slow, &mut late] {
            assert_eq!(all(&mut ring, cursor), [(0, 6)]);
        }
        assert!(ring.items.is_empty());
    }

    #[test]
    fn what_only_one_that_leaves_has_not_taken_goes_with_it() {
        for (taken_by_stayer, kept) in [(0, 2), (1, 1), (2, 0)] {
            let mut ring = Ring::new(Limits { items: 2, bytes: 100 });
            let (leaver, mut stayer) = (ring.end(), ring.end());
            (0..3).for_each(|i| ring.push(i, 1, 2));
            for _ in 0..taken_by_stayer {
                ring.take(&mut stayer);
            }
            ring.leave(leaver);
            assert_eq!((ring.items.len(), ring.bytes), (kept, kept), "{taken_by_stayer}");
            ring.leave(stayer);
            assert!(ring.items.is_empty());
        }
    }
}
