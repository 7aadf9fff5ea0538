//! A node's model: a network of two layers in eight-bit integers that foretells each channel's newest value from the samples
//! before it and from the other channels. Where a reading is far from what was foretold, something is unusual.
//!
//! The file is read where it lies, from a byte slice; little endian, at most [`MAX_BYTES`]. With C channels, S samples looked
//! back and H hidden units:
//!
//! | part | bytes |
//! |---|---|
//! | `TNM1`, C, S, H, 0 | 8 |
//! | version, major << 20, minor << 10, patch | 4 |
//! | C names, a length and ASCII | |
//! | C times centre and scale, f32 | 8 C |
//! | first layer: weights i8 by unit, bias i32, multiplier f32 | H C S + 4 H + 4 |
//! | second layer: weights i8 by channel, bias i32, multiplier f32 | C H + 4 C + 4 |
//! | C thresholds, f32 | 4 C |
//! | golden input and output, i8 | C S + C |
//! | CRC-32 (IEEE 802.3) of all before | 4 |
//!
//! The input is channel by channel, each from the oldest sample to the newest. Channel c is foretold with its own newest
//! value masked by the one before. A layer's sums are i32 and are brought back to eight bits by its multiplier, as in
//! Jacob et al. 2018 (Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, eq. 4),
//! rounded half away from zero.

/// The largest model, bytes.
pub const MAX_BYTES: usize = 4096;
/// The most channels.
pub const MAX_CHANNELS: usize = 16;
/// The most samples looked back, the newest among them; the fewest are two.
pub const MAX_STEPS: usize = 16;
/// The most hidden units.
pub const MAX_HIDDEN: usize = 32;
/// The longest name of a channel, bytes.
pub const MAX_NAME: usize = 32;
/// The largest bias: with it no sum can leave an i32.
pub const MAX_BIAS: i32 = 1 << 24;
/// One normalised unit in the network's integers.
pub const UNIT: f64 = 16.0;
/// The values are from minus this to this.
pub const MOST: i8 = 127;

const MAGIC: [u8; 4] = *b"TNM1";
const HEADER: usize = 12;

/// Why bytes are not a model that this node can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not begin as a model does.
    Magic,
    /// Its checksum is another.
    Crc,
    /// A size, a name or a number is not what it may be, or the file ends too soon or too late.
    Bounds,
    /// The node's own arithmetic does not give the golden output.
    Golden,
}

/// Where the parts of a model are. Made by [`Layout::read`] alone, for bytes that are all that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    channels: u8,
    steps: u8,
    hidden: u8,
    version: u32,
    numbers: u16,
    first: u16,
    second: u16,
    thresholds: u16,
    golden: u16,
}

/// A model over its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl Layout {
    /// Checks bytes: their checksum, every bound, and that this node's arithmetic gives the golden output.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let layout = Self::locate(bytes)?;
        let model = Model { bytes, layout };
        model.check_numbers()?;
        let (inputs, channels) = (layout.inputs(), layout.channels());
        let golden = usize::from(layout.golden);
        let mut input = [0; MAX_CHANNELS * MAX_STEPS];
        for (to, from) in input.iter_mut().zip(&bytes[golden..golden + inputs]) {
            *to = *from as i8;
        }
        let output = model.predict(&input);
        let expected = &bytes[golden + inputs..golden + inputs + channels];
        if expected.iter().zip(output).any(|(expected, given)| *expected as i8 != given) {
            return Err(Fault::Golden);
        }
        Ok(layout)
    }

    /// Finds the parts, and checks the file's length and checksum.
    fn locate(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(Fault::Magic);
        }
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(Fault::Bounds)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(Fault::Crc);
        }
        let (Some(&[channels, steps, hidden, 0]), Some(&version)) =
            (body.get(4..8).and_then(<[u8]>::first_chunk), body.get(8..).and_then(<[u8]>::first_chunk))
        else {
            return Err(Fault::Bounds);
        };
        let (c, s, h) = (usize::from(channels), usize::from(steps), usize::from(hidden));
        let sizes = (1..=MAX_CHANNELS).contains(&c) && (2..=MAX_STEPS).contains(&s) && (1..=MAX_HIDDEN).contains(&h);
        if !sizes || bytes.len() > MAX_BYTES {
            return Err(Fault::Bounds);
        }
        let mut numbers = HEADER;
        for _ in 0..c {
            let length = usize::from(*body.get(numbers).ok_or(Fault::Bounds)?);
            let name = body.get(numbers + 1..numbers + 1 + length).ok_or(Fault::Bounds)?;
            let fits = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
            if !(1..=MAX_NAME).contains(&length) || !name.iter().all(fits) {
                return Err(Fault::Bounds);
            }
            numbers += 1 + length;
        }
        let first = numbers + 8 * c;
        let second = first + h * c * s + 4 * h + 4;
        let thresholds = second + c * h + 4 * c + 4;
        let golden = thresholds + 4 * c;
        if body.len() != golden + c * s + c {
            return Err(Fault::Bounds);
        }
        // The file's length, above all of these, fits.
        let offset = |at: usize| at as u16;
        Ok(Self {
            channels,
            steps,
            hidden,
            version: u32::from_le_bytes(version),
            numbers: offset(numbers),
            first: offset(first),
            second: offset(second),
            thresholds: offset(thresholds),
            golden: offset(golden),
        })
    }

    /// The version's code.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// How many channels it looks at.
    #[must_use]
    pub fn channels(&self) -> usize {
        usize::from(self.channels)
    }

    /// How many samples it looks at.
    #[must_use]
    pub fn steps(&self) -> usize {
        usize::from(self.steps)
    }

    fn hidden(&self) -> usize {
        usize::from(self.hidden)
    }

    fn inputs(&self) -> usize {
        self.channels() * self.steps()
    }
}

