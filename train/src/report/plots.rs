//! The plots, each an SVG.

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::colour::{Colour, EXPERT, GRID, INK, LABEL, ORACLE, ROUTER, SINGLE, with_variables};
use crate::evaluation::{Comparison, CurvePoint, Evaluation, Measures};

/// A plot with its words.
pub(super) struct Figure {
    pub(super) title: &'static str,
    pub(super) words: String,
    pub(super) svg: String,
}

const WIDTH: u32 = 860;
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(height: u32, act: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        act(&area)?;
        area.present().map_err(plot_error)?;
    }
    Ok(with_variables(&svg))
}

fn plot_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw a plot: {error}")
}

/// A mark of one thing in every row of a plot by data set.
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

pub(super) fn score_by_dataset(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let words = format!(
        "Mean {} by data set: each expert (small dots), the best single expert, the best expert of the data set where its label is given, \
         the router by quality, and the oracle.",
        evaluation.score_field
    );
    by_dataset(evaluation, "Score by data set", words, |measures| measures.score)
}

pub(super) fn nll_by_dataset(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let words = "Mean negative log-likelihood per token, in nats, of the chosen experts' answers by data set. Less is better.".to_owned();
    by_dataset(evaluation, "NLL by data set", words, |measures| measures.nll)
}

fn by_dataset(evaluation: &Evaluation, title: &'static str, words: String, value: fn(&Measures) -> Option<f64>) -> Result<Option<Figure>> {
    let mut rows: Vec<(&str, &Comparison)> = vec![("all", &evaluation.overall)];
    rows.extend(evaluation.datasets.iter().map(|(name, comparison)| (name.as_str(), comparison)));
    let all = rows.iter().flat_map(|(_, comparison)| {
        let experts = comparison.baselines.experts.values();
        experts.chain(SERIES.iter().map(|series| (series.of)(comparison))).filter_map(value)
    });
    let Some((least, most)) = range(all) else { return Ok(None) };
    let height = 70 + 26 * rows.len() as u32;
    let svg = draw(height, |area| {
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
        chart
            .configure_mesh()
            .y_labels(rows.len())
            .y_label_formatter(&name)
            .label_style((FONT, 13, &INK.rgb))
            .axis_style(GRID.rgb)
            .bold_line_style(GRID.rgb)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(plot_error)?;
        for (at, (_, comparison)) in rows.iter().enumerate() {
            let y = || SegmentValue::CenterOf((rows.len() - 1 - at) as i32);
            let small = comparison.baselines.experts.values().filter_map(value);
            chart.draw_series(small.map(|x| Circle::new((x, y()), 2, EXPERT.rgb.filled()))).map_err(plot_error)?;
            let marks = SERIES.iter().filter_map(|series| Some((value((series.of)(comparison))?, series)));
            chart
                .draw_series(marks.map(|(x, series)| Circle::new((x, y()), series.size, series.colour.rgb.filled())))
                .map_err(plot_error)?;
        }
        let legend: Vec<(&str, Colour)> = SERIES.iter().map(|series| (series.name, series.colour)).chain([("expert", EXPERT)]).collect();
        key(area, &legend)
    })?;
    Ok(Some(Figure { title, words, svg }))
}

/// Names of colours in a line at the top.
fn key(area: &Area<'_>, names: &[(&str, Colour)]) -> Result<()> {
    let mut x = 240;
    for (name, colour) in names {
        area.draw(&Circle::new((x, 14), 5, colour.rgb.filled())).map_err(plot_error)?;
        area.draw(&Text::new((*name).to_owned(), (x + 10, 8), TextStyle::from((FONT, 13)).color(&INK.rgb))).map_err(plot_error)?;
        x += 30 + 8 * name.len() as i32;
    }
    Ok(())
}

/// Least and most with some room; none of nothing.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (least, most) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    let room = ((most - least) * 0.08).max(1e-6);
    (least <= most).then_some((least - room, most + room))
}

/// A point with its name.
struct Named<'a> {
    name: &'a str,
    x: f64,
    y: f64,
    radius: i32,
    colour: Colour,
}

