//! The file of a node's model: a network of two layers in eight-bit integers. A node reads it where it lies; this is the
//! writer, and the reader of those who are no nodes.
//!
//! Little endian, at most [`MAX_BYTES`]. With C channels, S samples looked back (the newest last) and H hidden units:
//! `TNM1`, C, S, H, 0; the version's code, u32; C names, a length and ASCII; C times centre and scale, f32; first layer: H
//! rows of C S weights i8, H biases i32, a multiplier f32; second layer: C rows of H weights i8, C biases i32, a multiplier
//! f32; C thresholds f32; a golden input of C S i8 and its output, C i8; CRC-32 (IEEE 802.3) of all before.
//!
//! A value x of a channel goes in as round(16 (x - centre) / scale), held to ±127. Channel c is foretold with its own newest
//! value replaced by the one before. A layer's sums are brought back to eight bits by its multiplier (Jacob et al. 2018,
//! Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, eq. 4), rounded half away
//! from zero; those of the first layer are held to 0 and above.

use crate::channel::Channel;

use super::NodeModelVersion;

/// The largest file, bytes.
pub const MAX_BYTES: usize = 4096;
/// The most channels.
pub const MAX_CHANNELS: usize = 16;
/// The most samples looked back, the newest among them; the fewest are two.
pub const MAX_STEPS: usize = 16;
/// The most hidden units.
pub const MAX_HIDDEN: usize = 32;
/// The longest name of a channel, bytes.
pub const MAX_NAME: usize = 32;
/// The largest bias: with it no sum leaves an i32.
pub const MAX_BIAS: i32 = 1 << 24;

const MAGIC: &[u8; 4] = b"TNM1";
const UNIT: f64 = 16.0;
const MOST: f64 = 127.0;

/// A layer's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// A row for each unit of the layer.
    pub weights: Vec<Vec<i8>>,
    /// One for each unit.
    pub biases: Vec<i32>,
    /// What brings the sums back to eight bits.
    pub multiplier: f32,
}

/// A node's model.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeModelFile {
    /// Its version.
    pub version: NodeModelVersion,
    /// What it looks at.
    pub channels: Vec<Channel>,
    /// How many samples it looks at, the newest among them.
    pub steps: usize,
    /// Centre and scale of each channel, in its unit.
    pub normal: Vec<(f32, f32)>,
    /// From channels times steps to the hidden units.
    pub first: Layer,
    /// From the hidden units to the channels.
    pub second: Layer,
    /// The error of each channel from which on it is unusual, in its scale.
    pub thresholds: Vec<f32>,
    /// An input, channel by channel.
    pub golden: Vec<i8>,
}

/// Why bytes are not a node's model, or a model has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It begins otherwise.
    #[error("it does not begin with TNM1")]
    Magic,
    /// It was damaged.
    #[error("its checksum is {found:08x}, and should be {expected:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes give.
        expected: u32,
    },
    /// It is too long.
    #[error("it has {0} bytes, at most 4096 are allowed")]
    Length(usize),
    /// It ends too soon or too late.
    #[error("it ends {0}")]
    End(&'static str),
    /// A part holds what it may not.
    #[error("{part}: {value} is not {allowed}")]
    Value {
        /// Which part.
        part: &'static str,
        /// What it holds.
        value: String,
        /// What may be there.
        allowed: &'static str,
    },
    /// Its golden output is not what its numbers give.
    #[error("its golden output is {found:?}, but its numbers give {expected:?}")]
    Golden {
        /// What it says.
        found: Vec<i8>,
        /// What it should say.
        expected: Vec<i8>,
    },
}

impl NodeModelFile {
    /// A model that foretells of each channel what it was a sample before, by an upper and a lower half, and calls half a scale
    /// from it unusual: the persistence that a trained one should be better than. `normal` has a centre and a scale of each.
    #[must_use]
    pub fn persistence(version: NodeModelVersion, channels: &[Channel], normal: Vec<(f32, f32)>, steps: usize) -> Self {
        let (count, inputs) = (channels.len(), channels.len() * steps);
        let layer = |weights: Vec<Vec<i8>>| Layer { biases: vec![0; weights.len()], weights, multiplier: 1.0 / 64.0 };
        let row = |width: usize, at: usize, weight: i8| {
            let mut row = vec![0; width];
            row[at] = weight;
            row
        };
        // Its own newest value is masked by the one before.
        let halves = |channel: usize| [64, -64].map(|weight| row(inputs, channel * steps + steps - 1, weight));
        let both = |channel: usize| {
            let mut sum = row(2 * count, 2 * channel, 64);
            sum[2 * channel + 1] = -64;
            sum
        };
        Self {
            version,
            channels: channels.to_vec(),
            steps,
            normal,
            first: layer((0..count).flat_map(halves).collect()),
            second: layer((0..count).map(both).collect()),
            thresholds: vec![0.5; count],
            golden: (0..inputs).map(|at| if at % 2 == 0 { 33 } else { -7 }).collect(),
        }
    }

