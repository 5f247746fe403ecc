//! The steps of a network, forth and back: what comes out, and from the loss's gradient by that, the gradient by what went in.
//!
//! Written out by hand, since there are few: a framework that records steps costs more than the steps themselves here. All are checked
//! against finite differences. Weights are `[in, out]`, rows are tokens or texts.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis, Zip, linalg::general_mat_mul};

use crate::random::Random;

/// `x * weight + bias`.
pub(crate) fn affine(x: &Array2<f32>, weight: &Array2<f32>, bias: &Array2<f32>) -> Array2<f32> {
    let mut out = x.dot(weight);
    out += bias;
    out
}

/// Of [`affine`]: adds to the gradients of weight and bias, gives that of `x`.
pub(crate) fn affine_back(
    x: &Array2<f32>,
    weight: &Array2<f32>,
    gradient: &Array2<f32>,
    of_weight: &mut Array2<f32>,
    of_bias: &mut Array2<f32>,
) -> Array2<f32> {
    general_mat_mul(1.0, &x.t(), gradient, 1.0, of_weight);
    gradient.rows().into_iter().for_each(|row| of_bias.row_mut(0).scaled_add(1.0, &row));
    gradient.dot(&weight.t())
}

/// What the way back through [`layer_norm`] needs.
#[derive(Debug)]
pub(crate) struct Normalised {
    /// With mean 0 and spread 1.
    even: Array2<f32>,
    /// One over each row's spread.
    inverse: Vec<f32>,
}

/// Rows with mean 0 and spread 1, then scaled and shifted.
pub(crate) fn layer_norm(mut x: Array2<f32>, scale: &Array2<f32>, shift: &Array2<f32>, epsilon: f32) -> (Array2<f32>, Normalised) {
    let count = x.ncols() as f32;
    let mut inverse = Vec::with_capacity(x.nrows());
    for mut row in x.rows_mut() {
        let mean = row.sum() / count;
        row.mapv_inplace(|value| value - mean);
        let spread = 1.0 / (row.fold(0.0, |sum, value| sum + value * value) / count + epsilon).sqrt();
        row.mapv_inplace(|value| value * spread);
        inverse.push(spread);
    }
    let out = &x * scale + shift;
    (out, Normalised { even: x, inverse })
}

/// Of [`layer_norm`].
pub(crate) fn layer_norm_back(
    normalised: &Normalised,
    scale: &Array2<f32>,
    mut gradient: Array2<f32>,
    of_scale: &mut Array2<f32>,
    of_shift: &mut Array2<f32>,
) -> Array2<f32> {
    let (mut of_scale, mut of_shift, scale) = (of_scale.row_mut(0), of_shift.row_mut(0), scale.row(0));
    let count = scale.len() as f32;
    for ((mut row, even), inverse) in gradient.rows_mut().into_iter().zip(normalised.even.rows()).zip(&normalised.inverse) {
        let (mut sum, mut product) = (0.0, 0.0);
        Zip::from(&mut of_scale).and(&mut of_shift).and(&mut row).and(even).and(scale).for_each(
            |of_scale, of_shift, value, even, scale| {
                *of_scale += *value * even;
                *of_shift += *value;
                *value *= scale;
                sum += *value;
                product += *value * even;
            },
        );
        let (sum, product) = (sum / count, product / count);
        Zip::from(&mut row).and(even).for_each(|value, even| *value = inverse * (*value - sum - even * product));
    }
    gradient
}

/// `x` times the probability that a normal variable is below `x`.
pub(crate) fn gelu(x: &Array2<f32>) -> Array2<f32> {
    x.mapv(|x| x * normal(x).0)
}

/// Of [`gelu`].
pub(crate) fn gelu_back(x: &Array2<f32>, mut gradient: Array2<f32>) -> Array2<f32> {
    Zip::from(&mut gradient).and(x).for_each(|gradient, x| {
        let (below, density) = normal(*x);
        *gradient *= below + x * density;
    });
    gradient
}

