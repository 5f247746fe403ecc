//! A row for each data set, with a mark for everything that is compared.

use anyhow::Result;
use plotters::prelude::*;

use super::{Area, Figure, axes, draw, key, plot_error, range};
use crate::{
    evaluation::{Comparison, Evaluation, Measures},
    report::colour::{Colour, EXPERT, LABEL, ORACLE, ROUTER, SINGLE},
};

/// A mark of one thing in every row.
struct Series {
    name: &'static str,
    colour: Colour,
    size: i32,
    of: fn(&Comparison) -> &Measures,
}

const SERIES: [Series; 4] = [
    Series { name: "best single", colour: SINGLE, size: 5, of: |comparison| &comparison.baselines.best_single },
    Series { name: "label given", colour: LABEL, size: 5, of: |comparison| &comparison.baselines.label_given },
    Series { name: "oracle", colour: ORACLE, size: 5, of: |comparison| &comparison.baselines.oracle },
    Series { name: "router", colour: ROUTER, size: 6, of: |comparison| &comparison.router.quality },
];

pub(in crate::report) fn score_by_dataset(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let words = format!(
        "Mean {} by data set: each expert (small dots), the best single expert, the best expert of the data set where its label is given, \
         the router by quality, and the oracle.",
        evaluation.score_field
    );
    by_dataset(evaluation, "Score by data set", words, |measures| measures.score)
}

pub(in crate::report) fn nll_by_dataset(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let words = "Mean negative log-likelihood per token, in nats, of the chosen experts' answers by data set. Less is better.".to_owned();
    by_dataset(evaluation, "NLL by data set", words, |measures| measures.nll)
}

/// What is plotted of the measures.
type Value = fn(&Measures) -> Option<f64>;
type Rows<'a> = Vec<(&'a str, &'a Comparison)>;

fn by_dataset(evaluation: &Evaluation, title: &'static str, words: String, value: Value) -> Result<Option<Figure>> {
    let mut rows: Rows<'_> = vec![("all", &evaluation.overall)];
    rows.extend(evaluation.datasets.iter().map(|(name, comparison)| (name.as_str(), comparison)));
    let all = rows.iter().flat_map(|(_, comparison)| {
        let experts = comparison.baselines.experts.values();
        experts.chain(SERIES.iter().map(|series| (series.of)(comparison))).filter_map(value)
    });
    let Some(range) = range(all) else { return Ok(None) };
    let svg = draw(70 + 26 * rows.len() as u32, |area| draw_rows(area, &rows, range, value))?;
    Ok(Some(Figure { title, words, svg }))
}

fn draw_rows(area: &Area<'_>, rows: &Rows<'_>, (least, most): (f64, f64), value: Value) -> Result<()> {
    let labels: Vec<String> = rows.iter().map(|(name, comparison)| format!("{name} ({})", comparison.rows)).collect();
    let mut chart = ChartBuilder::on(area)
        .margin_right(24)
        .margin_top(30)
        .x_label_area_size(30)
        .y_label_area_size(230)
        .build_cartesian_2d(least..most, (0..rows.len() as i32).into_segmented())
        .map_err(plot_error)?;
    let name = |place: &SegmentValue<i32>| match place {
        SegmentValue::CenterOf(at) | SegmentValue::Exact(at) => {
            labels.get(rows.len().wrapping_sub(1 + *at as usize)).cloned().unwrap_or_default()
        }
        SegmentValue::Last => String::new(),
    };
    axes(chart.configure_mesh().y_labels(rows.len()).y_label_formatter(&name))?;
    for (at, (_, comparison)) in rows.iter().enumerate() {
        let y = || SegmentValue::CenterOf((rows.len() - 1 - at) as i32);
        let small = comparison.baselines.experts.values().filter_map(value);
        chart.draw_series(small.map(|x| Circle::new((x, y()), 2, EXPERT.rgb.filled()))).map_err(plot_error)?;
        let marks = SERIES.iter().filter_map(|series| Some((value((series.of)(comparison))?, series)));
        chart.draw_series(marks.map(|(x, series)| Circle::new((x, y()), series.size, series.colour.rgb.filled()))).map_err(plot_error)?;
    }
    let legend: Vec<(&str, Colour)> = SERIES.iter().map(|series| (series.name, series.colour)).chain([("expert", EXPERT)]).collect();
    key(area, &legend)
}