    /// The file.
    ///
    /// # Errors
    /// When a part is not as long as the others say, or holds what it may not, or the file would be too long.
    pub fn encode(&self) -> Result<Vec<u8>, FileError> {
        self.check()?;
        let mut out = MAGIC.to_vec();
        let byte = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        out.extend([byte(self.channels.len()), byte(self.steps), byte(self.first.weights.len()), 0]);
        out.extend(self.version.code().to_le_bytes());
        for channel in &self.channels {
            let name = channel.to_string();
            out.push(byte(name.len()));
            out.extend(name.bytes());
        }
        for (centre, scale) in &self.normal {
            out.extend(centre.to_le_bytes());
            out.extend(scale.to_le_bytes());
        }
        for layer in [&self.first, &self.second] {
            layer.weights.iter().for_each(|row| put(&mut out, row));
            layer.biases.iter().for_each(|bias| out.extend(bias.to_le_bytes()));
            out.extend(layer.multiplier.to_le_bytes());
        }
        self.thresholds.iter().for_each(|threshold| out.extend(threshold.to_le_bytes()));
        put(&mut out, &self.golden);
        put(&mut out, &self.predict(&self.golden));
        out.extend(crc32fast::hash(&out).to_le_bytes());
        if out.len() > MAX_BYTES { Err(FileError::Length(out.len())) } else { Ok(out) }
    }

