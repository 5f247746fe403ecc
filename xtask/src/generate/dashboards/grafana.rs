//! The parts a dashboard is made of, and the JSON Grafana has for them (the classic model, schema version 39: Grafana 10.4 and later).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::scope::{Variable, labels, scoped};

const PAGE_HEAD: &str = "<!-- Made by `make generate` from xtask/src/generate/dashboards. -->\n";
const PICTURE_NOTE: &str =
    "Drawn from what a Prometheus saw of a test's few seconds of traffic, dear on purpose; Grafana lays it out alike.";
/// Grafana's grid is this wide.
const COLUMNS: u32 = 24;

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

    fn json(&self, variables: &[Variable]) -> anyhow::Result<Value> {
        let targets = (0_u8..).zip(&self.queries).map(|(index, query)| self.target(index, query, variables));
        let targets = targets.collect::<anyhow::Result<Vec<_>>>()?;
        let kind = match self.look {
            Look::Lines | Look::Stacked | Look::Shares => "timeseries",
            Look::Number => "stat",
            Look::Bars => "bargauge",
            Look::Table => "table",
            Look::States => "state-timeline",
        };
        let mut json = json!({
            "type": kind,
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
            "targets": targets,
        });
        if self.look == Look::Table {
            json["transformations"] = self.joined();
        }
        Ok(json)
    }

    fn is_instant(&self) -> bool {
        matches!(self.look, Look::Number | Look::Bars | Look::Table)
    }

    fn target(&self, index: u8, query: &Query, variables: &[Variable]) -> anyhow::Result<Value> {
        Ok(json!({
            "refId": char::from(b'A' + index).to_string(),
            "datasource": datasource(),
            "expr": scoped(&query.expression, variables)?,
            "legendFormat": query.legend,
            "instant": self.is_instant(),
            "range": !self.is_instant(),
            "format": if self.look == Look::Table { "table" } else { "time_series" },
        }))
    }

    fn defaults(&self) -> Value {
        let mut steps = vec![json!({"color": "green", "value": null})];
        steps.extend(self.limits.iter().map(|(value, color)| json!({"color": color, "value": value})));
        let mode = if self.is_instant() || self.look == Look::States { "thresholds" } else { "palette-classic" };
        let mut defaults = json!({
            "unit": self.unit.id(),
            "color": {"mode": mode},
            "thresholds": {"mode": "absolute", "steps": steps},
            "noValue": "none yet",
        });
        if let Some(decimals) = self.unit.decimals() {
            defaults["decimals"] = json!(decimals);
        }
        match self.look {
            Look::Lines => defaults["custom"] = drawn(0, "none"),
            Look::Stacked => defaults["custom"] = drawn(40, "normal"),
            Look::Shares => defaults["custom"] = drawn(60, "percent"),
            Look::States => {
                defaults["mappings"] = json!([{"type": "value", "options": {
                    "0": {"text": "no", "color": "green", "index": 0}, "1": {"text": "yes", "color": "red", "index": 1}}}]);
            }
            Look::Bars => {
                defaults["min"] = json!(0);
            }
            Look::Number | Look::Table => {}
        }
        defaults
    }

    fn overrides(&self) -> Value {
        let unit = |query: &Query| {
            let unit = query.unit?;
            Some(json!({"matcher": {"id": "byName", "options": query.legend}, "properties": [{"id": "unit", "value": unit.id()}]}))
        };
        self.queries.iter().filter_map(unit).collect()
    }

    fn options(&self) -> Value {
        let reduce = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.look {
            Look::Lines | Look::Stacked | Look::Shares => json!({
                "legend": {"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["mean", "lastNotNull"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Look::Number => json!({"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "textMode": "auto"}),
            Look::Bars => json!({"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic", "showUnfilled": true}),
            Look::Table => {
                json!({"showHeader": true, "cellHeight": "sm", "sortBy": [{"displayName": self.queries[0].legend, "desc": true}]})
            }
            Look::States => json!({"showValue": "never", "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true}}),
        }
    }

    /// The queries' tables as one, with the columns' names.
    fn joined(&self) -> Value {
        let names = (0_u8..).zip(&self.queries).map(|(index, query)| {
            let value = if self.queries.len() == 1 { "Value".to_owned() } else { format!("Value #{}", char::from(b'A' + index)) };
            (value, json!(query.legend))
        });
        let names: serde_json::Map<_, _> = names.collect();
        json!([
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": true}, "renameByName": names}},
        ])
    }
}

fn drawn(fill: u32, stacking: &str) -> Value {
    json!({
        "drawStyle": "line", "lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "spanNulls": false,
        "stacking": {"mode": stacking, "group": "A"},
    })
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
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
    /// As Grafana loads it.
    pub(super) fn json(&self, dashboards: &[(&str, &str)]) -> anyhow::Result<Value> {
        Ok(json!({
            "uid": self.uid,
            "title": format!("Expert Router / {}", self.title),
            "description": self.description,
            "tags": ["expert-router"],
            "schemaVersion": 39,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "links": self.links(dashboards),
            "annotations": {"list": []},
            "templating": {"list": self.variables()?},
            "panels": self.panels()?,
        }))
    }

    fn links(&self, dashboards: &[(&str, &str)]) -> Value {
        let others = dashboards.iter().filter(|(uid, _)| *uid != self.uid);
        let link = |(uid, title): &(&str, &str)| {
            json!({
                "type": "link", "title": title, "url": format!("/d/{uid}"), "icon": "dashboard", "tooltip": "", "tags": [],
                "asDropdown": false, "includeVars": true, "keepTime": true, "targetBlank": false,
            })
        };
        others.map(link).collect()
    }

    fn variables(&self) -> anyhow::Result<Value> {
        let mut list = vec![json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "regex": "",
            "refresh": 1, "multi": false, "includeAll": false, "current": {},
        })];
        for (index, variable) in self.variables.iter().enumerate() {
            let metric = self.population.iter().find(|(other, _)| other == variable).map_or("", |(_, metric)| metric);
            // Each variable depends on those before it.
            let labels = labels(metric).unwrap_or_default();
            let query = format!("label_values({}, {})", scoped(metric, &self.variables[..index])?, variable.label(&labels));
            list.push(json!({
                "name": variable.name(), "label": variable.title(), "type": "query", "datasource": datasource(), "hide": 0,
                "query": {"query": query, "refId": variable.name()}, "definition": query, "refresh": 2, "regex": "", "sort": 1,
                // What has no such label, as a router outside a cluster has no namespace, is among "all" too.
                "multi": true, "includeAll": true, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
            }));
        }
        Ok(Value::Array(list))
    }

    fn panels(&self) -> anyhow::Result<Value> {
        let (mut panels, mut y) = (Vec::new(), 0);
        for row in &self.rows {
            panels.push(json!({"type": "row", "title": row.title, "collapsed": false, "panels": []}));
            place(panels.last_mut(), 0, y, COLUMNS, 1);
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, height) = (0, y + height, 0);
                }
                panels.push(panel.json(self.variables)?);
                place(panels.last_mut(), x, y, panel.width, panel.height());
                x += panel.width;
                height = height.max(panel.height());
            }
            y += height;
        }
        for (id, panel) in (1_u32..).zip(&mut panels) {
            panel["id"] = json!(id);
        }
        Ok(Value::Array(panels))
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

fn place(panel: Option<&mut Value>, x: u32, y: u32, width: u32, height: u32) {
    if let Some(panel) = panel {
        panel["gridPos"] = json!({"x": x, "y": y, "w": width, "h": height});
    }
}
