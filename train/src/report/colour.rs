//! Colours that the page decides: plots are drawn in placeholders, which become variables of the style sheet.

use plotters::style::RGBColor;

/// A placeholder, and the variable that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
    pub(super) rgb: RGBColor,
    variable: &'static str,
}

const fn colour(number: u8, variable: &'static str) -> Colour {
    Colour { rgb: RGBColor(1, 2, number), variable }
}

/// Text and axes.
pub(super) const INK: Colour = colour(1, "--ink");
/// Lines behind the data.
pub(super) const GRID: Colour = colour(2, "--grid");
/// The router.
pub(super) const ROUTER: Colour = colour(3, "--router");
/// The best single expert.
pub(super) const SINGLE: Colour = colour(4, "--single");
/// Each expert.
pub(super) const EXPERT: Colour = colour(5, "--expert");
/// The best expert of each data set.
pub(super) const LABEL: Colour = colour(6, "--label");
/// The best of each query.
pub(super) const ORACLE: Colour = colour(7, "--oracle");

/// A plot with variables in place of placeholders.
pub(super) fn with_variables(svg: &str) -> String {
    [INK, GRID, ROUTER, SINGLE, EXPERT, LABEL, ORACLE].iter().fold(svg.to_owned(), |svg, Colour { rgb: RGBColor(r, g, b), variable }| {
        svg.replace(&format!("\"#{r:02X}{g:02X}{b:02X}\""), &format!("\"var({variable})\""))
    })
}
