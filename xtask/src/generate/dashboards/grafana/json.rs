//! The JSON Grafana has for a dashboard: the classic model, schema version 39, of Grafana 10.4 and later.

use serde_json::{Value, json};

use super::{
    super::scope::{Variable, labels, scoped},
    Dashboard, Look, Panel, Query,
};

/// Grafana's grid is this wide.
const COLUMNS: u32 = 24;

impl Dashboard {
    /// As Grafana loads it.
    pub(in crate::generate::dashboards) fn json(&self, dashboards: &[(&str, &str)]) -> anyhow::Result<Value> {
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

fn place(panel: Option<&mut Value>, x: u32, y: u32, width: u32, height: u32) {
    if let Some(panel) = panel {
        panel["gridPos"] = json!({"x": x, "y": y, "w": width, "h": height});
    }
}

impl Panel {
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
