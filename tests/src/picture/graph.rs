//! Lines over time, or areas one above the other.

use std::fmt::Write as _;

use super::{COLOURS, Line, ROWS, escaped, shown};

/// Draws them with a legend below; `span` is the first second and the last.
pub(super) fn draw(svg: &mut String, mut lines: Vec<Line>, stacking: &str, unit: &str, [w, h]: [f64; 2], span: [f64; 2]) {
    let unit = if stacking == "percent" { "percentunit" } else { unit };
    if stacking == "percent" {
        lines = shares(&lines);
    }
    let legend_height = 16.0 * lines.len().min(ROWS) as f64;
    let frame = Frame { left: 12.0, right: w - 14.0, above: 34.0, below: h - 18.0 - legend_height, span };
    let is_stacked = ["normal", "percent"].contains(&stacking);
    let drawn = if is_stacked { piled(&lines) } else { lines.clone() };
    let values = || drawn.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
    let range = [values().fold(0.0, f64::min), values().fold(0.0, f64::max)];
    // The lowest area covers the lower part of those above it.
    for (index, (_, points)) in drawn.iter().enumerate().rev() {
        frame.shape(svg, points, range, COLOURS[index % COLOURS.len()], is_stacked);
    }
    legend(svg, &lines, unit, frame.below + 18.0);
    let _ = write!(svg, "<text class=\"soft\" x=\"{}\" y=\"21\" text-anchor=\"end\">up to {}</text>", frame.right, shown(range[1], unit));
}

/// The lines' names with their last values, as many as there is room for.
fn legend(svg: &mut String, lines: &[Line], unit: &str, top: f64) {
    for (index, (name, points)) in lines.iter().enumerate().take(ROWS) {
        let (y, colour) = (top + 16.0 * index as f64, COLOURS[index % COLOURS.len()]);
        let last = points.last().map_or("-".into(), |(_, value)| shown(*value, unit));
        let more = lines.len() - ROWS.min(lines.len());
        let more = if index + 1 == ROWS && more > 0 { format!(", and {more} more") } else { String::new() };
        let _ = write!(svg, "<rect x=\"12\" y=\"{}\" width=\"10\" height=\"3\" fill=\"{colour}\"/>", y - 5.0);
        let _ = write!(svg, "<text x=\"28\" y=\"{y}\">{}  <tspan class=\"soft\">{last}{more}</tspan></text>", escaped(name));
    }
}

/// Where it is drawn, and the seconds it spans.
struct Frame {
    left: f64,
    right: f64,
    above: f64,
    below: f64,
    span: [f64; 2],
}

impl Frame {
    fn shape(&self, svg: &mut String, points: &[(f64, f64)], [low, top]: [f64; 2], colour: &str, filled: bool) {
        let seconds = (self.span[1] - self.span[0]).max(1.0);
        let x = |time: f64| self.left + (self.right - self.left) * ((time - self.span[0]) / seconds).clamp(0.0, 1.0);
        let y = |value: f64| self.below - (self.below - self.above) * (value - low) / (top - low).max(f64::MIN_POSITIVE);
        let outline: Vec<String> = points.iter().map(|(time, value)| format!("{:.1},{:.1}", x(*time), y(*value))).collect();
        let outline = outline.join(" ");
        let _ = match (filled, points) {
            (true, [(first, _), .., (last, _)]) => {
                let floor = y(low.max(0.0));
                write!(svg, "<polygon fill=\"{colour}\" points=\"{:.1},{floor:.1} {outline} {:.1},{floor:.1}\"/>", x(*first), x(*last))
            }
            _ => write!(svg, "<polyline stroke=\"{colour}\" points=\"{outline}\"/>"),
        };
    }
}

/// Each line on top of those before it.
fn piled(lines: &[Line]) -> Vec<Line> {
    let pile = |index: usize| lines[index].1.iter().map(|(time, _)| (*time, at(&lines[..=index], *time))).collect();
    (0..lines.len()).map(|index| (lines[index].0.clone(), pile(index))).collect()
}

/// Each line as its share of all.
fn shares(lines: &[Line]) -> Vec<Line> {
    let share = |(time, value): &(f64, f64)| (*time, value / at(lines, *time).max(f64::MIN_POSITIVE));
    lines.iter().map(|(name, points)| (name.clone(), points.iter().map(share).collect())).collect()
}

/// The sum of all lines at a time.
fn at(lines: &[Line], time: f64) -> f64 {
    lines.iter().flat_map(|(_, points)| points).filter(|(at, _)| *at == time).map(|(_, value)| value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_lie_on_those_before_them_and_shares_fill_the_height() {
        let lines = vec![("a".to_owned(), vec![(0.0, 1.0), (1.0, 3.0)]), ("b".to_owned(), vec![(1.0, 1.0)])];
        assert_eq!(piled(&lines)[1].1, [(1.0, 4.0)]);
        assert_eq!(shares(&lines)[0].1, [(0.0, 1.0), (1.0, 0.75)]);
        assert_eq!(piled(&shares(&lines))[1].1, [(1.0, 1.0)]);
    }
}
