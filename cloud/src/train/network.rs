//! The networks: for each target a small one of its own, all side by side in the same tensors.
//!
//! `moved` is Laplace-distributed around what the network expects, with a width that it gives too. A Laplace and not a
//! normal distribution, because weather has heavier tails than a bell.

use candle_core::{D, DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::encode::{BOUND, Encoded, Encoder};

/// Least width that a network can claim, in scales of change: no sensor is better known than this.
pub const LEAST_WIDTH: f32 = 0.04;

/// Natural logarithm of the greatest width, and of one over the least, beside [`LEAST_WIDTH`].
pub const LOG_WIDTH_BOUND: f64 = 4.0;

/// Weights of the networks of all targets.
#[derive(Debug)]
pub struct Network {
    /// `[columns, targets * hidden]`, and 0 where a target must not see a column.
    mask: Tensor,
    /// `[columns, targets * hidden]`
    w1: Var,
    /// `[1, targets * hidden]`
    b1: Var,
    /// `[targets, hidden, hidden2]`
    w2: Var,
    /// `[targets, 1, hidden2]`
    b2: Var,
    /// `[targets, hidden2, 2]`: what is expected, and the width.
    w3: Var,
    /// `[targets, 1, 2]`
    b3: Var,
    targets: usize,
    hidden: [usize; 2],
}

/// What the networks say of a batch.
#[derive(Debug)]
pub struct Expectation {
    /// `[n, targets]`
    pub mean: Tensor,
    /// `[n, targets]`, above zero.
    pub width: Tensor,
}

impl Network {
    /// Networks with fresh weights (He et al. 2015), drawn from `rng`.
    pub fn new(encoder: &Encoder, hidden: [usize; 2], rng: &mut ChaCha8Rng) -> candle_core::Result<Self> {
        let (targets, columns) = (encoder.targets().len(), encoder.width());
        let [first, second] = hidden;
        let mask: Vec<f32> = (0..columns)
            .flat_map(|column| (0..targets * first).map(move |neuron| (column, neuron / first)))
            .map(|(column, target)| f32::from(u8::from(encoder.sees(target, column))))
            .collect();
        let mut normal = |shape: &[usize], deviation: f64| -> candle_core::Result<Var> {
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| {
                    let value: f64 = StandardNormal.sample(rng);
                    (deviation * value) as f32
                })
                .collect();
            Var::from_vec(values, shape, &Device::Cpu)
        };
        let he = |inputs: usize| (2.0 / inputs as f64).sqrt();
        Ok(Self {
            mask: Tensor::from_vec(mask, (columns, targets * first), &Device::Cpu)?,
            w1: normal(&[columns, targets * first], he(columns))?,
            b1: normal(&[1, targets * first], 0.0)?,
            w2: normal(&[targets, first, second], he(first))?,
            b2: normal(&[targets, 1, second], 0.0)?,
            w3: normal(&[targets, second, 2], 0.3 * he(second))?,
            b3: normal(&[targets, 1, 2], 0.0)?,
            targets,
            hidden,
        })
    }

    /// What is trained.
    pub fn variables(&self) -> Vec<Var> {
        [&self.w1, &self.b1, &self.w2, &self.b2, &self.w3, &self.b3].map(Clone::clone).to_vec()
    }

    /// Weights that do something.
    pub fn parameters(&self) -> usize {
        self.variables().iter().map(|v| v.elem_count()).sum()
    }

    /// What is expected of each target, `rows` being `[n, columns]`.
    pub fn expect(&self, rows: &Tensor) -> candle_core::Result<Expectation> {
        let n = rows.dim(0)?;
        let seen = self.seen()?;
        let first = rows.matmul(&seen)?.broadcast_add(&self.b1)?.relu()?;
        let by_target = first.reshape((n, self.targets, self.hidden[0]))?.transpose(0, 1)?.contiguous()?;
        let second = by_target.matmul(&self.w2)?.broadcast_add(&self.b2)?.relu()?;
        let out = second.matmul(&self.w3)?.broadcast_add(&self.b3)?.transpose(0, 1)?;
        let mean = out.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?;
        let log_width = out.narrow(D::Minus1, 1, 1)?.squeeze(D::Minus1)?;
        let bounded = ((log_width / LOG_WIDTH_BOUND)?.tanh()? * LOG_WIDTH_BOUND)?;
        Ok(Expectation { mean, width: (bounded.exp()? + f64::from(LEAST_WIDTH))? })
    }

    /// The negative log-likelihood of what was `moved`, a mean over what is `known`; all `[n, targets]`.
    pub fn loss(&self, rows: &Tensor, moved: &Tensor, known: &Tensor) -> candle_core::Result<Tensor> {
        let Expectation { mean, width } = self.expect(rows)?;
        let unlikely = ((moved - mean)?.abs()?.div(&width)? + width.log()?)?;
        (unlikely * known)?.sum_all()?.div(&known.sum_all()?.maximum(1.0)?)
    }

    /// The errors in widths, `[n * targets]`; 0 where nothing is known.
    pub fn errors(&self, rows: &Tensor, moved: &Tensor, known: &Tensor) -> candle_core::Result<Vec<f32>> {
        let Expectation { mean, width } = self.expect(rows)?;
        ((moved - mean)?.abs()?.div(&width)? * known)?.flatten_all()?.to_vec1()
    }

    /// The scores of one sample, as the finished model gives them.
    pub fn score(&self, sample: &Encoded, scales: &[f32]) -> candle_core::Result<Vec<f32>> {
        let tensor = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu);
        let errors = self.errors(&tensor(&sample.rows)?, &tensor(&sample.moved)?, &tensor(&sample.known)?)?;
        Ok(errors.iter().zip(scales).map(|(error, scale)| error / scale).collect())
    }

    /// The weights for the graph: `w1`, with zeros where nothing is seen, `b1`, `w2`, `b2`, `w3`, `b3`.
    pub fn weights(&self) -> candle_core::Result<[(Vec<usize>, Vec<f32>); 6]> {
        let plain = |tensor: &Tensor| -> candle_core::Result<(Vec<usize>, Vec<f32>)> {
            Ok((tensor.dims().to_vec(), tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?))
        };
        Ok([
            plain(&self.seen()?)?,
            plain(&self.b1)?,
            plain(&self.w2)?,
            plain(&self.b2)?,
            plain(&self.w3)?,
            plain(&self.b3)?,
        ])
    }

    /// Neurons of each target's layers.
    pub const fn hidden(&self) -> [usize; 2] {
        self.hidden
    }

    fn seen(&self) -> candle_core::Result<Tensor> {
        self.w1.as_tensor() * &self.mask
    }
}

