//! Four operations with a backward pass of their own, and dropout.
//!
//! Candle's fused layer norm and softmax have none (training through them silently leaves out what lies before), and its gelu and the sum
//! over rows that a bias needs are many times slower than the products between them. All are checked against finite differences.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

use crate::random::Random;

/// `x + bias`, the bias along the last dimension.
pub(crate) fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(bias, AddBias)
}

/// Normalises the last dimension, then scales and shifts it.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(weight, bias, LayerNorm { epsilon: epsilon as f32 })
}

/// `x` times the probability that a normal variable is below `x`.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

/// The softmax over keys of `scale * scores + masked`: scores `[batch, heads, queries, keys]`, masked `[batch, keys]`.
pub(crate) fn attention_shares(scores: &Tensor, masked: &Tensor, scale: f64) -> Result<Tensor> {
    scores.contiguous()?.apply_op2(masked, AttentionShares { scale: scale as f32 })
}

/// Leaves out a share of the numbers and enlarges the rest, so that the sum stays what it is on average.
pub(crate) fn dropout(x: &Tensor, share: f32, random: &mut Random) -> Result<Tensor> {
    if share <= 0.0 {
        return Ok(x.clone());
    }
    let kept = 1.0 / (1.0 - share.min(0.95));
    let factors: Vec<f32> = (0..x.elem_count()).map(|_| if random.uniform() < share { 0.0 } else { kept }).collect();
    x.mul(&Tensor::from_vec(factors, x.shape(), x.device())?)
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, bias: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (floats(x, lx)?, floats(bias, lb)?);
        let mut out = x.to_vec();
        for row in out.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, bias: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut sums = vec![0.0; bias.elem_count()];
        with_floats(grad, |grad| {
            for row in grad.chunks_exact(sums.len()) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        })?;
        Ok((Some(grad.clone()), Some(Tensor::from_vec(sums, bias.shape(), bias.device())?)))
    }
}

struct LayerNorm {
    epsilon: f32,
}

impl LayerNorm {
    /// Mean, and one over the deviation.
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let count = row.len() as f32;
        let mean = row.iter().sum::<f32>() / count;
        let variance = row.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / count;
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        weight: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (floats(x, lx)?, floats(weight, lw)?, floats(bias, lb)?);
        let mut out = vec![0.0; x.len()];
        for (row, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
            let (mean, inverse) = self.moments(row);
            for (((out, value), weight), bias) in out.iter_mut().zip(row).zip(weight).zip(bias) {
                *out = (value - mean) * inverse * weight + bias;
            }
        }
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Gradients3> {
        let width = weight.elem_count();
        let mut dx = vec![0.0; x.elem_count()];
        let (mut dweight, mut dbias, mut even) = (vec![0.0; width], vec![0.0; width], vec![0.0; width]);
        let weights = weight.flatten_all()?.to_vec1::<f32>()?;
        with_floats2(x, grad, |x, grad| {
            for ((row, grad), dx) in x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
                let (mean, inverse) = self.moments(row);
                let (mut sum, mut product) = (0.0, 0.0);
                for at in 0..width {
                    even[at] = (row[at] - mean) * inverse;
                    dweight[at] += grad[at] * even[at];
                    dbias[at] += grad[at];
                    dx[at] = grad[at] * weights[at];
                    sum += dx[at];
                    product += dx[at] * even[at];
                }
                let (sum, product) = (sum / width as f32, product / width as f32);
                dx.iter_mut().zip(&even).for_each(|(dx, even)| *dx = inverse * (*dx - sum - even * product));
            }
        })?;
        let device = x.device();
        let vector = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), device).map(Some);
        Ok((vector(dx, x)?, vector(dweight, weight)?, vector(dbias, bias)?))
    }
}

type Gradients3 = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = floats(x, layout)?.iter().map(|x| x * normal(*x).0).collect();
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut out = Vec::new();
        with_floats2(x, grad, |x, grad| {
            out = x
                .iter()
                .zip(grad)
                .map(|(x, grad)| {
                    let (below, density) = normal(*x);
                    grad * (below + x * density)
                })
                .collect();
        })?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

struct AttentionShares {
    scale: f32,
}

impl CustomOp2 for AttentionShares {
    fn name(&self) -> &'static str {
        "attention-shares"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, ls: &Layout, masked: &CpuStorage, lm: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, heads, queries, keys) = ls.shape().dims4()?;
        let mut out = floats(scores, ls)?.to_vec();
        let masked = floats(masked, lm)?;
        for (text, masked) in out.chunks_exact_mut(heads * queries * keys).zip(masked.chunks_exact(keys)) {
            for row in text.chunks_exact_mut(keys) {
                row.iter_mut().zip(masked).for_each(|(value, masked)| *value = *value * self.scale + masked);
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|value| *value = exp(*value - most));
                let total = 1.0 / row.iter().sum::<f32>();
                row.iter_mut().for_each(|value| *value *= total);
            }
        }
        Ok((CpuStorage::F32(out), ls.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, _masked: &Tensor, res: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let keys = scores.dim(candle_core::D::Minus1)?;
        let mut out = vec![0.0; res.elem_count()];
        with_floats2(res, grad, |shares, grad| {
            for ((shares, grad), out) in shares.chunks_exact(keys).zip(grad.chunks_exact(keys)).zip(out.chunks_exact_mut(keys)) {
                let product: f32 = shares.iter().zip(grad).map(|(share, grad)| share * grad).sum();
                for ((out, share), grad) in out.iter_mut().zip(shares).zip(grad) {
                    *out = self.scale * share * (grad - product);
                }
            }
        })?;
        Ok((Some(Tensor::from_vec(out, scores.shape(), scores.device())?), None))
    }
}

