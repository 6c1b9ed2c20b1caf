//! Mutations of known inputs: bits and bytes changed, pieces cut, moved, doubled, put in from a
//! dictionary or from another input. The same seed gives the same inputs.

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// One of `pool` with one to six changes, at most `longest` bytes.
pub fn mutated(random: &mut Random, pool: &[Vec<u8>], words: &[&str], longest: usize) -> Vec<u8> {
    let mut out = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(6) {
        change(random, &mut out, pool, words);
    }
    out.truncate(longest);
    out
}

fn change(random: &mut Random, out: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str]) {
    let at = random.below(out.len() + 1);
    let end = (at + 1 + random.below(32)).min(out.len());
    match random.below(12) {
        0 if at < out.len() => out[at] ^= 1 << random.below(8),
        1 if at < out.len() => out[at] = random.byte(),
        2 => out.insert(at, random.byte()),
        3 if at < end => drop(out.drain(at..end)),
        4 => out.truncate(at),
        5 if at < end => {
            let piece = out[at..end].to_vec();
            let to = random.below(out.len() + 1);
            out.splice(to..to, piece);
        }
        6 if at < end => {
            let piece = out[at..end].repeat(1 + random.below(64));
            out.splice(at..end, piece);
        }
        7 => {
            let other = &pool[random.below(pool.len())];
            let from = random.below(other.len() + 1);
            out.truncate(at);
            out.extend_from_slice(&other[from..]);
        }
        8 if at < out.len() => {
            out[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'"', b'\\'][random.below(8)]
        }
        9 if at + 4 <= out.len() => {
            let number = [0, 1, 255, 65_535, 1 << 24, i32::MAX as u32, u32::MAX][random.below(7)];
            out[at..at + 4].copy_from_slice(&number.to_be_bytes());
        }
        _ if !words.is_empty() => {
            let word = words[random.below(words.len())].as_bytes();
            let replaced = if random.below(2) == 0 {
                at..at
            } else {
                at..end.max(at)
            };
            out.splice(replaced, word.iter().copied());
        }
        _ => out.reverse(),
    }
}
