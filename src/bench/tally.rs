//! What one reader got of the lines that were published. Pure.

/// The count of one reader. Lines are numbered from 0 on and come in that order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number after the highest that was seen.
    next: u64,
    /// Lines that came, each counted once.
    pub received: u64,
    /// Lines that came again, or after a later one.
    pub repeated: u64,
    /// Lines that came with wrong content.
    pub spoiled: u64,
    /// Lines that the server said this reader had lost because it was too slow.
    pub told_lost: u64,
    missing: u64,
}

impl Tally {
    /// Line `index` came; `whole`: with its content. Gives by how many lines this is further than before.
    pub fn take(&mut self, index: u64, whole: bool) -> u64 {
        self.spoiled += u64::from(!whole);
        if index < self.next {
            self.repeated += 1;
            return 0;
        }
        let further = index - self.next + 1;
        self.missing += further - 1;
        self.received += 1;
        self.next = index + 1;
        further
    }

    /// Lines that never came, of `published` in all.
    pub fn lost(&self, published: u64) -> u64 {
        self.missing + published.saturating_sub(self.next)
    }

    /// The sum of both counts.
    pub fn and(self, other: Self) -> Self {
        Self {
            next: self.next.max(other.next),
            received: self.received + other.received,
            repeated: self.repeated + other.repeated,
            spoiled: self.spoiled + other.spoiled,
            told_lost: self.told_lost + other.told_lost,
            missing: self.missing + other.missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_ends_and_repeats_are_told_apart() {
        for (indices, published, received, lost, repeated) in [
            (vec![], 0, 0, 0, 0),
            (vec![], 3, 0, 3, 0),
            (vec![0, 1, 2], 3, 3, 0, 0),
            (vec![1, 2], 3, 2, 1, 0),
            (vec![0, 2], 3, 2, 1, 0),
            (vec![0, 1], 3, 2, 1, 0),
            (vec![0, 3, 4, 9], 12, 4, 8, 0),
            (vec![0, 1, 1, 2], 3, 3, 0, 1),
            (vec![0, 2, 1], 3, 2, 1, 1),
        ] {
            let mut tally = Tally::default();
            let further: u64 = indices.iter().map(|index| tally.take(*index, true)).sum();
            let got = (tally.received, tally.lost(published), tally.repeated);
            assert_eq!(got, (received, lost, repeated), "{indices:?} of {published}");
            assert_eq!(further, tally.next);
            assert_eq!(tally.received + tally.lost(published), published);
        }
    }

    #[test]
    fn sums_have_both() {
        let (mut one, mut other) = (Tally { told_lost: 2, ..Tally::default() }, Tally::default());
        one.take(2, false);
        other.take(0, true);
        other.take(0, true);
        let both = one.and(other);
        assert_eq!(
            (both.received, both.repeated, both.spoiled, both.told_lost, both.missing),
            (2, 1, 1, 2, 2)
        );
    }
}