impl<'a> Model<'a> {
    /// Reads and checks a model.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        Ok(Self { bytes, layout: Layout::read(bytes)? })
    }

    /// A model that was checked before: the layout is that of these very bytes.
    #[must_use]
    pub fn over(bytes: &'a [u8], layout: Layout) -> Self {
        Self { bytes, layout }
    }

    /// Where its parts are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The names of its channels.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = &self.bytes[HEADER..usize::from(self.layout.numbers)];
        core::iter::from_fn(move || {
            let (&length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            core::str::from_utf8(name).ok()
        })
    }

    /// A value in a channel's unit as the network takes it.
    #[must_use]
    pub fn normalise(&self, channel: usize, value: f64) -> i8 {
        let at = usize::from(self.layout.numbers) + 8 * channel;
        let (centre, scale) = (f64::from(self.f32(at)), f64::from(self.f32(at + 4)));
        rounded((value - centre) / scale * UNIT, -MOST)
    }

    /// The prediction error from which on a channel's value is unusual, in normalised units.
    #[must_use]
    pub fn threshold(&self, channel: usize) -> f32 {
        self.f32(usize::from(self.layout.thresholds) + 4 * channel)
    }

    /// Foretells each channel's newest value from an input of channels times steps; what is behind these is not looked at.
    #[must_use]
    pub fn predict(&self, input: &[i8; MAX_CHANNELS * MAX_STEPS]) -> [i8; MAX_CHANNELS] {
        let layout = &self.layout;
        let (channels, steps, hidden, inputs) = (layout.channels(), layout.steps(), layout.hidden(), layout.inputs());
        let weights = usize::from(layout.first);
        let biases = weights + hidden * inputs;
        let multiplier = self.multiplier(biases + 4 * hidden);
        let mut sums = [0i32; MAX_HIDDEN];
        for (unit, sum) in sums.iter_mut().enumerate().take(hidden) {
            let row = &self.bytes[weights + unit * inputs..weights + (unit + 1) * inputs];
            *sum = self.i32(biases + 4 * unit) + dot(row, input);
        }
        let upper_weights = usize::from(layout.second);
        let upper_biases = upper_weights + channels * hidden;
        let upper_multiplier = self.multiplier(upper_biases + 4 * channels);
        let mut output = [0; MAX_CHANNELS];
        for (channel, output) in output.iter_mut().enumerate().take(channels) {
            // Only one input differs from one channel's prediction to another's.
            let newest = channel * steps + steps - 1;
            let masked = i32::from(input[newest - 1]) - i32::from(input[newest]);
            let mut units = [0i8; MAX_HIDDEN];
            for (unit, value) in units.iter_mut().enumerate().take(hidden) {
                let weight = i32::from(self.bytes[weights + unit * inputs + newest] as i8);
                *value = rounded(f64::from(sums[unit] + weight * masked) * multiplier, 0);
            }
            let row = &self.bytes[upper_weights + channel * hidden..upper_weights + (channel + 1) * hidden];
            let sum = self.i32(upper_biases + 4 * channel) + dot(row, &units);
            *output = rounded(f64::from(sum) * upper_multiplier, -MOST);
        }
        output
    }

    fn check_numbers(&self) -> Result<(), Fault> {
        let layout = &self.layout;
        let (channels, hidden) = (layout.channels(), layout.hidden());
        let positive = |at: usize| self.f32(at).is_finite() && self.f32(at) > 0.0;
        let numbers = usize::from(layout.numbers);
        let biases = usize::from(layout.first) + hidden * layout.inputs();
        let upper_biases = usize::from(layout.second) + channels * hidden;
        let bias_fits = |at: usize| self.i32(at).unsigned_abs() <= MAX_BIAS.unsigned_abs();
        let holds = (0..channels).all(|channel| {
            let at = numbers + 8 * channel;
            self.f32(at).is_finite()
                && positive(at + 4)
                && positive(usize::from(layout.thresholds) + 4 * channel)
                && bias_fits(upper_biases + 4 * channel)
        }) && (0..hidden).all(|unit| bias_fits(biases + 4 * unit))
            && positive(biases + 4 * hidden)
            && positive(upper_biases + 4 * channels)
            && self.names().enumerate().all(|(index, name)| self.names().take(index).all(|other| other != name));
        if holds { Ok(()) } else { Err(Fault::Bounds) }
    }

    fn word(&self, at: usize) -> [u8; 4] {
        [self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]]
    }

    fn f32(&self, at: usize) -> f32 {
        f32::from_le_bytes(self.word(at))
    }

    fn multiplier(&self, at: usize) -> f64 {
        f64::from(self.f32(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.word(at))
    }
}

