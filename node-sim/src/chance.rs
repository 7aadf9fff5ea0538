//! Chance that can be repeated: numbers that depend on the seed, a label and a position, and on nothing else.
//!
//! Each thing that needs chance (the weather's days, one station's noise, one fault) has a stream of its own, and asks
//! it for the numbers at a position (a day, a sample). So a farm gives the same readings whether it has one station or a
//! thousand, in whatever order it is asked, and after a restart in the middle, without any generator's state being kept.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How many 32-bit words a position has; [`Draw`] gives no more. One refill of the generator's buffer.
const WORDS: usize = 64;

/// A stream of chance.
#[derive(Debug, Clone)]
pub struct Chance {
    rng: ChaCha8Rng,
}

/// The numbers at one position of a stream: up to 64 uniform, or 32 pairs of normal ones.
#[derive(Debug)]
pub struct Draw {
    words: [u8; WORDS * 4],
    next: usize,
    /// The second normal number of a pair, not yet given.
    spare: Option<f64>,
}

impl Chance {
    /// The stream with this label. Labels are hashed to one of 2^64 independent ChaCha streams.
    #[must_use]
    pub fn new(seed: u64, label: &str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(hash(label));
        Self { rng }
    }

    /// The numbers at `position`, which is taken modulo 2^40.
    #[must_use]
    pub fn at(&mut self, position: i64) -> Draw {
        let position = position.rem_euclid(1 << 40) as u128;
        self.rng.set_word_pos(position * WORDS as u128);
        let mut words = [0; WORDS * 4];
        self.rng.fill_bytes(&mut words);
        Draw { words, next: 0, spare: None }
    }
}

impl Draw {
    fn word(&mut self) -> u32 {
        let at = self.next;
        self.next += 4;
        u32::from_le_bytes([self.words[at], self.words[at + 1], self.words[at + 2], self.words[at + 3]])
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.word()) / 4_294_967_296.0
    }

    /// Standard normal (Box and Muller 1958), within 6.7 standard deviations.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Gamma distributed with this shape, above 0, and scale 1 (Marsaglia and Tsang 2000; below shape 1 with their power of a uniform
    /// number). Each try takes three or four of the position's words and succeeds with 95 % at least; the last of ten is taken as it is.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        let boost = if shape < 1.0 { (1.0 - self.uniform()).powf(1.0 / shape) } else { 1.0 };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        let mut v = 1.0;
        for _ in 0..10 {
            let x = self.normal();
            let u = 1.0 - self.uniform();
            v = (1.0 + c * x).max(0.0).powi(3);
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                break;
            }
        }
        d * v * boost
    }
}

/// FNV-1a, 64 bits: the same number for a label for ever.
#[must_use]
pub fn hash(label: &str) -> u64 {
    label.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_gives_the_same_numbers_in_any_order() {
        let mut one = Chance::new(7, "noise/n1");
        let mut two = Chance::new(7, "noise/n1");
        let forward: Vec<f64> = (0..20).map(|p| one.at(p).normal()).collect();
        let mut backward: Vec<f64> = (0..20).rev().map(|p| two.at(p).normal()).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        assert_ne!(forward[0], Chance::new(7, "noise/n2").at(0).normal());
        assert_ne!(forward[0], Chance::new(8, "noise/n1").at(0).normal());
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut chance = Chance::new(1, "test");
        let values: Vec<f64> = (0..2000)
            .flat_map(|p| {
                let mut draw = chance.at(p);
                (0..10).map(|_| draw.normal()).collect::<Vec<_>>()
            })
            .collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn gamma_numbers_have_the_distributions_mean_variance_and_skewness() {
        let mut chance = Chance::new(2, "test");
        for shape in [0.5, 0.9, 3.0] {
            let values: Vec<f64> = (0..20_000).map(|p| chance.at(p).gamma(shape)).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let central = |power: i32| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / n;
            assert!((mean / shape - 1.0).abs() < 0.04, "{shape}: {mean}");
            assert!((central(2) / shape - 1.0).abs() < 0.08, "{shape}: {}", central(2));
            let skewness = central(3) / central(2).powf(1.5);
            assert!((skewness * shape.sqrt() / 2.0 - 1.0).abs() < 0.15, "{shape}: {skewness}");
        }
    }
}