/// One head of attention within one text: shares of every token in every token, `softmax(scale * query * key^T)`; `context` becomes the
/// shares' mean of `value`.
pub(crate) fn attention(
    query: ArrayView2<'_, f32>,
    key: ArrayView2<'_, f32>,
    value: ArrayView2<'_, f32>,
    scale: f32,
    mut context: ArrayViewMut2<'_, f32>,
) -> Array2<f32> {
    let mut shares = Array2::zeros((query.nrows(), key.nrows()));
    general_mat_mul(scale, &query, &key.t(), 0.0, &mut shares);
    for mut row in shares.rows_mut() {
        let most = row.fold(f32::NEG_INFINITY, |most, value| most.max(*value));
        row.mapv_inplace(|value| exp(value - most));
        let total = 1.0 / row.sum();
        row.mapv_inplace(|value| value * total);
    }
    general_mat_mul(1.0, &shares, &value, 0.0, &mut context);
    shares
}

/// A head's query, key and value, or their gradients.
pub(crate) type Three<T> = [T; 3];

/// Of [`attention`]: fills the gradients of query, key and value.
pub(crate) fn attention_back(
    [query, key, value]: Three<ArrayView2<'_, f32>>,
    shares: &Array2<f32>,
    scale: f32,
    gradient: ArrayView2<'_, f32>,
    [mut of_query, mut of_key, mut of_value]: Three<ArrayViewMut2<'_, f32>>,
) {
    general_mat_mul(1.0, &shares.t(), &gradient, 0.0, &mut of_value);
    let mut of_scores = gradient.dot(&value.t());
    for (mut row, shares) in of_scores.rows_mut().into_iter().zip(shares.rows()) {
        let product = row.dot(&shares);
        Zip::from(&mut row).and(shares).for_each(|value, share| *value = scale * share * (*value - product));
    }
    general_mat_mul(1.0, &of_scores, &key, 0.0, &mut of_query);
    general_mat_mul(1.0, &of_scores.t(), &query, 0.0, &mut of_key);
}

/// A row of this length.
pub(crate) fn of_length(row: ArrayView1<'_, f32>, length: f32) -> Array1<f32> {
    &row * (length / row.dot(&row).sqrt().max(1e-9))
}

/// Of [`of_length`].
pub(crate) fn of_length_back(row: ArrayView1<'_, f32>, length: f32, gradient: ArrayView1<'_, f32>) -> Array1<f32> {
    let size = row.dot(&row).sqrt().max(1e-9);
    let along = row.dot(&gradient) / (size * size);
    (&gradient - &(&row * along)) * (length / size)
}

/// Factors that leave out a share of the numbers and enlarge the rest, so that the sum stays what it is on average.
pub(crate) fn dropout(shape: (usize, usize), share: f32, random: &mut Random) -> Array2<f32> {
    if share <= 0.0 {
        return Array2::ones(shape);
    }
    let kept = 1.0 / (1.0 - share.min(0.95));
    Array2::from_shape_simple_fn(shape, || if random.uniform() < share { 0.0 } else { kept })
}

/// The mean of some rows.
pub(crate) fn mean(rows: ArrayView2<'_, f32>) -> Array1<f32> {
    rows.sum_axis(Axis(0)) / rows.nrows().max(1) as f32
}

/// Probability that a normal variable is below `x`, and its density there. The error function by Abramowitz and Stegun's 7.1.26, which is
/// right to 1.5e-7.
#[inline]
fn normal(x: f32) -> (f32, f32) {
    let magnitude = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let bell = exp(-magnitude * magnitude);
    let t = 1.0 / (1.0 + 0.327_591_1 * magnitude);
    let tail = t * (0.254_829_6 + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152_1 + t * 1.061_405_4)))) * bell;
    let below = if x < 0.0 { 0.5 * tail } else { 1.0 - 0.5 * tail };
    (below, bell * 0.398_942_3)
}

