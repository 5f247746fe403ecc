//! The comparison itself: predictions and outcomes to an [`Evaluation`]. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Axis;
use routing::TableError;

use super::curve;
use crate::{
    data::Data,
    decide::{Chooser, Predictions, Rule},
    evaluation::{Baselines, Comparison, Evaluation, Gain, Measures, RouterResults},
    settings::{Settings, mean, present_mean, standard_error},
    targets,
};

/// What is compared, on what.
pub struct Subject<'a> {
    /// Says which single expert is best, which is cheapest, and which is best for each data set. May be empty.
    pub train: &'a Data,
    /// Reported on.
    pub held_out: &'a Data,
    /// Their name.
    pub split: &'a str,
    /// For every row that is held out.
    pub predictions: &'a Predictions,
    /// With the prices to choose by.
    pub chooser: &'a Chooser,
    /// For `Balanced` and `Cost`.
    pub settings: Settings,
    /// Its name.
    pub score_field: String,
    /// As in `bundle.json`.
    pub router_kind: String,
    /// Known from elsewhere; else by the training rows.
    pub best_single: Option<usize>,
    /// `edge` or `cloud` by expert.
    pub placements: BTreeMap<String, String>,
}

/// Choices for each row.
pub(super) type Choices = Vec<usize>;

/// Outcomes of the rows that are reported on.
pub(super) struct Rows<'a> {
    pub(super) data: &'a Data,
    edge: Option<Vec<bool>>,
}

/// Compares on the rows in which every expert has a score.
///
/// # Errors
/// Experts or prices that no table may have.
pub fn compare(subject: &Subject<'_>) -> Result<Evaluation, TableError> {
    let complete = subject.held_out.complete();
    let data = subject.held_out.select(&complete);
    let predictions = subject.predictions.select(&complete);
    let rows = Rows::new(&data, &subject.placements);
    let fixed = Fixed::of(subject);
    let choose = |rule: Rule| subject.chooser.choose(&predictions, rule);
    let router = [
        choose(Rule::Quality)?,
        choose(Rule::Balanced { cost_weight: subject.settings.balanced.setting })?,
        choose(Rule::Cost { tolerance: subject.settings.cost.setting })?,
    ];
    let all: Vec<usize> = (0..data.rows()).collect();
    let names: BTreeSet<&str> = data.datasets.iter().filter(|name| !name.is_empty()).map(String::as_str).collect();
    let of_dataset = |name: &str| all.iter().copied().filter(|row| data.datasets[*row] == name).collect::<Vec<_>>();
    let datasets = names.into_iter().map(|name| (name.to_owned(), fixed.compare(&rows, &of_dataset(name), &router))).collect();
    let overall = fixed.compare(&rows, &all, &router);
    let curves = curve::Curves::of(subject.chooser, &predictions, &rows)?;
    let single = &overall.baselines.best_single;
    Ok(Evaluation {
        split: subject.split.into(),
        rows: data.rows(),
        rows_left_out: subject.held_out.rows() - data.rows(),
        experts: data.experts.clone(),
        score_field: subject.score_field.clone(),
        router_kind: subject.router_kind.clone(),
        placements: subject.placements.clone(),
        named_points: curves.named(single),
        oracle_gap_share: gap_share(&overall),
        gain_over_best_single: rows.gain(&router[0], fixed.best_single),
        best_single: data.experts[fixed.best_single].clone(),
        cheapest: data.experts[fixed.cheapest].clone(),
        settings: subject.settings,
        overall,
        datasets,
        tolerance_curve: curves.tolerances,
        cost_weight_curve: curves.cost_weights,
    })
}

fn gap_share(overall: &Comparison) -> Option<f64> {
    let (single, oracle) = (overall.baselines.best_single.score?, overall.baselines.oracle.score?);
    (oracle > single + 1e-9).then(|| (overall.router.quality.score.unwrap_or(single) - single) / (oracle - single))
}

/// Choices that need no router, made on training rows.
struct Fixed {
    best_single: usize,
    cheapest: usize,
    by_dataset: BTreeMap<String, usize>,
}

