//! The parts a dashboard is made of, and its page in docs/.

mod json;

use std::fmt::Write as _;

use super::scope::Variable;

const PAGE_HEAD: &str = "<!-- Made by `make generate` from xtask/src/generate/dashboards. -->\n";
const PICTURE_NOTE: &str =
    "Drawn from what a Prometheus saw of a test's few seconds of traffic, dear on purpose; Grafana lays it out alike.";

/// One page.
pub(super) struct Dashboard {
    /// The file's name and the page's address.
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) variables: &'static [Variable],
    /// The metric whose labels are the choices of the variables.
    pub(super) population: &'static [(Variable, &'static str)],
    pub(super) rows: Vec<Row>,
}

/// Panels under a heading.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// One picture.
pub(super) struct Panel {
    title: &'static str,
    description: &'static str,
    look: Look,
    unit: Unit,
    width: u32,
    queries: Vec<Query>,
    limits: &'static [(f64, &'static str)],
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Lines,
    Stacked,
    Shares,
    Number,
    Bars,
    Table,
    States,
}

/// What its numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    PerSecond,
    Seconds,
    Dollars,
    Share,
    Tokens,
    TokensPerSecond,
    TokensPerDollar,
    Score,
    Bytes,
    State,
    Time,
}

impl Unit {
    fn id(self) -> &'static str {
        match self {
            Self::Count => "short",
            Self::PerSecond => "reqps",
            Self::Seconds => "s",
            Self::Dollars => "currencyUSD",
            Self::Share => "percentunit",
            Self::Tokens => "suffix: tokens",
            Self::TokensPerSecond => "suffix: tokens/s",
            Self::TokensPerDollar => "suffix: tokens/$",
            Self::Score => "none",
            Self::Bytes => "bytes",
            Self::State => "bool",
            Self::Time => "dateTimeAsIso",
        }
    }

    fn decimals(self) -> Option<u32> {
        match self {
            Self::Score => Some(3),
            _ => None,
        }
    }
}

/// One expression and what its lines are called; in a table, what its column is called.
pub(super) struct Query {
    expression: String,
    legend: &'static str,
    unit: Option<Unit>,
}

/// A line, or several by label.
pub(super) fn query(expression: impl Into<String>, legend: &'static str) -> Query {
    Query { expression: expression.into(), legend, unit: None }
}

/// A table's column.
pub(super) fn column(expression: impl Into<String>, heading: &'static str, unit: Unit) -> Query {
    Query { expression: expression.into(), legend: heading, unit: Some(unit) }
}

fn panel<const N: usize>(look: Look, width: u32, unit: Unit, title: &'static str, description: &'static str, queries: [Query; N]) -> Panel {
    Panel { title, description, look, unit, width, queries: queries.into(), limits: &[] }
}

/// Lines over time.
pub(super) fn lines<const N: usize>(unit: Unit, title: &'static str, description: &'static str, queries: [Query; N]) -> Panel {
    panel(Look::Lines, 12, unit, title, description, queries)
}

/// Areas one above the other.
pub(super) fn stacked<const N: usize>(unit: Unit, title: &'static str, description: &'static str, queries: [Query; N]) -> Panel {
    panel(Look::Stacked, 12, unit, title, description, queries)
}

/// Areas that fill the height together.
pub(super) fn shares<const N: usize>(unit: Unit, title: &'static str, description: &'static str, queries: [Query; N]) -> Panel {
    panel(Look::Shares, 12, unit, title, description, queries)
}

/// One large number.
pub(super) fn number(unit: Unit, title: &'static str, description: &'static str, query: Query) -> Panel {
    panel(Look::Number, 4, unit, title, description, [query])
}

/// A bar for each.
pub(super) fn bars<const N: usize>(unit: Unit, title: &'static str, description: &'static str, queries: [Query; N]) -> Panel {
    panel(Look::Bars, 12, unit, title, description, queries)
}

/// Rows by label, a column for each query.
pub(super) fn table<const N: usize>(title: &'static str, description: &'static str, columns: [Query; N]) -> Panel {
    panel(Look::Table, 24, Unit::Count, title, description, columns)
}

/// 0 and 1 over time, as a band for each.
pub(super) fn states<const N: usize>(title: &'static str, description: &'static str, queries: [Query; N]) -> Panel {
    panel(Look::States, 12, Unit::State, title, description, queries)
}

impl Panel {
    /// Of 24 columns.
    pub(super) fn wide(mut self, columns: u32) -> Self {
        self.width = columns;
        self
    }

    /// From which value on it is which colour; below the first it is green.
    pub(super) fn limits(mut self, limits: &'static [(f64, &'static str)]) -> Self {
        self.limits = limits;
        self
    }

    fn height(&self) -> u32 {
        if self.look == Look::Number { 4 } else { 8 }
    }
}

impl Variable {
    fn title(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Router => "Router",
            Self::Expert => "Expert",
            Self::Model => "Router model",
        }
    }
}

impl Dashboard {
    /// What each panel says, for people who have no Grafana at hand.
    pub(super) fn page(&self, picture: Option<&str>) -> String {
        let mut page = format!("{PAGE_HEAD}# {}\n\n{}\n\n", self.title, self.description);
        let variables: Vec<_> = self.variables.iter().map(|variable| variable.title()).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "`{}.json`; choices: data source, {}.", self.uid, variables.join(", ").to_lowercase());
        if let Some(picture) = picture {
            let _ = writeln!(page, "\n![{}]({picture})\n\n{PICTURE_NOTE}", self.title);
        }
        for row in &self.rows {
            let _ = write!(page, "\n## {}\n\n| panel | what it shows |\n|---|---|\n", row.title);
            for panel in &row.panels {
                let _ = writeln!(page, "| {} | {} |", panel.title, panel.description);
            }
        }
        page
    }
}