/// Experts, router and bounds by cost and score. Nothing where nothing has a cost.
fn cost_points(evaluation: &Evaluation) -> Vec<Named<'_>> {
    let overall = &evaluation.overall;
    let mut all: Vec<(&str, &Measures, Colour)> =
        overall.baselines.experts.iter().map(|(name, measures)| (name.as_str(), measures, EXPERT)).collect();
    all.extend([
        ("random", &overall.baselines.random, EXPERT),
        ("label given", &overall.baselines.label_given, LABEL),
        ("oracle", &overall.baselines.oracle, ORACLE),
        ("router, cost", &overall.router.cost, ROUTER),
        ("router, balanced", &overall.router.balanced, ROUTER),
        ("router, quality", &overall.router.quality, ROUTER),
    ]);
    let fastest = all.iter().filter_map(|(_, measures, _)| measures.tokens_per_second).fold(0.0, f64::max);
    all.into_iter()
        .filter_map(|(name, measures, colour)| {
            let colour = if name == evaluation.best_single { SINGLE } else { colour };
            let radius = measures.tokens_per_second.map_or(5, |speed| 4 + (14.0 * (speed / fastest).sqrt()) as i32);
            Some(Named { name, x: measures.cost_per_1k_usd?, y: measures.score?, radius, colour })
        })
        .collect()
}

pub(super) fn quality_cost_throughput(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let points = cost_points(evaluation);
    let Some((bottom, top)) = range(points.iter().map(|point| point.y)) else { return Ok(None) };
    let costs = || points.iter().map(|point| point.x).filter(|cost| *cost > 0.0);
    let (cheap, dear) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    if dear <= 0.0 {
        return Ok(None);
    }
    let has_speed = evaluation.overall.router.quality.tokens_per_second.is_some();
    let speed = if has_speed { " The larger a dot, the more tokens per second." } else { " Speeds are not in the data." };
    let words = format!("Score against USD per 1,000 queries (logarithmic), up and to the left is better.{speed}");
    let svg = draw(460, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((cheap / 1.5..dear * 2.5).log_scale(), bottom..top)
            .map_err(plot_error)?;
        chart
            .configure_mesh()
            .x_desc("USD per 1,000 queries")
            .x_label_formatter(&|usd: &f64| logarithmic_label(*usd))
            .y_desc("score")
            .label_style((FONT, 13, &INK.rgb))
            .axis_desc_style((FONT, 14, &INK.rgb))
            .axis_style(GRID.rgb)
            .bold_line_style(GRID.rgb)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(plot_error)?;
        for point in points.iter().filter(|point| point.x > 0.0) {
            let at = (point.x, point.y);
            chart.draw_series([Circle::new(at, point.radius, point.colour.rgb.mix(0.999).filled())]).map_err(plot_error)?;
            let style = TextStyle::from((FONT, 12)).color(&INK.rgb).pos(Pos::new(HPos::Left, VPos::Center));
            let label = EmptyElement::at(at) + Text::new(point.name.to_owned(), (point.radius + 4, 0), style);
            chart.draw_series([label]).map_err(plot_error)?;
        }
        Ok(())
    })?;
    Ok(Some(Figure { title: "Quality, cost and throughput", words, svg }))
}

