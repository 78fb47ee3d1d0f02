//! Which packets of a session came: each counts once.

/// How far back it is known, in packets; what is older is taken for a replay.
const WINDOW: u64 = 1 << 18;

/// The newest packets that came, and how many in all.
pub(super) struct Sequences {
    first: u64,
    newest: Option<u64>,
    seen: Vec<u64>,
    received: u64,
}

impl Default for Sequences {
    fn default() -> Self {
        Self { first: 0, newest: None, seen: vec![0; (WINDOW / 64) as usize], received: 0 }
    }
}

impl Sequences {
    /// Notes a packet, and says whether it came for the first time.
    pub fn note(&mut self, number: u64) -> bool {
        let Some(newest) = self.newest else {
            (self.first, self.newest, self.received) = (number, Some(number), 1);
            self.bit(number, true);
            return true;
        };
        if number > newest {
            if number - newest >= WINDOW {
                self.seen.fill(0);
            } else {
                (newest + 1..number).for_each(|skipped| {
                    self.bit(skipped, false);
                });
            }
            self.newest = Some(number);
        } else if newest - number >= WINDOW || self.bit(number, true) {
            return false;
        }
        self.bit(number, true);
        self.first = self.first.min(number);
        self.received += 1;
        true
    }

    /// Sets a bit, and says what it was.
    fn bit(&mut self, number: u64, to: bool) -> bool {
        let at = number % WINDOW;
        let Some(word) = self.seen.get_mut((at / 64) as usize) else { return true };
        let mask = 1 << (at % 64);
        let was = *word & mask != 0;
        *word = if to { *word | mask } else { *word & !mask };
        was
    }

    /// Packets that came.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Packets between the first and the newest that did not come.
    pub fn lost(&self) -> u64 {
        self.newest.map_or(0, |newest| (newest - self.first + 1).saturating_sub(self.received))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_once_in_any_order() {
        let mut sequences = Sequences::default();
        let new: Vec<u64> =
            [5, 7, 6, 5, 7, 9, 3, 3, 5 + WINDOW, 5, 9 + 3 * WINDOW, 9 + 2 * WINDOW, 9 + 3 * WINDOW]
                .into_iter()
                .filter(|n| sequences.note(*n))
                .collect();
        assert_eq!(new, [5, 7, 6, 9, 3, 5 + WINDOW, 9 + 3 * WINDOW]);
        assert_eq!(sequences.received(), 7);
        assert_eq!(sequences.lost(), 9 + 3 * WINDOW - 3 + 1 - 7);
    }

    #[test]
    fn numbers_that_were_skipped_are_new_when_they_come() {
        let mut sequences = Sequences::default();
        assert!((0..WINDOW + 100).filter(|n| n % 3 == 0).all(|n| sequences.note(n)));
        assert!((WINDOW..WINDOW + 99).filter(|n| n % 3 == 1).all(|n| sequences.note(n)));
        assert!(!(WINDOW..WINDOW + 99).any(|n| n % 3 < 2 && sequences.note(n)));
    }
}
