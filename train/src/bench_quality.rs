//! Arguments of the step.
use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use clap::Args;
use ndarray::{Array2, Axis};

use crate::{
    data::Data,
    mix::{Mixture, OutOfFold},
    outcomes::{self, Split},
    parts::{PartKind, PartOptions},
    score::ScoreField,
    targets::Targets,
    views::{WordOptions, WordSpace},
};

/// Arguments of the step.
#[derive(Debug, Args)]
pub struct BenchQualityArgs {
    /// data
    #[arg(long)]
    data: PathBuf,
    /// pool
    #[arg(long)]
    pool: Option<String>,
}

fn argmax(q: ndarray::ArrayView1<'_, f32>) -> usize {
    (0..q.len()).max_by(|a, b| q[*a].total_cmp(&q[*b])).unwrap_or(0)
}
fn score(q: &Array2<f32>, data: &Data) -> (f32, f32) {
    let (mut s, mut c) = (0.0, 0.0);
    for (r, q) in q.rows().into_iter().enumerate() {
        let e = argmax(q);
        s += data.score[[r, e]];
        c += data.cost[[r, e]];
    }
    (s / q.nrows() as f32, c / q.nrows() as f32 * 1000.0)
}

impl BenchQualityArgs {
    /// Does the step.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run(self) -> anyhow::Result<()> {
        let pools: BTreeMap<String, Option<Vec<String>>> = serde_json::from_slice(&std::fs::read(self.data.join("pools.json"))?)?;
        for (name, experts) in pools {
            if self.pool.as_ref().is_some_and(|p| !name.contains(p.as_str())) {
                continue;
            }
            let source = name.split('/').next().unwrap_or_default();
            let t0 = Instant::now();
            let rows = outcomes::read(&self.data.join("routing").join(format!("{source}.jsonl.gz")))?;
            let field = ScoreField::default();
            let data = Data::of(&rows, &field, experts.as_deref(), &model::TextRules::default())?;
            let data = data.select(&data.complete());
            let (train, val) = (data.select(&data.of_split(Split::Train)), data.select(&data.of_split(Split::Val)));
            println!("== {name} {}+{} read {:?}", train.rows(), val.rows(), t0.elapsed());
            let t = Instant::now();
            let space = WordSpace::fit(&train.texts, &WordOptions::default());
            println!("space rows {} {:?}", space.rarity.len(), t.elapsed());
            let (tv, vv) = (space.views(&train.texts), space.views(&val.texts));
            let targets = Targets::of(&train);
            let best = targets.expert_means.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |b| b.0);
            let single = |d: &Data| (d.score.column(best).mean(), d.cost.column(best).mean().map(|c| c * 1000.0));
            println!("best single train {:?} val {:?}", single(&train), single(&val));
            let kinds = [PartKind::Trees, PartKind::Labels, PartKind::Words];
            let base = PartOptions::default();
            let mut variants = vec![("base", base)];
            if let Ok(v) = std::env::var("VARIANTS") {
                for v in v.split(',') {
                    let mut o = base;
                    let (k, x) = v.split_once('=').unwrap_or((v, "0"));
                    let x: f32 = x.parse()?;
                    match k {
                        "others" => o.others_weight = x,
                        "label" => o.label_weight = x,
                        "leaf" => o.min_leaf = x as usize,
                        "try" => o.try_share = x,
                        "dirs" => o.tree_directions = x as usize,
                        "trees" => o.trees = x as usize,
                        "seed" => o.seed = x as u64,
                        "pen" => o.label_penalty = x,
                        "wpen" => o.words_penalty = x,
                        _ => anyhow::bail!("{k}"),
                    }
                    variants.push((Box::leak(v.to_owned().into_boxed_str()), o));
                }
            }
            for (label, o) in variants {
                let t = Instant::now();
                let oof = OutOfFold::of(&tv, &targets, &train.groups, &kinds, &o);
                let w = oof.weights(&targets.deviation);
                print!("{label}: ");
                let means = targets.expert_means.view().insert_axis(Axis(0)).to_owned();
                for (k, d) in oof.kinds.iter().zip(&oof.deviations) {
                    print!("{} {:?} ", k.as_str(), score(&(d + &means), &train));
                }
                let mse = |q: &Array2<f32>| {
                    let d = &targets.deviation;
                    1.0 - (q - d).mapv(|x| x * x).mean().unwrap_or(0.0) / d.mapv(|x| x * x).mean().unwrap_or(1.0)
                };
                print!("r2 {:.4} ", mse(&oof.mixed(&w)));
                println!(
                    "mix {w:?} {:?} recipe {:?}",
                    score(&(oof.mixed(&w) + &means), &train),
                    score(&(oof.mixed(&[0.5, 0.4, 0.15]) + &means), &train)
                );
                let t2 = Instant::now();
                let m = Mixture::fit(&tv, &targets, &kinds, &w, &o);
                println!("   val {:?}  cv {:?} fit {:?}", score(&m.predict(&vv), &val), t2 - t, t2.elapsed());
            }
        }
        Ok(())
    }
}
