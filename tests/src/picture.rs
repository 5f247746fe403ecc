//! Draws a dashboard as Grafana would lay it out, with what a Prometheus has, as one SVG: for docs/dashboards, where a reader wants to see
//! what a page shows before installing anything. Lines, numbers, bars and tables; no attempt at Grafana's looks.

mod graph;

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, Result};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::prometheus::{Prometheus, substituted};

const CELL: [f64; 2] = [42.0, 26.0];
const COLOURS: [&str; 8] = ["#3b6fd4", "#d9822b", "#1a9850", "#b23aa8", "#c0392b", "#0b8a9c", "#8a6d1f", "#6b7280"];
/// Lines of a legend, rows of a table.
const ROWS: usize = 5;
const STYLE: &str = "<style>text{font:12px system-ui,sans-serif;fill:#1c2430}.soft{fill:#5b6675}.big{font-size:22px}.row{font-weight:600;\
    font-size:13px}rect.back{fill:#f6f7f9}rect.card{fill:#fff;stroke:#dfe3e8}polyline{fill:none;stroke-width:1.5}polygon{opacity:.8}\
    @media(prefers-color-scheme:dark){text{fill:#e6eaf0}.soft{fill:#97a3b3}rect.back{fill:#12161c}rect.card{fill:#1b2129;stroke:#2c343f}}</style>";

/// One line: its name and its points in time.
type Line = (String, Vec<(f64, f64)>);

/// The page over the seconds from `start` to `end`.
///
/// # Errors
/// An expression is refused.
pub async fn draw(dashboard: &Value, prometheus: &Prometheus, start: f64, end: f64) -> Result<String> {
    let panels = dashboard["panels"].as_array().context("panels")?;
    let side = |panel: &Value, name: &str| panel["gridPos"][name].as_f64().unwrap_or_default();
    let height = panels.iter().map(|panel| side(panel, "y") + side(panel, "h")).fold(0.0, f64::max) * CELL[1];
    let width = 24.0 * CELL[0];
    let mut svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\">{STYLE}");
    let _ = write!(svg, "<rect class=\"back\" width=\"{width}\" height=\"{height}\"/>");
    for panel in panels {
        let [x, y, w, h] = [side(panel, "x") * CELL[0], side(panel, "y") * CELL[1], side(panel, "w") * CELL[0], side(panel, "h") * CELL[1]];
        let title = escaped(panel["title"].as_str().unwrap_or_default());
        let _ = write!(svg, "<g transform=\"translate({x} {y})\">");
        if panel["type"] == "row" {
            let _ = write!(svg, "<text class=\"row\" x=\"8\" y=\"18\">{title}</text></g>");
            continue;
        }
        let _ = write!(svg, "<rect class=\"card\" x=\"3\" y=\"3\" width=\"{}\" height=\"{}\" rx=\"4\"/>", w - 6.0, h - 6.0);
        let _ = write!(svg, "<text class=\"soft\" x=\"12\" y=\"21\">{title}</text>");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        match panel["type"].as_str().unwrap_or_default() {
            "stat" => {
                let value = lines(panel, prometheus, end, end).await?.first().and_then(|(_, points)| points.last().copied());
                let _ = write!(
                    svg,
                    "<text class=\"big\" x=\"12\" y=\"62\">{}</text>",
                    value.map_or("-".into(), |(_, value)| shown(value, unit))
                );
            }
            "table" => table(&mut svg, panel, prometheus, end, w).await?,
            "bargauge" => bars(&mut svg, &lines(panel, prometheus, end, end).await?, unit, w),
            _ => {
                let stacking = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"].as_str().unwrap_or_default();
                graph::draw(&mut svg, lines(panel, prometheus, start, end).await?, stacking, unit, [w, h], [start, end]);
            }
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

async fn lines(panel: &Value, prometheus: &Prometheus, start: f64, end: f64) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for target in panel["targets"].as_array().into_iter().flatten() {
        let expression = substituted(target["expr"].as_str().unwrap_or_default());
        let range = [("query", expression.as_str()), ("start", &start.to_string()), ("end", &end.to_string()), ("step", "1")];
        let data = prometheus.get("query_range", &range).await?;
        for series in data["result"].as_array().into_iter().flatten() {
            let point = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_str()?.parse::<f64>().ok().filter(|value| value.is_finite())?));
            let points: Vec<_> = series["values"].as_array().into_iter().flatten().filter_map(point).collect();
            if !points.is_empty() {
                lines.push((legend(target["legendFormat"].as_str().unwrap_or_default(), &series["metric"]), points));
            }
        }
    }
    Ok(lines)
}

fn legend(format: &str, labels: &Value) -> String {
    let mut text = format.to_owned();
    for (label, value) in labels.as_object().into_iter().flatten() {
        text = text.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap_or_default());
    }
    // A label that is empty is not there at all.
    while let Some((before, after)) = text.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?.1))) {
        text = format!("{before}{after}");
    }
    text
}