/// Probability that a normal variable is below `x`, and its density there. The error function by Abramowitz and Stegun's 7.1.26, which is
/// right to 1.5e-7.
#[inline]
fn normal(x: f32) -> (f32, f32) {
    let magnitude = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let bell = exp(-magnitude * magnitude);
    let t = 1.0 / (1.0 + 0.327_591_1 * magnitude);
    let tail = t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429)))) * bell;
    let below = if x < 0.0 { 0.5 * tail } else { 1.0 - 0.5 * tail };
    (below, bell * 0.398_942_3)
}

/// `e^x` for `x <= 0`, to a few units in the last place where `x` is not far from 0, without a call, so that loops over it use all lanes of the processor.
#[inline]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // Adding it leaves no bits behind the point.
    let power = (x * std::f32::consts::LOG2_E).max(-126.0);
    let whole = (power + ROUND) - ROUND;
    let rest = (power - whole) * std::f32::consts::LN_2;
    let series = 1.0 + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest * (1.0 / 120.0 + rest * (1.0 / 720.0))))));
    f32::from_bits(((whole as i32 + 127) << 23) as u32) * series
}

fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("a contiguous tensor is needed"),
    }
}

fn with_floats(tensor: &Tensor, work: impl FnOnce(&[f32])) -> Result<()> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => work(floats(storage, layout)?),
        _ => bail!("a tensor in main memory is needed"),
    }
    Ok(())
}

fn with_floats2(one: &Tensor, other: &Tensor, work: impl FnOnce(&[f32], &[f32])) -> Result<()> {
    let mut inner = Ok(());
    with_floats(one, |one| inner = with_floats(other, |other| work(one, other)))?;
    inner
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor, Var};

    use super::*;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut random = Random::new(seed, 0);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.normal()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Compares the backward pass of `operation`, weighted at random and summed up, with differences of its forward pass.
    fn check(shapes: &[&[usize]], operation: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let inputs: Vec<Var> = shapes.iter().enumerate().map(|(at, shape)| Var::from_tensor(&random(shape, at as u64)).unwrap()).collect();
        let tensors = |inputs: &[Var]| inputs.iter().map(|input| input.as_tensor().clone()).collect::<Vec<_>>();
        let weights = random(operation(&tensors(&inputs)).unwrap().dims(), 99);
        let total = |inputs: &[Tensor]| (operation(inputs).unwrap() * &weights).unwrap().sum_all().unwrap();
        let gradients = total(&tensors(&inputs)).backward().unwrap();
        for (which, input) in inputs.iter().enumerate() {
            let gradient = gradients.get(input).unwrap_or_else(|| panic!("input {which} has no gradient"));
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let values = input.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for at in 0..values.len() {
                let moved = |step: f32| {
                    let mut values = values.clone();
                    values[at] += step;
                    let mut tensors = tensors(&inputs);
                    tensors[which] = Tensor::from_vec(values, input.shape(), &Device::Cpu).unwrap();
                    total(&tensors).to_scalar::<f32>().unwrap()
                };
                let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!(
                    (gradient[at] - expected).abs() < 0.01 * (1.0 + expected.abs()),
                    "input {which}[{at}]: {} {expected}",
                    gradient[at]
                );
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        check(&[&[3, 5], &[5]], |x| add_bias(&x[0], &x[1]));
        check(&[&[3, 6], &[6], &[6]], |x| layer_norm(&x[0], &x[1], &x[2], 1e-5));
        check(&[&[4, 5]], |x| gelu(&x[0]));
        let masked = Tensor::new(&[[0.0_f32, 0.0, -10_000.0], [0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
        check(&[&[2, 2, 3, 3]], |x| attention_shares(&x[0], &masked, 0.7));
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        for at in -1200..=1200 {
            let x = at as f32 / 100.0;
            let below = normal(x).0;
            let expected = 0.5 * (1.0 + libm_erf(f64::from(x) / std::f64::consts::SQRT_2));
            assert!((f64::from(below) - expected).abs() < 3e-7, "{x}: {below} {expected}");
            let (found, expected) = (exp(-x.abs()), (-x.abs()).exp());
            assert!((found - expected).abs() <= 2e-7 * (2.0 + x.abs()) * expected, "{x}: {found} {expected}");
        }
        let x = random(&[2, 3, 4, 5], 1);
        let masked = Tensor::zeros((2, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
        let shares = attention_shares(&x, &masked, 0.5).unwrap();
        let expected = candle_nn::ops::softmax(&(&x * 0.5).unwrap(), 3).unwrap();
        let error = (shares - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(error < 1e-6, "{error}");
    }

    /// By its series, which is enough for a test.
    fn libm_erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        if x.abs() > 4.5 { x.signum() } else { sum * 2.0 / std::f64::consts::PI.sqrt() }
    }
}
