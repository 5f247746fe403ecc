//! 8-bit integers for an encoder: scales found once, on texts, and then fixed.
//!
//! Scales are fixed rather than found anew for every batch, so that a text has the same embedding in any company, and so that serving need
//! not look for the largest number first. A few dimensions of a token are much larger than the others; each dimension is first divided
//! by a factor that its rows of the weights are multiplied by ("smoothing"), or rounding would leave nothing of the rest.

use std::collections::BTreeMap;

use super::weights::{WORDS, Weights, layer_prefix};

/// Weights use 7 bits: processors without an instruction for 8-bit dot products add two products of `u8 * i8` in 16 bits, which would
/// overflow with eight.
const WEIGHT_LEVELS: f32 = 63.0;
/// Table rows are only looked up, never multiplied.
const TABLE_LEVELS: f32 = 127.0;
/// How much of the spread between dimensions goes to the weights.
const SMOOTHING: f32 = 0.5;

/// A place where floats become integers: what goes into the linear layers of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Into query, key and value.
    Attention(usize),
    /// Into the linear layer behind the attention.
    Context(usize),
    /// Into the first of the last two.
    Intermediate(usize),
    /// Into the second.
    Output(usize),
}

impl Site {
    /// The linear layers that read there.
    fn readers(self) -> Vec<String> {
        let (layer, parts): (usize, &[&str]) = match self {
            Self::Attention(layer) => (layer, &["attention.self.query", "attention.self.key", "attention.self.value"]),
            Self::Context(layer) => (layer, &["attention.output.dense"]),
            Self::Intermediate(layer) => (layer, &["intermediate.dense"]),
            Self::Output(layer) => (layer, &["output.dense"]),
        };
        parts.iter().map(|part| format!("{}.{part}.weight", layer_prefix(layer))).collect()
    }
}

/// The smallest and the largest number seen in each dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Of each dimension.
    pub least: Vec<f32>,
    /// Of each dimension.
    pub most: Vec<f32>,
}

/// How floats of one place become integers: `round(x / smooth / step) + zero`.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteScale {
    /// Of each dimension.
    pub smooth: Vec<f32>,
    /// Of all.
    pub step: f32,
    /// What 0 becomes.
    pub zero: u8,
}

/// Integers with a scale for each row or column.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaled {
    /// Row by row.
    pub values: Vec<i8>,
    /// One each.
    pub scales: Vec<f32>,
}

/// All scales of an encoder.
#[derive(Debug, Clone)]
pub struct Quantised {
    /// The table of words.
    pub words: Scaled,
    sites: BTreeMap<Site, SiteScale>,
}

impl Quantised {
    /// Scales from what was seen at each place.
    #[must_use]
    pub fn new(weights: &Weights, ranges: &BTreeMap<Site, Range>) -> Self {
        let words = rows(&weights.values(WORDS), weights.config.hidden);
        let sites = ranges.iter().map(|(site, range)| (*site, site_scale(weights, *site, range))).collect();
        Self { words, sites }
    }

    /// # Panics
    /// For a place that was not looked at: calibration visits all.
    pub(super) fn site(&self, site: Site) -> &SiteScale {
        &self.sites[&site]
    }
}

fn site_scale(weights: &Weights, site: Site, range: &Range) -> SiteScale {
    let width = range.least.len();
    let mut largest_weight = vec![1e-5_f32; width];
    for name in site.readers() {
        let values = weights.values(&name);
        for (row, largest) in values.chunks_exact(values.len() / width).zip(&mut largest_weight) {
            *largest = row.iter().fold(*largest, |most, value| most.max(value.abs()));
        }
    }
    let seen = range.least.iter().zip(&range.most).map(|(least, most)| least.abs().max(most.abs()).max(1e-5));
    let smooth: Vec<f32> =
        seen.zip(&largest_weight).map(|(seen, weight)| (seen.powf(SMOOTHING) / weight.powf(1.0 - SMOOTHING)).max(1e-4)).collect();
    let least = range.least.iter().zip(&smooth).fold(0.0_f32, |least, (value, smooth)| least.min(value / smooth));
    let most = range.most.iter().zip(&smooth).fold(1e-6_f32, |most, (value, smooth)| most.max(value / smooth));
    let step = (most - least) / 255.0;
    SiteScale { smooth, step, zero: (-least / step).round().clamp(0.0, 255.0) as u8 }
}

/// A table's rows, each with its own scale.
#[must_use]
pub fn rows(values: &[f32], width: usize) -> Scaled {
    let mut scaled = Scaled { values: Vec::with_capacity(values.len()), scales: Vec::with_capacity(values.len() / width) };
    for row in values.chunks_exact(width) {
        let scale = row.iter().fold(1e-9_f32, |most, value| most.max(value.abs())) / TABLE_LEVELS;
        scaled.values.extend(row.iter().map(|value| (value / scale).round() as i8));
        scaled.scales.push(scale);
    }
    scaled
}

/// A weight `[in, out]`, its rows multiplied by `smooth`, each column with its own scale.
#[must_use]
pub fn columns(values: &[f32], smooth: &[f32]) -> Scaled {
    let width = values.len() / smooth.len();
    let mut scales = vec![1e-9_f32; width];
    for (row, smooth) in values.chunks_exact(width).zip(smooth) {
        scales.iter_mut().zip(row).for_each(|(most, value)| *most = most.max((value * smooth).abs()));
    }
    scales.iter_mut().for_each(|most| *most /= WEIGHT_LEVELS);
    let mut integers = Vec::with_capacity(values.len());
    for (row, smooth) in values.chunks_exact(width).zip(smooth) {
        integers.extend(row.iter().zip(&scales).map(|(value, scale)| (value * smooth / scale).round() as i8));
    }
    Scaled { values: integers, scales }
}

#[cfg(test)]
mod tests {
    use super::{columns, rows};

    #[test]
    fn rows_and_columns_come_back_within_half_a_step() {
        let values = [0.5, -1.0, 0.01, 100.0, 3.0, -7.0];
        let table = rows(&values, 3);
        for (at, value) in values.iter().enumerate() {
            let back = f32::from(table.values[at]) * table.scales[at / 3];
            assert!((back - value).abs() <= table.scales[at / 3] * 0.501, "{back} {value}");
        }
        let smooth = [2.0, 0.25];
        let weight = columns(&values, &smooth);
        for (at, value) in values.iter().enumerate() {
            let back = f32::from(weight.values[at]) * weight.scales[at % 3];
            assert!((back - value * smooth[at / 3]).abs() <= weight.scales[at % 3] * 0.501, "{back} {value}");
            assert!(weight.values[at].abs() <= 63);
        }
    }
}