impl Fixed {
    fn of(subject: &Subject<'_>) -> Self {
        let train = subject.train;
        let every: Vec<usize> = (0..train.rows()).collect();
        let best_single = subject.best_single.unwrap_or_else(|| best_of(train, &every).unwrap_or(0));
        let mut rows = BTreeMap::<String, Vec<usize>>::new();
        every.iter().for_each(|row| rows.entry(train.datasets[*row].clone()).or_default().push(*row));
        let by_dataset = rows.into_iter().filter_map(|(name, rows)| Some((name, best_of(train, &rows)?))).collect();
        let costs = if train.rows() == 0 { subject.held_out } else { train };
        let mean_cost = |expert: usize| present_mean(costs.cost.column(expert).iter().copied());
        let cheapest = (0..costs.experts.len()).min_by(|one, other| nan_last(mean_cost(*one)).total_cmp(&nan_last(mean_cost(*other))));
        Self { best_single, cheapest: cheapest.unwrap_or(0), by_dataset }
    }

    fn compare(&self, rows: &Rows<'_>, which: &[usize], router: &[Choices; 3]) -> Comparison {
        let data = rows.data;
        let always = |expert: usize| vec![expert; data.rows()];
        let label = |row: usize| self.by_dataset.get(&data.datasets[row]).copied().unwrap_or(self.best_single);
        let label_given: Choices = (0..data.rows()).map(label).collect();
        let oracle: Choices = (0..data.rows()).map(|row| rows.oracle(row)).collect();
        let experts = (0..data.experts.len()).map(|expert| (data.experts[expert].clone(), rows.measures(which, &always(expert)))).collect();
        Comparison {
            rows: which.len(),
            baselines: Baselines {
                random: rows.random(which),
                cheapest: rows.measures(which, &always(self.cheapest)),
                best_single: rows.measures(which, &always(self.best_single)),
                label_given: rows.measures(which, &label_given),
                oracle: rows.measures(which, &oracle),
                experts,
            },
            router: RouterResults {
                quality: rows.measures(which, &router[0]),
                balanced: rows.measures(which, &router[1]),
                cost: rows.measures(which, &router[2]),
            },
        }
    }
}

/// The expert with the best mean score. Where scores are missing, the one that training calls so.
fn best_of(data: &Data, rows: &[usize]) -> Option<usize> {
    let score = data.score.select(Axis(0), rows);
    if score.iter().any(|score| score.is_nan()) {
        return targets::best_single(&score);
    }
    let means: Vec<f32> = score.columns().into_iter().map(|column| present_mean(column.iter().copied())).collect();
    (0..means.len()).filter(|at| !means[*at].is_nan()).reduce(|best, at| if means[at] > means[best] { at } else { best })
}

fn nan_last(value: f32) -> f32 {
    if value.is_nan() { f32::INFINITY } else { value }
}

impl<'a> Rows<'a> {
    fn new(data: &'a Data, placements: &BTreeMap<String, String>) -> Self {
        let at_edge = |name: &String| placements.get(name).is_some_and(|placement| placement == "edge");
        let edge = (!placements.is_empty()).then(|| data.experts.iter().map(at_edge).collect());
        Self { data, edge }
    }

    /// The cheapest of the best.
    fn oracle(&self, row: usize) -> usize {
        let (scores, costs) = (self.data.score.row(row), self.data.cost.row(row));
        let better = |one: usize, other: usize| match scores[one].total_cmp(&scores[other]) {
            std::cmp::Ordering::Equal => nan_last(costs[one]) < nan_last(costs[other]),
            order => order.is_gt(),
        };
        (0..scores.len()).reduce(|best, at| if better(at, best) { at } else { best }).unwrap_or(0)
    }

    /// Means of what there is of each field; nothing of speed and places.
    fn means(&self, of: impl Fn(&ndarray::Array2<f32>) -> Vec<f64>) -> Measures {
        let scores = of(&self.data.score);
        Measures {
            score: some_mean(&scores),
            bertsim: some_mean(&of(&self.data.bertsim)),
            nll: some_mean(&of(&self.data.nll)),
            cost_per_1k_usd: some_mean(&of(&self.data.cost)).map(|cost| cost * 1e3),
            standard_error: (!scores.is_empty()).then(|| standard_error(&scores)),
            ..Measures::default()
        }
    }

    /// Means over the chosen experts' outcomes.
    pub(super) fn measures(&self, which: &[usize], choices: &[usize]) -> Measures {
        let data = self.data;
        let of = |matrix: &ndarray::Array2<f32>| {
            let values = which.iter().map(|row| matrix[[*row, choices[*row]]]);
            values.filter(|value| !value.is_nan()).map(f64::from).collect::<Vec<_>>()
        };
        let mut shares = BTreeMap::new();
        for row in which {
            *shares.entry(data.experts[choices[*row]].clone()).or_insert(0.0) += 1.0 / which.len() as f64;
        }
        let is_edge = |row: &usize| self.edge.as_ref().is_some_and(|edge| edge[choices[*row]]);
        let edge_rows: Vec<usize> = which.iter().copied().filter(is_edge).collect();
        let edge_costs = edge_rows.iter().map(|row| data.cost[[*row, choices[*row]]]);
        let known = self.edge.as_ref().filter(|_| !which.is_empty());
        Measures {
            tokens_per_second: self.throughput(which.iter().map(|row| (*row, choices[*row]))),
            edge_share: known.map(|_| edge_rows.len() as f64 / which.len() as f64),
            edge_cost_per_1k_usd: known.and_then(|_| spread(edge_costs, which.len())),
            shares,
            ..self.means(of)
        }
    }

