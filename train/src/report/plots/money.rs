//! What score is to be had for what cost.

use anyhow::Result;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Area, FONT, Figure, axes, curves, draw, key, line, numbers, plot_error, range};
use crate::{
    evaluation::{CurvePoint, Evaluation, Measures},
    report::colour::{Colour, EXPERT, INK, LABEL, ORACLE, ROUTER, SINGLE},
};

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

pub(in crate::report) fn quality_cost_throughput(evaluation: &Evaluation) -> Result<Option<Figure>> {
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
        let mut chart = numbers(area, 16, (cheap / 1.5..dear * 2.5).log_scale(), bottom..top)?;
        let label = |usd: &f64| logarithmic_label(*usd);
        axes(chart.configure_mesh().x_desc("USD per 1,000 queries").x_label_formatter(&label).y_desc("score"))?;
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

/// The label of a logarithmic axis: 1, 2 and 5 of each power of ten, since those between would lie over each other.
fn logarithmic_label(value: f64) -> String {
    let power = (value.log10() + 1e-9).floor();
    let digit = (value / 10_f64.powf(power)).round();
    let decimals = (-power).max(0.0) as usize;
    if [1.0, 2.0, 5.0].contains(&digit) { format!("{value:.decimals$}") } else { String::new() }
}

pub(in crate::report) fn score_against_cost(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let of = |points: &[CurvePoint]| line(points.iter().filter_map(|point| Some((point.cost_per_1k_usd?, point.score))));
    let (tolerances, weights) = (of(&evaluation.tolerance_curve), of(&evaluation.cost_weight_curve));
    let named = cost_points(evaluation);
    let single = evaluation.overall.baselines.best_single.cost_per_1k_usd.unwrap_or(0.0);
    let last = tolerances.iter().chain(&weights).map(|point| point.0).fold(single, f64::max);
    let near: Vec<&Named<'_>> = named.iter().filter(|point| point.x <= 1.3 * last && point.name != "oracle").collect();
    let all = || tolerances.iter().chain(&weights).copied().chain(near.iter().map(|point| (point.x, point.y)));
    let (Some((left, right)), Some((bottom, top))) = (range(all().map(|point| point.0)), range(all().map(|point| point.1))) else {
        return Ok(None);
    };
    let words = format!(
        "What the router reaches for its money: the cheapest expert within a tolerance ({} settings, line) and the best weighted sum of score \
         and cost ({} settings, thin line), beside the experts by themselves.",
        tolerances.len(),
        weights.len()
    );
    let svg = draw(460, |area: &Area<'_>| {
        let mut chart = numbers(area, 30, left.max(0.0)..right, bottom..top)?;
        axes(chart.configure_mesh().x_desc("USD per 1,000 queries").y_desc("score"))?;
        curves(&mut chart, &tolerances, &weights)?;
        let dots = near.iter().map(|point| Circle::new((point.x, point.y), 5, point.colour.rgb.filled()));
        chart.draw_series(dots).map_err(plot_error)?;
        key(area, &[("router", ROUTER), ("best single", SINGLE), ("label given", LABEL), ("expert", EXPERT)])
    })?;
    Ok(Some(Figure { title: "Score against cost", words, svg }))
}
