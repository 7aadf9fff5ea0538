//! A model's file written and computed plainly.

use proptest::prelude::*;

/// A model as numbers.
#[derive(Debug, Clone)]
pub struct Plain {
    pub version: u32,
    pub names: Vec<String>,
    pub steps: usize,
    pub centres: Vec<(f32, f32)>,
    pub first: Vec<Vec<i8>>,
    pub first_bias: Vec<i32>,
    pub first_multiplier: f32,
    pub second: Vec<Vec<i8>>,
    pub second_bias: Vec<i32>,
    pub second_multiplier: f32,
    pub thresholds: Vec<f32>,
    pub golden: Vec<i8>,
}

impl Plain {
    /// A model of one channel that foretells its last value (the lower half of the range by one unit, the upper by another).
    pub fn last_value(name: &str, version: u32) -> Self {
        Self {
            version,
            names: vec![name.to_owned()],
            steps: 2,
            centres: vec![(20.0, 10.0)],
            first: vec![vec![64, 0], vec![-64, 0]],
            first_bias: vec![0, 0],
            first_multiplier: 1.0 / 64.0,
            second: vec![vec![64, -64]],
            second_bias: vec![0],
            second_multiplier: 1.0 / 64.0,
            thresholds: vec![0.5],
            golden: vec![33, -7],
        }
    }

    pub fn predict(&self, input: &[i8]) -> Vec<i8> {
        let requantise = |sum: i32, multiplier: f32, least: f64| {
            (f64::from(sum) * f64::from(multiplier)).round().clamp(least, 127.0) as i8
        };
        let layer = |weights: &[Vec<i8>], bias: &[i32], multiplier: f32, least: f64, values: &[i8]| -> Vec<i8> {
            let sum = |row: &Vec<i8>| {
                row.iter().zip(values).map(|(weight, value)| i32::from(*weight) * i32::from(*value)).sum::<i32>()
            };
            weights.iter().zip(bias).map(|(row, bias)| requantise(bias + sum(row), multiplier, least)).collect()
        };
        (0..self.names.len())
            .map(|channel| {
                let mut masked = input.to_vec();
                let newest = channel * self.steps + self.steps - 1;
                masked[newest] = masked[newest - 1];
                let hidden = layer(&self.first, &self.first_bias, self.first_multiplier, 0.0, &masked);
                layer(&self.second, &self.second_bias, self.second_multiplier, -127.0, &hidden)[channel]
            })
            .collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"TNM1".to_vec();
        out.extend([self.names.len() as u8, self.steps as u8, self.first.len() as u8, 0]);
        out.extend(self.version.to_le_bytes());
        for name in &self.names {
            out.push(name.len() as u8);
            out.extend(name.bytes());
        }
        let integers = |out: &mut Vec<u8>, values: &[i8]| out.extend(values.iter().map(|value| *value as u8));
        for (centre, scale) in &self.centres {
            out.extend(centre.to_le_bytes());
            out.extend(scale.to_le_bytes());
        }
        for (weights, bias, multiplier) in [
            (&self.first, &self.first_bias, self.first_multiplier),
            (&self.second, &self.second_bias, self.second_multiplier),
        ] {
            weights.iter().for_each(|row| integers(&mut out, row));
            bias.iter().for_each(|bias| out.extend(bias.to_le_bytes()));
            out.extend(multiplier.to_le_bytes());
        }
        self.thresholds.iter().for_each(|threshold| out.extend(threshold.to_le_bytes()));
        integers(&mut out, &self.golden);
        integers(&mut out, &self.predict(&self.golden));
        with_crc(out)
    }
}

/// The bytes with their checksum, bit by bit (IEEE 802.3, reflected).
pub fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in &bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes.extend((!crc).to_le_bytes());
    bytes
}

pub fn any_model() -> impl Strategy<Value = Plain> {
    (1usize..=5, 2usize..=6, 1usize..=8).prop_flat_map(|(channels, steps, hidden)| {
        let weights =
            |rows: usize, columns: usize| prop::collection::vec(prop::collection::vec(any::<i8>(), columns), rows);
        let bias = |rows: usize| prop::collection::vec(-20_000i32..20_000, rows);
        let multiplier = || 1e-5f32..0.05;
        (
            (weights(hidden, channels * steps), bias(hidden), multiplier()),
            (weights(channels, hidden), bias(channels), multiplier()),
            prop::collection::vec((-50f32..50.0, 0.1f32..40.0), channels),
            prop::collection::vec(0.1f32..10.0, channels),
            prop::collection::vec(-127i8..=127, channels * steps),
        )
            .prop_map(move |(first, second, centres, thresholds, golden)| Plain {
                version: 1 << 20,
                names: (0..channels).map(|channel| format!("channel_{channel}")).collect(),
                steps,
                centres,
                first: first.0,
                first_bias: first.1,
                first_multiplier: first.2,
                second: second.0,
                second_bias: second.1,
                second_multiplier: second.2,
                thresholds,
                golden,
            })
    })
}