    /// Reads a file, and checks all of it.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > MAX_BYTES {
            return Err(FileError::Length(bytes.len()));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(FileError::Magic);
        }
        let (body, crc) = bytes.split_last_chunk().ok_or(FileError::End("too soon"))?;
        let (found, expected) = (u32::from_le_bytes(*crc), crc32fast::hash(body));
        if found != expected {
            return Err(FileError::Checksum { found, expected });
        }
        let input = &mut &body[MAGIC.len().min(body.len())..];
        let [channels, steps, hidden, zero] = take::<4>(input)?.map(usize::from);
        for (part, value, fits, allowed) in [
            ("channels", channels, (1..=MAX_CHANNELS).contains(&channels), "1 to 16"),
            ("steps", steps, (2..=MAX_STEPS).contains(&steps), "2 to 16"),
            ("hidden units", hidden, (1..=MAX_HIDDEN).contains(&hidden), "1 to 32"),
            ("eighth byte", zero, zero == 0, "0"),
        ] {
            expect(part, value, fits, allowed)?;
        }
        let code = u32::from_le_bytes(take(input)?);
        let version = NodeModelVersion::from_code(code);
        let version = version.ok_or(FileError::Value { part: "version", value: "0".to_owned(), allowed: "above 0" })?;
        let names = (0..channels).map(|_| name(input)).collect::<Result<Vec<Channel>, _>>()?;
        let normal = (0..channels).map(|_| Ok((float(input)?, float(input)?))).collect::<Result<_, FileError>>()?;
        let first = layer(input, hidden, channels * steps)?;
        let second = layer(input, channels, hidden)?;
        let thresholds = (0..channels).map(|_| float(input)).collect::<Result<_, _>>()?;
        let golden = integers(input, channels * steps)?;
        let found = integers(input, channels)?;
        if !input.is_empty() {
            return Err(FileError::End("too late"));
        }
        let file = Self { version, channels: names, steps, normal, first, second, thresholds, golden };
        file.check()?;
        let expected = file.predict(&file.golden);
        if found == expected { Ok(file) } else { Err(FileError::Golden { found, expected }) }
    }

    /// A value of a channel as the network takes it.
    #[must_use]
    pub fn normalise(&self, channel: usize, value: f64) -> i8 {
        let (centre, scale) = self.normal[channel];
        rounded((value - f64::from(centre)) / f64::from(scale) * UNIT, -MOST)
    }

    /// What the network foretells of each channel's newest value, from `channels * steps` integers.
    #[must_use]
    pub fn predict(&self, input: &[i8]) -> Vec<i8> {
        (0..self.channels.len())
            .map(|channel| {
                let mut masked = input.to_vec();
                let newest = channel * self.steps + self.steps - 1;
                masked[newest] = masked[newest - 1];
                let hidden: Vec<i8> = self.first.of(&masked, 0.0).collect();
                self.second.of(&hidden, -MOST).nth(channel).unwrap_or(0)
            })
            .collect()
    }

    /// How far each channel's newest value is from what was foretold, in its scale.
    #[must_use]
    pub fn errors(&self, input: &[i8]) -> Vec<f64> {
        let newest = input.iter().skip(self.steps - 1).step_by(self.steps);
        let foretold = self.predict(input);
        foretold
            .iter()
            .zip(newest)
            .map(|(one, other)| f64::from((i16::from(*one) - i16::from(*other)).abs()) / UNIT)
            .collect()
    }

    fn check(&self) -> Result<(), FileError> {
        let (channels, hidden) = (self.channels.len(), self.first.weights.len());
        expect("channels", channels, (1..=MAX_CHANNELS).contains(&channels), "1 to 16")?;
        expect("steps", self.steps, (2..=MAX_STEPS).contains(&self.steps), "2 to 16")?;
        expect("hidden units", hidden, (1..=MAX_HIDDEN).contains(&hidden), "1 to 32")?;
        for (part, length, should) in [
            ("normalisations", self.normal.len(), channels),
            ("thresholds", self.thresholds.len(), channels),
            ("golden input", self.golden.len(), channels * self.steps),
            ("rows of the second layer", self.second.weights.len(), channels),
        ] {
            expect(part, length, length == should, "as many as the channels say")?;
        }
        for (index, channel) in self.channels.iter().enumerate() {
            let name = channel.to_string();
            let once = !self.channels[..index].contains(channel);
            expect("channel", &name, once && name.len() <= MAX_NAME, "there once, with at most 32 letters")?;
        }
        for (centre, scale) in &self.normal {
            expect("centre", centre, centre.is_finite(), "a finite number")?;
            expect("scale", scale, is_positive(*scale), "a number above 0")?;
        }
        for threshold in &self.thresholds {
            expect("threshold", threshold, is_positive(*threshold), "a number above 0")?;
        }
        self.first.check(channels * self.steps)?;
        self.second.check(hidden)
    }
}

impl Layer {
    /// The layer's outputs, held to `least` and 127.
    fn of<'a>(&'a self, input: &'a [i8], least: f64) -> impl Iterator<Item = i8> + 'a {
        self.weights.iter().zip(&self.biases).map(move |(row, bias)| {
            let products = row.iter().zip(input).map(|(weight, value)| i32::from(*weight) * i32::from(*value));
            rounded(f64::from(bias + products.sum::<i32>()) * f64::from(self.multiplier), least)
        })
    }

    fn check(&self, width: usize) -> Result<(), FileError> {
        let (rows, biases) = (self.weights.len(), self.biases.len());
        expect("biases", biases, biases == rows, "as many as the rows")?;
        for row in &self.weights {
            expect("weights in a row", row.len(), row.len() == width, "as many as the inputs")?;
        }
        for bias in &self.biases {
            expect("bias", bias, bias.unsigned_abs() <= MAX_BIAS.unsigned_abs(), "at most 2^24 in size")?;
        }
        expect("multiplier", self.multiplier, is_positive(self.multiplier), "a number above 0")
    }
}

fn expect(part: &'static str, value: impl ToString, holds: bool, allowed: &'static str) -> Result<(), FileError> {
    if holds { Ok(()) } else { Err(FileError::Value { part, value: value.to_string(), allowed }) }
}

fn is_positive(value: f32) -> bool {
    value.is_finite() && value > 0.0
}

/// Half away from zero.
fn rounded(value: f64, least: f64) -> i8 {
    // Held within eight bits.
    value.round().clamp(least, MOST) as i8
}