const _: () = assert!(BOUND < 60.0, "the loss stays far from overflow");

#[cfg(test)]
mod tests {
    use proto::{Channel, Quantity};
    use rand_chacha::rand_core::SeedableRng;

    use super::super::encode;
    use super::*;

    fn small() -> (Encoder, Network) {
        let channels = [
            Channel::at(Quantity::SoilMoisture, 10),
            Channel::at(Quantity::SoilMoisture, 20),
            Channel::of(Quantity::Rain),
        ];
        let encoder = Encoder::unscaled(encode::input(&channels, 900), &channels[..2]);
        let network = Network::new(&encoder, [5, 3], &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        (encoder, network)
    }

    fn random(n: usize, width: usize, rng: &mut ChaCha8Rng) -> Tensor {
        let values: Vec<f32> = (0..n * width).map(|_| StandardNormal.sample(rng)).collect();
        Tensor::from_vec(values, (n, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (encoder, network) = small();
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let (rows, moved) = (random(7, encoder.width(), &mut rng), random(7, 2, &mut rng));
        let known =
            Tensor::from_vec(vec![1f32, 1., 0., 1., 1., 1., 1., 0., 1., 1., 1., 1., 1., 1.], (7, 2), &Device::Cpu)
                .unwrap();
        let loss = || network.loss(&rows, &moved, &known).unwrap();
        let gradients = loss().backward().unwrap();
        let mut checked = 0;
        for variable in network.variables() {
            let gradient: Vec<f32> = gradients.get(&variable).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let start: Vec<f32> = variable.flatten_all().unwrap().to_vec1().unwrap();
            let shape = variable.shape().clone();
            for at in (0..start.len()).step_by(1 + start.len() / 11) {
                let with = |offset: f32| {
                    let mut values = start.clone();
                    values[at] += offset;
                    variable.set(&Tensor::from_vec(values, &shape, &Device::Cpu).unwrap()).unwrap();
                    f64::from(loss().to_scalar::<f32>().unwrap())
                };
                let step = 2e-3f32;
                let (above, here, below) = (with(step), with(0.0), with(-step));
                // A corner of the loss (a unit that switches on) may lie between two of the points, but not on both sides.
                let differences = [above - below, 2.0 * (above - here), 2.0 * (here - below)];
                let agrees = differences.iter().any(|difference| {
                    let difference = difference / f64::from(2.0 * step);
                    (difference - f64::from(gradient[at])).abs() < 2e-3 + 0.02 * difference.abs()
                });
                assert!(agrees, "{shape:?}[{at}]: {differences:?} by differences, {} by backward", gradient[at]);
                checked += 1;
            }
        }
        assert!(checked > 40, "{checked}");
    }

    #[test]
    fn a_target_does_not_see_its_own_present() {
        let (encoder, network) = small();
        let rows = random(1, encoder.width(), &mut ChaCha8Rng::seed_from_u64(5));
        let mean = |rows: &Tensor| network.expect(rows).unwrap().mean.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut changed: Vec<f32> = rows.flatten_all().unwrap().to_vec1().unwrap();
        // The newest bin of the first channel.
        changed[encode::FIRST_BIN * 3] += 5.0;
        let (before, after) = (mean(&rows), mean(&Tensor::from_vec(changed, rows.shape(), &Device::Cpu).unwrap()));
        assert_eq!(before[0], after[0]);
        assert_ne!(before[1], after[1]);
    }

    #[test]
    fn what_is_not_known_has_no_part_in_the_loss() {
        let (encoder, network) = small();
        let rows = random(2, encoder.width(), &mut ChaCha8Rng::seed_from_u64(6));
        let loss = |moved: [f32; 4]| {
            let tensor = |values: [f32; 4]| Tensor::from_vec(values.to_vec(), (2, 2), &Device::Cpu).unwrap();
            network.loss(&rows, &tensor(moved), &tensor([1., 0., 0., 1.])).unwrap().to_scalar::<f32>().unwrap()
        };
        assert_eq!(loss([0.3, 0.0, 0.0, -0.2]), loss([0.3, 9.0, -9.0, -0.2]));
    }
}
