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

/// The newest items, numbered from 0 on.
#[derive(Debug)]
pub struct Ring<T> {
    limits: Limits,
    items: VecDeque<(T, usize)>,
    bytes: usize,
    next: u64,
}

impl<T: Clone> Ring<T> {
    /// An empty ring.
    pub fn new(limits: Limits) -> Self {
        Self { limits, items: VecDeque::new(), bytes: 0, next: 0 }
    }

    /// Adds `item`, of `bytes` bytes, and pushes the oldest out as the limits demand.
    pub fn push(&mut self, item: T, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        self.next += 1;
        while self.items.len() > 1 && (self.items.len() > self.limits.items || self.bytes > self.limits.bytes)
        {
            if let Some((_, bytes)) = self.items.pop_front() {
                self.bytes -= bytes;
            }
        }
    }

    /// A cursor that will find the next item which is pushed.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// The oldest item that `cursor` has not passed, which it then has; None when there is none yet.
    pub fn take(&self, cursor: &mut u64) -> Option<Taken<T>> {
        let oldest = self.next - self.items.len() as u64;
        let lost = oldest.saturating_sub(*cursor);
        let (item, _) = self.items.get(usize::try_from(*cursor + lost - oldest).ok()?)?;
        *cursor += lost + 1;
        Some(Taken { lost, item: item.clone() })
    }

    /// Lets go of every item. Nobody may hold a cursor that has not passed them.
    pub fn clear(&mut self) {
        self.items = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &Ring<u64>, cursor: &mut u64) -> Vec<(u64, u64)> {
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
            pushed.iter().enumerate().for_each(|(i, bytes)| ring.push(i as u64, *bytes));
            assert_eq!(all(&ring, &mut cursor), found, "{limits:?} {pushed:?}");
            assert_eq!(cursor, pushed.len() as u64);
        }
    }

    #[test]
    fn each_cursor_is_its_own() {
        let mut ring = Ring::new(Limits { items: 2, bytes: 100 });
        let (mut fast, mut slow) = (ring.end(), ring.end());
        for i in 0..6 {
            ring.push(i, 1);
            assert_eq!(all(&ring, &mut fast), [(0, i)]);
        }
        let mut late = ring.end();
        assert_eq!(all(&ring, &mut slow), [(4, 4), (0, 5)]);
        assert_eq!(all(&ring, &mut late), []);
        ring.clear();
        ring.push(6, 1);
        for cursor in [&mut fast, &mut slow, &mut late] {
            assert_eq!(all(&ring, cursor), [(0, 6)]);
        }
    }
}
