//! For tests alone: random numbers that are the same in each run.

/// xorshift64*
pub(crate) struct Random(u64);

impl Random {
    /// `seed` must not be 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap() % end
    }

    /// Fewer than `end` bytes.
    pub(crate) fn bytes(&mut self, end: usize) -> Vec<u8> {
        (0..self.below(end))
            .map(|_| self.next().to_be_bytes()[0])
            .collect()
    }

    /// `valid` with one to four changes: a byte set, removed, put in, or the rest cut off.
    pub(crate) fn mutated(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut out = valid.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(out.len() + 1);
            let byte = self.next().to_be_bytes()[0];
            match (self.below(8), out.get_mut(at)) {
                (0..3, Some(old)) => *old = byte,
                (3, Some(old)) => *old ^= 1 << (byte % 8),
                (4..6, Some(_)) => {
                    out.remove(at);
                }
                (6, _) => out.truncate(at),
                _ => out.insert(at, byte),
            }
        }
        out
    }
}