fn put(out: &mut Vec<u8>, integers: &[i8]) {
    out.extend(integers.iter().map(|value| value.cast_unsigned()));
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], FileError> {
    let (head, rest) = input.split_first_chunk().ok_or(FileError::End("too soon"))?;
    *input = rest;
    Ok(*head)
}

fn slice<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], FileError> {
    let (head, rest) = input.split_at_checked(length).ok_or(FileError::End("too soon"))?;
    *input = rest;
    Ok(head)
}

fn float(input: &mut &[u8]) -> Result<f32, FileError> {
    Ok(f32::from_le_bytes(take(input)?))
}

fn integers(input: &mut &[u8], count: usize) -> Result<Vec<i8>, FileError> {
    Ok(slice(input, count)?.iter().map(|byte| byte.cast_signed()).collect())
}

fn layer(input: &mut &[u8], rows: usize, width: usize) -> Result<Layer, FileError> {
    Ok(Layer {
        weights: (0..rows).map(|_| integers(input, width)).collect::<Result<_, _>>()?,
        biases: (0..rows).map(|_| Ok(i32::from_le_bytes(take(input)?))).collect::<Result<_, FileError>>()?,
        multiplier: float(input)?,
    })
}

fn name(input: &mut &[u8]) -> Result<Channel, FileError> {
    let [length] = take(input)?;
    let bytes = slice(input, usize::from(length))?;
    let refused =
        || FileError::Value { part: "channel", value: bytes.escape_ascii().to_string(), allowed: "a channel's name" };
    let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
    let channel: Channel = text.parse().map_err(|_| refused())?;
    // One way to write each, as nodes compare names byte by byte.
    if channel.to_string() == text { Ok(channel) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quantity;

    fn last_value() -> NodeModelFile {
        let channels = [Channel::at(Quantity::SoilMoisture, 20)];
        NodeModelFile::persistence("1.2.3".parse().unwrap(), &channels, vec![(0.3, 0.1)], 2)
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_any_flipped_bit_is_noticed() {
        let bytes = last_value().encode().unwrap();
        assert_eq!(NodeModelFile::decode(&bytes), Ok(last_value()));
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(NodeModelFile::decode(&damaged).is_err(), "bit {at}");
        }
        for length in 0..bytes.len() {
            assert!(NodeModelFile::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_last_value_is_foretold_and_a_leap_is_an_error() {
        let file = last_value();
        let at = |value| file.normalise(0, value);
        assert_eq!([0.3, 0.4, 0.2, 0.31, 9.0, -9.0].map(at), [0, 16, -16, 2, 127, -127]);
        assert_eq!(file.predict(&[33, -7]), [33]);
        assert_eq!(file.predict(&[-33, -7]), [-33]);
        assert_eq!(file.errors(&[16, 40]), [1.5]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |change: fn(&mut NodeModelFile)| {
            let mut file = last_value();
            change(&mut file);
            file.encode().unwrap_err().to_string()
        };
        assert_eq!(with(|file| file.steps = 1), "steps: 1 is not 2 to 16");
        assert_eq!(with(|file| file.channels.clear()), "channels: 0 is not 1 to 16");
        assert_eq!(with(|file| file.normal[0].1 = 0.0), "scale: 0 is not a number above 0");
        assert_eq!(with(|file| file.first.biases[0] = i32::MIN), "bias: -2147483648 is not at most 2^24 in size");
        assert_eq!(with(|file| file.second.multiplier = f32::NAN), "multiplier: NaN is not a number above 0");
        assert_eq!(with(|file| file.golden.truncate(1)), "golden input: 1 is not as many as the channels say");
        assert_eq!(with(|file| file.first.weights[1].truncate(1)), "weights in a row: 1 is not as many as the inputs");
        let mut other = last_value().encode().unwrap();
        let golden = other.len() - 5;
        other[golden] ^= 1;
        let crc = crc32fast::hash(&other[..golden + 1]);
        other[golden + 1..].copy_from_slice(&crc.to_le_bytes());
        let error = NodeModelFile::decode(&other).unwrap_err().to_string();
        assert_eq!(error, "its golden output is [32], but its numbers give [33]");
        assert_eq!(NodeModelFile::decode(b"PK\x03\x04").unwrap_err(), FileError::Magic);
        assert_eq!(NodeModelFile::decode(&[0; 5000]).unwrap_err(), FileError::Length(5000));
    }
}
