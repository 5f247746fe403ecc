//! The plots, each an SVG. What they have in common is here: the sheet they are drawn on, axes, names of colours.

mod datasets;
mod edge;
mod money;

use anyhow::{Result, anyhow};
use plotters::{
    chart::MeshStyle,
    coord::{
        Shift,
        ranged1d::{AsRangedCoord, ValueFormatter},
    },
    prelude::*,
};

use super::colour::{Colour, GRID, INK, ROUTER, with_variables};

pub(super) use datasets::{nll_by_dataset, score_by_dataset};
pub(super) use edge::edge_against_cloud;
pub(super) use money::{quality_cost_throughput, score_against_cost};

/// A plot with its words.
pub(super) struct Figure {
    pub(super) title: &'static str,
    pub(super) words: String,
    pub(super) svg: String,
}

const WIDTH: u32 = 860;
const FONT: &str = "sans-serif";

type Sheet<'a> = SVGBackend<'a>;
type Area<'a> = DrawingArea<Sheet<'a>, Shift>;
type Chart<'a, 'b, X, Y> = ChartContext<'a, Sheet<'b>, Cartesian2d<X, Y>>;
type Mesh<'a, 'm, 'b, X, Y> = MeshStyle<'a, 'm, X, Y, Sheet<'b>>;

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

/// A chart of numbers over numbers, with so much room above.
fn numbers<'a, 'b, X: AsRangedCoord, Y: AsRangedCoord>(
    area: &'a Area<'b>,
    above: u32,
    x: X,
    y: Y,
) -> Result<Chart<'a, 'b, X::CoordDescType, Y::CoordDescType>> {
    let mut chart = ChartBuilder::on(area);
    chart.margin(16).margin_top(above).x_label_area_size(44).y_label_area_size(64).build_cartesian_2d(x, y).map_err(plot_error)
}

/// Draws axes, their words, and the lines behind the data, alike in all plots.
fn axes<X, Y>(mesh: &mut Mesh<'_, '_, '_, X, Y>) -> Result<()>
where
    X: Ranged + ValueFormatter<<X as Ranged>::ValueType>,
    Y: Ranged + ValueFormatter<<Y as Ranged>::ValueType>,
{
    let styled = mesh.label_style((FONT, 13, &INK.rgb)).axis_desc_style((FONT, 14, &INK.rgb)).axis_style(GRID.rgb);
    styled.bold_line_style(GRID.rgb).light_line_style(TRANSPARENT).draw().map_err(plot_error)
}

/// Points in the order of x.
fn line(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = points.collect();
    line.sort_by(|one, other| one.0.total_cmp(&other.0));
    line
}

/// The router over all its settings: tolerances thick, weights of cost thin.
fn curves<X, Y>(chart: &mut Chart<'_, '_, X, Y>, tolerances: &[(f64, f64)], weights: &[(f64, f64)]) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (points, width) in [(weights, 1), (tolerances, 3)] {
        chart.draw_series(LineSeries::new(points.iter().copied(), ROUTER.rgb.stroke_width(width))).map_err(plot_error)?;
    }
    Ok(())
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