fn bars(svg: &mut String, lines: &[Line], unit: &str, w: f64) {
    let top = lines.iter().filter_map(|(_, points)| Some(points.last()?.1)).fold(1.0, f64::max);
    for (index, (name, points)) in lines.iter().enumerate().take(ROWS) {
        let (y, value) = (40.0 + 30.0 * index as f64, points.last().map_or(0.0, |(_, value)| *value));
        let width = (w - 24.0) * value.max(0.0) / top;
        let _ = write!(svg, "<text x=\"12\" y=\"{y}\">{}  <tspan class=\"soft\">{}</tspan></text>", escaped(name), shown(value, unit));
        let _ = write!(svg, "<rect x=\"12\" y=\"{}\" width=\"{width:.1}\" height=\"8\" rx=\"2\" fill=\"{}\"/>", y + 5.0, COLOURS[0]);
    }
}

async fn table(svg: &mut String, panel: &Value, prometheus: &Prometheus, end: f64, w: f64) -> Result<()> {
    let mut rows: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    let targets = panel["targets"].as_array().context("targets")?;
    for (index, target) in targets.iter().enumerate() {
        let expression = substituted(target["expr"].as_str().unwrap_or_default());
        let data = prometheus.get("query", &[("query", &expression), ("time", &end.to_string())]).await?;
        for sample in data["result"].as_array().into_iter().flatten() {
            let labels = sample["metric"].as_object().into_iter().flatten().filter(|(name, _)| *name != "__name__");
            let name = labels.filter_map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" / ");
            let value = sample["value"][1].as_str().and_then(|text| text.parse().ok());
            rows.entry(name).or_insert_with(|| vec![None; targets.len()])[index] = value;
        }
    }
    let column = |index: usize| 230.0 + (w - 250.0) * (index + 1) as f64 / targets.len() as f64;
    let mut units = BTreeMap::new();
    for override_ in panel["fieldConfig"]["overrides"].as_array().into_iter().flatten() {
        units.insert(
            override_["matcher"]["options"].as_str().unwrap_or_default(),
            override_["properties"][0]["value"].as_str().unwrap_or_default(),
        );
    }
    for (index, target) in targets.iter().enumerate() {
        let heading = escaped(target["legendFormat"].as_str().unwrap_or_default());
        let _ = write!(svg, "<text class=\"soft\" x=\"{:.0}\" y=\"44\" text-anchor=\"end\">{heading}</text>", column(index));
    }
    for (number, (name, values)) in rows.iter().enumerate().take(ROWS + 1) {
        let y = 66.0 + 22.0 * number as f64;
        let _ = write!(svg, "<text x=\"12\" y=\"{y}\">{}</text>", escaped(name));
        for (index, value) in values.iter().enumerate() {
            let unit = units.get(targets[index]["legendFormat"].as_str().unwrap_or_default()).copied().unwrap_or_default();
            let text = value.map_or("-".into(), |value| shown(value, unit));
            let _ = write!(svg, "<text x=\"{:.0}\" y=\"{y}\" text-anchor=\"end\">{text}</text>", column(index));
        }
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// As a person writes it.
fn shown(value: f64, unit: &str) -> String {
    let short = |value: f64| match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e9 => format!("{:.1} G", value / 1e9),
        size if size >= 1e6 => format!("{:.1} M", value / 1e6),
        size if size >= 1e3 => format!("{:.1} k", value / 1e3),
        size if size >= 10.0 || size.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    match unit {
        _ if !value.is_finite() => "-".to_owned(),
        "currencyUSD" => format!("${}", short(value)),
        "percentunit" => format!("{:.1} %", 100.0 * value),
        "s" if value.abs() < 1e-3 => format!("{:.0} µs", 1e6 * value),
        "s" if value.abs() < 1.0 => format!("{:.1} ms", 1e3 * value),
        "s" if value.abs() > 7200.0 => format!("{:.0} h", value / 3600.0),
        "s" => format!("{value:.1} s"),
        "reqps" => format!("{}/s", short(value)),
        "bool" => if value > 0.0 { "yes" } else { "no" }.to_owned(),
        "bytes" => format!("{}B", short(value)),
        "dateTimeAsIso" => Timestamp::from_millisecond(value as i64).map_or("-".into(), |at| at.to_string().chars().take(10).collect()),
        _ => format!("{}{}", short(value), unit.strip_prefix("suffix:").unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_their_units() {
        assert_eq!(shown(0.00012, "s"), "120 µs");
        assert_eq!(shown(1234.0, "currencyUSD"), "$1.2 k");
        assert_eq!(shown(0.125, "percentunit"), "12.5 %");
        assert_eq!(shown(12.0, "suffix: tokens/s"), "12 tokens/s");
        assert_eq!((shown(2.0, "short"), shown(2.5, "short")), ("2".to_owned(), "2.50".to_owned()));
        assert_eq!(shown(62_800_000.0, "bytes"), "62.8 MB");
        assert_eq!(shown(4_102_444_800_000.0, "dateTimeAsIso"), "2100-01-01");
    }
}
