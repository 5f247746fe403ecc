//! Grafana's dashboards, written from what stands here: five pages that say for every router who gets what and why, what it costs and
//! saves, how the experts fare, how training goes, and what the operator does.
//!
//! In: the tables of metrics. Out: JSON that Grafana loads (the chart's ConfigMaps) or imports. A dashboard names metrics as Prometheus
//! shows them; [`scope`] adds the matchers of its variables and refuses names that nobody counts.

mod cost;
mod experts;
mod grafana;
mod operator;
#[cfg(test)]
mod published;
mod routing;
pub(super) mod scope;
mod training;

use std::path::PathBuf;

use anyhow::Context as _;

use grafana::Dashboard;

/// Where they lie in the workspace.
const FOLDER: &str = "charts/expert-router/files/dashboards";

/// What their panels mean, and pictures of them.
const PAGES: &str = "docs/dashboards";

/// All of them, in the order of their links.
fn all() -> Vec<Dashboard> {
    vec![routing::dashboard(), cost::dashboard(), experts::dashboard(), training::dashboard(), operator::dashboard()]
}

/// Every dashboard's page in docs/.
pub(super) fn pages() -> Vec<(PathBuf, String)> {
    let page = |dashboard: &Dashboard| {
        let name = dashboard.uid.trim_start_matches("expert-router-");
        let picture = format!("{name}.svg");
        let drawn = crate::workspace().join(PAGES).join(&picture).is_file();
        (PathBuf::from(PAGES).join(format!("{name}.md")), dashboard.page(drawn.then_some(picture.as_str())))
    };
    all().iter().map(page).collect()
}

/// Every dashboard's file.
pub(super) fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let dashboards = all();
    let links: Vec<_> = dashboards.iter().map(|dashboard| (dashboard.uid, dashboard.title)).collect();
    let file = |dashboard: &Dashboard| {
        let json = dashboard.json(&links).with_context(|| format!("the dashboard {}", dashboard.title))?;
        let path = PathBuf::from(FOLDER).join(format!("{}.json", dashboard.uid));
        Ok((path, format!("{}\n", serde_json::to_string_pretty(&json)?)))
    };
    dashboards.iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn jsons() -> Vec<Value> {
        files().unwrap().into_iter().map(|(_, text)| serde_json::from_str(&text).unwrap()).collect()
    }

    fn texts<'a>(value: &'a Value, field: &str, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let (true, Some(text)) = (name == field, value.as_str()) {
                        found.push(text);
                    }
                    texts(value, field, found);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| texts(value, field, found)),
            _ => {}
        }
    }

    fn all_texts<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
        let mut found = Vec::new();
        texts(value, field, &mut found);
        found
    }

    #[test]
    fn names_on_the_wall_are_unique() {
        let dashboards = jsons();
        let uids: BTreeSet<_> = dashboards.iter().map(|json| json["uid"].as_str().unwrap()).collect();
        assert_eq!(uids.len(), dashboards.len());
        // Grafana takes no more.
        assert!(uids.iter().all(|uid| uid.len() <= 40));
        for json in &dashboards {
            let ids: BTreeSet<_> = json["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
            assert_eq!(ids.len(), json["panels"].as_array().unwrap().len());
            let titles: Vec<_> = json["panels"].as_array().unwrap().iter().map(|panel| panel["title"].as_str().unwrap()).collect();
            assert_eq!(titles.iter().collect::<BTreeSet<_>>().len(), titles.len(), "{titles:?}");
        }
    }

    #[test]
    fn every_variable_is_asked_for_somewhere() {
        for json in jsons() {
            let expressions = all_texts(&json["panels"], "expr").join("\n");
            let sources = all_texts(&json["panels"], "uid");
            for variable in json["templating"]["list"].as_array().unwrap() {
                let name = variable["name"].as_str().unwrap();
                let used = match name {
                    "datasource" => sources.iter().all(|uid| *uid == "${datasource}") && !sources.is_empty(),
                    _ => expressions.contains(&format!("\"${name}\"")),
                };
                assert!(used, "{}: {name}", json["title"]);
            }
            for word in expressions.split('$').skip(1) {
                let name: String = word.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let known = json["templating"]["list"].as_array().unwrap().iter().any(|variable| variable["name"] == name.as_str());
                assert!(known || name.starts_with("__"), "{}: ${name} is no variable", json["title"]);
            }
        }
    }

    #[test]
    fn every_panel_says_what_it_shows_in_which_unit() {
        for json in jsons() {
            for panel in json["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
                let about = format!("{} / {}", json["title"], panel["title"]);
                assert!(panel["description"].as_str().unwrap().ends_with('.'), "{about}");
                assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{about}");
                for target in panel["targets"].as_array().unwrap() {
                    assert!(!target["legendFormat"].as_str().unwrap().is_empty(), "{about}");
                }
            }
        }
    }

    #[test]
    fn panels_fill_the_grid_and_do_not_overlap() {
        for json in jsons() {
            let mut taken = BTreeSet::new();
            for panel in json["panels"].as_array().unwrap() {
                let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
                assert!(at("x") + at("w") <= 24, "{panel}");
                for x in at("x")..at("x") + at("w") {
                    for y in at("y")..at("y") + at("h") {
                        assert!(taken.insert((x, y)), "{} / {} overlaps", json["title"], panel["title"]);
                    }
                }
            }
        }
    }

    #[test]
    fn links_lead_to_dashboards_that_are_there() {
        let dashboards = jsons();
        let uids: BTreeSet<_> = dashboards.iter().map(|json| json["uid"].as_str().unwrap()).collect();
        for json in &dashboards {
            for url in all_texts(json, "url") {
                let uid = url.strip_prefix("/d/").unwrap().split('?').next().unwrap();
                assert!(uids.contains(uid), "{url}");
            }
        }
    }
}
