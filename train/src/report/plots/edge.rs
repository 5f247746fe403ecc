//! How much of the work stays at the edge, and what that does to the score.

use anyhow::Result;
use plotters::prelude::*;

use super::{Figure, axes, curves, draw, line, numbers, plot_error, range};
use crate::{
    evaluation::{CurvePoint, Evaluation},
    report::colour::SINGLE,
};

pub(in crate::report) fn edge_against_cloud(evaluation: &Evaluation) -> Result<Option<Figure>> {
    let of = |curve: &[CurvePoint]| line(curve.iter().filter_map(|point| Some((100.0 * point.edge_share?, point.score))));
    let (tolerances, weights) = (of(&evaluation.tolerance_curve), of(&evaluation.cost_weight_curve));
    let overall = &evaluation.overall;
    let best_of = |placement: &str| {
        let those = overall.baselines.experts.iter().filter(|(name, _)| evaluation.placements.get(*name).is_some_and(|at| at == placement));
        those.filter_map(|(_, measures)| measures.score).reduce(f64::max)
    };
    let (edge, cloud) = (best_of("edge"), best_of("cloud"));
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
        let mut chart = numbers(area, 16, -3.0..103.0, bottom..top)?;
        axes(chart.configure_mesh().x_desc("% of queries at the edge").y_desc("score"))?;
        curves(&mut chart, &tolerances, &weights)?;
        chart.draw_series(ends.iter().map(|end| Circle::new(*end, 6, SINGLE.rgb.filled()))).map_err(plot_error)?;
        Ok(())
    })?;
    Ok(Some(Figure { title: "Edge against cloud", words, svg }))
}
