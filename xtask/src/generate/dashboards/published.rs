//! Our dashboards against Grafana's published types: every field is one that Grafana knows, of the type it has there, with a value it takes.
//!
//! `grafana_schema.json` has the types; the script beside it makes it from Grafana's SDK.

use serde_json::{Value, json};

const PUBLISHED: &str = include_str!("grafana_schema.json");

/// Fields that Grafana writes and reads although its published types lack them: the text of a variable's query, for its settings page.
const KNOWN_GAPS: [&str; 1] = ["dashboard.VariableModel.definition"];

struct Types(Value);

impl Types {
    fn published() -> Self {
        Self(serde_json::from_str(PUBLISHED).unwrap())
    }

    /// Everything wrong with a dashboard, by path.
    fn wrong(&self, dashboard: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.class("dashboard.Dashboard", dashboard, "", None, &mut wrong);
        wrong
    }

    fn class(&self, name: &str, value: &Value, path: &str, panel: Option<&Value>, wrong: &mut Vec<String>) {
        let known = self.0["classes"][name].as_object().unwrap_or_else(|| panic!("{name} is no class"));
        let Some(fields) = value.as_object() else { return wrong.push(format!("{path}: expected {name}, found {value}")) };
        let panel = if name == "dashboard.Panel" { Some(value) } else { panel };
        for (field, value) in fields {
            let path = format!("{path}/{field}");
            match known.get(field) {
                None if KNOWN_GAPS.contains(&format!("{name}.{field}").as_str()) => {}
                None => wrong.push(format!("{path}: {name} has no such field")),
                // What is a panel's own depends on its kind.
                Some(_) if (name, field.as_str()) == ("dashboard.Panel", "options") => self.own("options", value, &path, panel, wrong),
                Some(_) if (name, field.as_str()) == ("dashboard.FieldConfig", "custom") => self.own("custom", value, &path, panel, wrong),
                Some(kind) => self.value(kind, value, &path, panel, wrong),
            }
        }
    }

    fn own(&self, what: &str, value: &Value, path: &str, panel: Option<&Value>, wrong: &mut Vec<String>) {
        let kind = panel.and_then(|panel| panel["type"].as_str()).unwrap_or_default().replace('-', "");
        match &self.0["panels"][&kind][what] {
            Value::Null => wrong.push(format!("{path}: a panel of kind {kind:?} has no {what}")),
            expected => self.value(expected, value, path, panel, wrong),
        }
    }

    fn value(&self, kind: &Value, value: &Value, path: &str, panel: Option<&Value>, wrong: &mut Vec<String>) {
        if let Some(name) = kind["class"].as_str() {
            return self.class(name, value, path, panel, wrong);
        }
        if let Some(of) = kind.get("any_of").and_then(Value::as_array) {
            let tried: Vec<Vec<String>> = of
                .iter()
                .map(|kind| {
                    let mut wrong = Vec::new();
                    self.value(kind, value, path, panel, &mut wrong);
                    wrong
                })
                .collect();
            // The one that fits best says what is wrong.
            return wrong.extend(tried.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
        if let (Some(of), Some(items)) = (kind.get("list"), value.as_array()) {
            return items.iter().enumerate().for_each(|(index, item)| self.value(of, item, &format!("{path}/{index}"), panel, wrong));
        }
        if let (Some(of), Some(fields)) = (kind.get("map"), value.as_object()) {
            return fields.iter().for_each(|(name, field)| self.value(of, field, &format!("{path}/{name}"), panel, wrong));
        }
        let fits = match (kind.as_str(), kind.get("one_of").and_then(Value::as_array)) {
            (_, Some(values)) => values.contains(value),
            (Some("any"), _) => true,
            (Some("null"), _) => value.is_null(),
            (Some("bool"), _) => value.is_boolean(),
            (Some("string"), _) => value.is_string(),
            (Some("int"), _) => value.is_i64() || value.is_u64(),
            (Some("number"), _) => value.is_number(),
            _ => false,
        };
        if !fits {
            wrong.push(format!("{path}: expected {kind}, found {value}"));
        }
    }
}

fn dashboards() -> Vec<Value> {
    super::files().unwrap().into_iter().map(|(_, text)| serde_json::from_str(&text).unwrap()).collect()
}

#[test]
fn dashboards_are_what_grafana_publishes() {
    let types = Types::published();
    for dashboard in dashboards() {
        assert_eq!(types.wrong(&dashboard), Vec::<String>::new(), "{}", dashboard["title"]);
    }
}

#[test]
fn what_grafana_does_not_know_is_found() {
    let types = Types::published();
    let dashboard = dashboards().remove(0);
    let number = dashboard["panels"].as_array().unwrap().iter().position(|panel| panel["type"] == "timeseries").unwrap();
    let check = |pointer: &str, value: Value, expect: &str| {
        let mut broken = dashboard.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let pointer = parent.replace("PANEL", &number.to_string());
        broken.pointer_mut(&pointer).unwrap_or_else(|| panic!("{pointer}"))[field] = value;
        let wrong = types.wrong(&broken);
        assert!(matches!(wrong.as_slice(), [one] if one.contains(expect)), "{wrong:?}");
    };
    check("/titel", json!("x"), "has no such field");
    check("/panels/PANEL/fieldConfig/defaults/unti", json!("s"), "has no such field");
    check("/panels/PANEL/options/tooltip/mode", json!("sometimes"), "expected");
    check("/panels/PANEL/fieldConfig/defaults/custom/fillOpacity", json!("much"), "expected");
    check("/panels/PANEL/fieldConfig/defaults/custom/glow", json!(1), "has no such field");
    check("/panels/PANEL/gridPos/w", json!("wide"), "expected");
    check("/panels/PANEL/targets/0/exprs", json!("up"), "has no such field");
    check("/templating/list/0/type", json!("guess"), "expected");
    check("/links/0/url", json!(7), "expected");
}