pub(super) fn score_against_cost(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let line = |points: &[CurvePoint]| {
        let mut line: Vec<(f64, f64)> = points.iter().filter_map(|point| Some((point.cost_per_1k_usd?, point.score))).collect();
        line.sort_by(|one, other| one.0.total_cmp(&other.0));
        line
    };
    let (tolerances, weights) = (line(&evaluation.tolerance_curve), line(&evaluation.cost_weight_curve));
    let named = cost_points(evaluation);
    let single = evaluation.overall.baselines.best_single.cost_per_1k_usd.unwrap_or(0.0);
    let last = tolerances.iter().chain(&weights).map(|point| point.0).fold(single, f64::max);
    let near = || named.iter().filter(|point| point.x <= 1.3 * last && point.name != "oracle");
    let Some((left, right)) = range(tolerances.iter().chain(&weights).map(|point| point.0).chain(near().map(|point| point.x))) else {
        return Ok(None);
    };
    let Some((bottom, top)) = range(tolerances.iter().chain(&weights).map(|point| point.1).chain(near().map(|point| point.y))) else {
        return Ok(None);
    };
    let words = format!(
        "What the router reaches for its money: the cheapest expert within a tolerance ({} settings, line) and the best weighted sum of score \
         and cost ({} settings, thin line), beside the experts by themselves.",
        tolerances.len(),
        weights.len()
    );
    let svg = draw(460, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .margin_top(30)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(left.max(0.0)..right, bottom..top)
            .map_err(plot_error)?;
        chart
            .configure_mesh()
            .x_desc("USD per 1,000 queries")
            .y_desc("score")
            .label_style((FONT, 13, &INK.rgb))
            .axis_desc_style((FONT, 14, &INK.rgb))
            .axis_style(GRID.rgb)
            .bold_line_style(GRID.rgb)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(plot_error)?;
        chart.draw_series(LineSeries::new(weights.iter().copied(), ROUTER.rgb.stroke_width(1))).map_err(plot_error)?;
        chart.draw_series(LineSeries::new(tolerances.iter().copied(), ROUTER.rgb.stroke_width(3))).map_err(plot_error)?;
        chart.draw_series(near().map(|point| Circle::new((point.x, point.y), 5, point.colour.rgb.filled()))).map_err(plot_error)?;
        key(area, &[("router", ROUTER), ("best single", SINGLE), ("label given", LABEL), ("expert", EXPERT)])
    })?;
    Ok(Some(Figure { title: "Score against cost", words, svg }))
}

pub(super) fn edge_against_cloud(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let points = |curve: &[CurvePoint]| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = curve.iter().filter_map(|point| Some((100.0 * point.edge_share?, point.score))).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    };
    let (tolerances, weights) = (points(&evaluation.tolerance_curve), points(&evaluation.cost_weight_curve));
    let overall = &evaluation.overall;
    let all_of = |placement: &str| {
        let those = overall.baselines.experts.iter().filter(|(name, _)| evaluation.placements.get(*name).is_some_and(|at| at == placement));
        those.filter_map(|(_, measures)| measures.score).reduce(f64::max)
    };
    let (edge, cloud) = (all_of("edge"), all_of("cloud"));
    let ends: Vec<(f64, f64)> = cloud.map(|score| (0.0, score)).into_iter().chain(edge.map(|score| (100.0, score))).collect();
    if tolerances.is_empty() || edge.is_none() {
        return Ok(None);
    }
    let Some((bottom, top)) = range(tolerances.iter().chain(&weights).chain(&ends).map(|point| point.1)) else { return Ok(None) };
    let words = format!(
        "Share of the queries answered at the edge against the score, over all settings. Dots: the best expert of the cloud alone, and of the \
         edge alone. By quality the router keeps {:.0} % at the edge, by cost {:.0} %.",
        100.0 * overall.router.quality.edge_share.unwrap_or(0.0),
        100.0 * overall.router.cost.edge_share.unwrap_or(0.0),
    );
    let svg = draw(400, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(-3.0..103.0, bottom..top)
            .map_err(plot_error)?;
        chart
            .configure_mesh()
            .x_desc("% of queries at the edge")
            .y_desc("score")
            .label_style((FONT, 13, &INK.rgb))
            .axis_desc_style((FONT, 14, &INK.rgb))
            .axis_style(GRID.rgb)
            .bold_line_style(GRID.rgb)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(plot_error)?;
        chart.draw_series(LineSeries::new(weights.iter().copied(), ROUTER.rgb.stroke_width(1))).map_err(plot_error)?;
        chart.draw_series(LineSeries::new(tolerances.iter().copied(), ROUTER.rgb.stroke_width(3))).map_err(plot_error)?;
        chart.draw_series(ends.iter().map(|end| Circle::new(*end, 6, SINGLE.rgb.filled()))).map_err(plot_error)?;
        Ok(())
    })?;
    Ok(Some(Figure { title: "Edge against cloud", words, svg }))
}

/// The label of a logarithmic axis: 1, 2 and 5 of each power of ten, since those between would lie over each other.
fn logarithmic_label(value: f64) -> String {
    let power = (value.log10() + 1e-9).floor();
    let digit = (value / 10_f64.powf(power)).round();
    let decimals = (-power).max(0.0) as usize;
    if [1.0, 2.0, 5.0].contains(&digit) { format!("{value:.decimals$}") } else { String::new() }
}