/// `e^x` for `x <= 0`, to a few units in the last place where `x` is not far from 0, without a call, so that loops over it use all lanes of
/// the processor.
#[inline]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // Adding it leaves no bits behind the point.
    let power = (x * std::f32::consts::LOG2_E).max(-126.0);
    let whole = (power + ROUND) - ROUND;
    let rest = (power - whole) * std::f32::consts::LN_2;
    let series = 1.0 + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest * (1.0 / 120.0 + rest * (1.0 / 720.0))))));
    f32::from_bits(((whole as i32 + 127) << 23) as u32) * series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut random = Random::new(seed, 0);
        Array2::from_shape_simple_fn((rows, columns), || random.normal())
    }

    /// Compares gradients, of the result weighted at random and summed up, with differences of the way forth.
    fn check(
        inputs: &[Array2<f32>],
        forth: impl Fn(&[Array2<f32>]) -> Array2<f32>,
        back: impl Fn(&[Array2<f32>], Array2<f32>) -> Vec<Array2<f32>>,
    ) {
        let shape = forth(inputs).dim();
        let weights = random(shape.0, shape.1, 99);
        let total = |inputs: &[Array2<f32>]| (forth(inputs) * &weights).sum();
        let gradients = back(inputs, weights.clone());
        assert_eq!(gradients.len(), inputs.len());
        for (which, gradient) in gradients.iter().enumerate() {
            for (place, gradient) in gradient.indexed_iter() {
                let moved = |step: f32| {
                    let mut inputs = inputs.to_vec();
                    inputs[which][place] += step;
                    total(&inputs)
                };
                let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((gradient - expected).abs() < 0.01 * (1.0 + expected.abs()), "input {which}{place:?}: {gradient} {expected}");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        check(
            &[random(3, 5, 0), random(5, 4, 1), random(1, 4, 2)],
            |x| affine(&x[0], &x[1], &x[2]),
            |x, gradient| {
                let (mut weight, mut bias) = (Array2::zeros((5, 4)), Array2::zeros((1, 4)));
                let of_x = affine_back(&x[0], &x[1], &gradient, &mut weight, &mut bias);
                vec![of_x, weight, bias]
            },
        );
        check(
            &[random(3, 6, 0), random(1, 6, 1), random(1, 6, 2)],
            |x| layer_norm(x[0].clone(), &x[1], &x[2], 1e-5).0,
            |x, gradient| {
                let (mut scale, mut shift) = (Array2::zeros((1, 6)), Array2::zeros((1, 6)));
                let normalised = layer_norm(x[0].clone(), &x[1], &x[2], 1e-5).1;
                let of_x = layer_norm_back(&normalised, &x[1], gradient, &mut scale, &mut shift);
                vec![of_x, scale, shift]
            },
        );
        check(&[random(4, 5, 3)], |x| gelu(&x[0]), |x, gradient| vec![gelu_back(&x[0], gradient)]);
        let row = |x: &Array2<f32>| of_length(x.row(0), 3.0).insert_axis(Axis(0));
        check(
            &[random(1, 5, 4)],
            |x| row(&x[0]),
            |x, gradient| vec![of_length_back(x[0].row(0), 3.0, gradient.row(0)).insert_axis(Axis(0))],
        );
        let forth = |x: &[Array2<f32>]| {
            let mut context = Array2::zeros((4, 3));
            let shares = attention(x[0].view(), x[1].view(), x[2].view(), 0.7, context.view_mut());
            (context, shares)
        };
        check(
            &[random(4, 3, 5), random(4, 3, 6), random(4, 3, 7)],
            |x| forth(x).0,
            |x, gradient| {
                let mut found: Vec<Array2<f32>> = vec![Array2::zeros((4, 3)); 3];
                let [query, key, value] = found.as_mut_slice() else { unreachable!() };
                let gradients = [query.view_mut(), key.view_mut(), value.view_mut()];
                attention_back([x[0].view(), x[1].view(), x[2].view()], &forth(x).1, 0.7, gradient.view(), gradients);
                found
            },
        );
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        for at in -1200..=1200 {
            let x = at as f32 / 100.0;
            let below = normal(x).0;
            let expected = 0.5 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2));
            assert!((f64::from(below) - expected).abs() < 3e-7, "{x}: {below} {expected}");
            let (found, expected) = (exp(-x.abs()), (-x.abs()).exp());
            assert!((found - expected).abs() <= 2e-7 * (2.0 + x.abs()) * expected, "{x}: {found} {expected}");
        }
    }

    #[test]
    fn dropout_keeps_the_sum_on_average() {
        let factors = dropout((100, 100), 0.3, &mut Random::new(1, 0));
        assert!((factors.sum() / 10_000.0 - 1.0).abs() < 0.03);
        assert!((0.25..0.35).contains(&(factors.iter().filter(|factor| **factor == 0.0).count() as f32 / 10_000.0)));
        assert_eq!(dropout((2, 2), 0.0, &mut Random::new(1, 0)), Array2::<f32>::ones((2, 2)));
    }

    /// By its series, which is enough for a test.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..400 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        if x.abs() > 4.5 { x.signum() } else { sum * 2.0 / std::f64::consts::PI.sqrt() }
    }
}