    /// Each expert with the same probability.
    fn random(&self, which: &[usize]) -> Measures {
        let data = self.data;
        let of = |matrix: &ndarray::Array2<f32>| {
            let means = which.iter().map(|row| present_mean(matrix.row(*row).iter().copied()));
            means.filter(|value| !value.is_nan()).map(f64::from).collect::<Vec<_>>()
        };
        let pairs = which.iter().flat_map(|row| (0..data.experts.len()).map(|expert| (*row, expert)));
        let known = self.edge.as_ref().filter(|_| !which.is_empty());
        let edge_costs = |edge: &Vec<bool>| {
            let at_edge = pairs.clone().filter(|(_, expert)| edge[*expert]);
            spread(at_edge.map(|(row, expert)| data.cost[[row, expert]]), which.len() * edge.len())
        };
        Measures {
            edge_share: known.map(|edge| edge.iter().filter(|edge| **edge).count() as f64 / edge.len() as f64),
            edge_cost_per_1k_usd: known.and_then(edge_costs),
            tokens_per_second: self.throughput(pairs),
            ..self.means(of)
        }
    }

    /// Completion tokens by seconds, over the rows that have both.
    fn throughput(&self, pairs: impl Iterator<Item = (usize, usize)>) -> Option<f64> {
        let (mut tokens, mut seconds) = (0.0_f64, 0.0_f64);
        for (row, expert) in pairs {
            let (count, time) = (self.data.output_tokens[[row, expert]], self.data.seconds[[row, expert]]);
            if !count.is_nan() && !time.is_nan() {
                tokens += f64::from(count);
                seconds += f64::from(time);
            }
        }
        (seconds > 0.0).then(|| tokens / seconds)
    }

    fn gain(&self, choices: &[usize], best_single: usize) -> Gain {
        let data = self.data;
        let gain = |row: usize| f64::from(data.score[[row, choices[row]]]) - f64::from(data.score[[row, best_single]]);
        let gains: Vec<f64> = (0..data.rows()).map(gain).collect();
        let cost = |expert: &dyn Fn(usize) -> usize| some_mean(&present((0..data.rows()).map(|row| data.cost[[row, expert(row)]])));
        let (spent, single) = (cost(&|row| choices[row]), cost(&|_| best_single));
        let cost_saved = spent.zip(single).filter(|(_, single)| *single > 0.0).map(|(spent, single)| 1.0 - spent / single);
        Gain { score: mean(&gains), standard_error: standard_error(&gains), cost_saved }
    }
}

fn present(values: impl Iterator<Item = f32>) -> Vec<f64> {
    values.filter(|value| !value.is_nan()).map(f64::from).collect()
}

/// USD per 1,000 of so many answers; none where one of the costs is not known.
fn spread(costs: impl Iterator<Item = f32>, over: usize) -> Option<f64> {
    let sum: f64 = costs.map(f64::from).sum();
    (!sum.is_nan()).then(|| 1e3 * sum / over as f64)
}

fn some_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| mean(values))
}

#[cfg(test)]
mod tests {
    use super::best_of;
    use crate::{learn::tests::data, targets};

    #[test]
    fn the_best_single_expert_is_the_one_that_training_calls_so() {
        let mut data = data(300, 1.0);
        // The first was lucky on the four rows it was asked.
        data.score.column_mut(0).fill(f32::NAN);
        (0..300).step_by(75).for_each(|row| data.score[[row, 0]] = 1.0);
        let all: Vec<usize> = (0..300).collect();
        let single = targets::best_single(&data.score);
        assert!(single.is_some_and(|expert| expert > 0) && best_of(&data, &all) == single, "{single:?}");
        data.score.column_mut(0).fill(f32::NAN);
        data.score.column_mut(1).fill(0.5);
        data.score.column_mut(2).fill(0.5);
        assert_eq!((best_of(&data, &all), best_of(&data, &[])), (Some(1), None), "one that was never asked is none");
    }
}