fn dot(weights: &[u8], values: &[i8]) -> i32 {
    weights.iter().zip(values).map(|(weight, value)| i32::from(*weight as i8) * i32::from(*value)).sum()
}

/// Rounded half away from zero, and held between `least` and [`MOST`].
fn rounded(value: f64, least: i8) -> i8 {
    let held = value.clamp(f64::from(least), f64::from(MOST));
    let whole = held as i8;
    let rest = held - f64::from(whole);
    if rest >= 0.5 {
        whole + 1
    } else if rest <= -0.5 {
        whole - 1
    } else {
        whole
    }
}

/// What a model says of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// A value is further from what was foretold than its threshold.
    pub alert: bool,
    /// Every prediction is at its limit: the model does not say anything.
    pub saturated: bool,
}

/// The samples that a model looks back on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    input: [i8; MAX_CHANNELS * MAX_STEPS],
    filled: u8,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// No samples.
    #[must_use]
    pub const fn new() -> Self {
        Self { input: [0; MAX_CHANNELS * MAX_STEPS], filled: 0 }
    }

    /// Takes a sample, the values of the model's channels in its order, and judges it once there are enough before it. A
    /// channel that says nothing breaks the history.
    pub fn judge(&mut self, model: &Model<'_>, value: impl Fn(usize) -> Option<f64>) -> Option<Verdict> {
        let (channels, steps) = (model.layout.channels(), model.layout.steps());
        for channel in 0..channels {
            let Some(value) = value(channel) else {
                self.filled = 0;
                return None;
            };
            let row = &mut self.input[channel * steps..(channel + 1) * steps];
            row.copy_within(1.., 0);
            row[steps - 1] = model.normalise(channel, value);
        }
        self.filled = (self.filled + 1).min(MAX_STEPS as u8);
        if usize::from(self.filled) < steps {
            return None;
        }
        let foretold = model.predict(&self.input);
        let foretold = &foretold[..channels];
        let alert = foretold.iter().enumerate().any(|(channel, foretold)| {
            let newest = self.input[channel * steps + steps - 1];
            f64::from((i16::from(*foretold) - i16::from(newest)).abs()) / UNIT > f64::from(model.threshold(channel))
        });
        Some(Verdict { alert, saturated: foretold.iter().all(|value| value.abs() == MOST) })
    }
}
