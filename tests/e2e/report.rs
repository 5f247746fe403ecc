//! What a run found: `report.md` for people, `report.json` for programs.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    load::unix_milliseconds,
    metering::{Tally, quantile},
    options::Options,
};

/// What was broken, and what became of the requests meanwhile.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) name: String,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The counts.
    pub(crate) tally: Tally,
    /// What else is worth knowing.
    pub(crate) note: String,
    /// What was not as expected; empty where all was.
    pub(crate) wrong: Vec<String>,
}

/// Seconds from a change to the first request decided by it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Alive {
    /// What was changed.
    pub(crate) change: String,
    /// Through which proxy it was seen: gateway or sidecar.
    pub(crate) through: String,
    /// From the start of the call that changed it.
    pub(crate) seconds: Vec<f64>,
    /// Of those, until the API server had answered that call.
    pub(crate) api_server: Vec<f64>,
}

impl Alive {
    /// At this share of the times: the whole, the API server's part of it, and what was beyond that part.
    fn at(&self, share: f64) -> [f64; 3] {
        let beyond: Vec<f64> = self.seconds.iter().zip(&self.api_server).map(|(whole, own)| whole - own).collect();
        [self.seconds.clone(), self.api_server.clone(), beyond].map(|mut values| quantile(&mut values, share))
    }

    /// Beyond the API server's own time, nine times of ten at most.
    pub(crate) fn beyond_p90(&self) -> f64 {
        self.at(0.9)[2]
    }
}

/// What a process took over a long load.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Resources {
    /// Whose: Pod and container.
    pub(crate) process: String,
    /// Resident bytes, sample by sample.
    pub(crate) resident: Vec<f64>,
    /// Open files, where it is told.
    pub(crate) files: Vec<f64>,
    /// Client connections, where it has any.
    pub(crate) connections: Vec<f64>,
}

/// Sections in the order they came.
pub(crate) struct Report {
    folder: PathBuf,
    sections: Vec<(String, String)>,
    rows: Vec<Row>,
    alive: Vec<Alive>,
    resources: Vec<Resources>,
    skipped: Vec<String>,
    failures: Vec<String>,
}

/// As a program reads it.
#[derive(Serialize)]
struct Json<'a> {
    date: String,
    version: String,
    faults: &'a [Row],
    time_to_live: &'a [Alive],
    soak: &'a [Resources],
    skipped: &'a [String],
    failures: &'a [String],
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            folder: options.output.clone(),
            sections: Vec::new(),
            rows: Vec::new(),
            alive: Vec::new(),
            resources: Vec::new(),
            skipped: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a section of Markdown.
    pub(crate) fn section(&mut self, title: &str, text: &str) {
        self.sections.push((title.to_owned(), text.to_owned()));
    }

    /// Adds a fault.
    pub(crate) fn fault(&mut self, row: Row) {
        self.failures.extend(row.wrong.iter().map(|wrong| format!("{}: {wrong}", row.name)));
        self.rows.push(row);
    }

    /// Adds times.
    pub(crate) fn alive(&mut self, alive: Alive) {
        self.alive.push(alive);
    }

    /// Adds what a process took.
    pub(crate) fn resources(&mut self, resources: Resources) {
        self.resources.push(resources);
    }

    /// Something that could not be done here.
    pub(crate) fn skip(&mut self, what: &str) {
        println!("left out: {what}");
        self.skipped.push(what.to_owned());
    }

    /// Something is not as it should be; the run goes on, and fails at its end.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("NOT AS EXPECTED: {what}");
        self.failures.push(what);
    }

    /// All that was not as it should be.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("making {}", self.folder.display()))?;
        let path = self.folder.join("report.md");
        fs::write(&path, self.markdown()).with_context(|| format!("writing {}", path.display()))?;
        let json = Json {
            date: today(),
            version: version(),
            faults: &self.rows,
            time_to_live: &self.alive,
            soak: &self.resources,
            skipped: &self.skipped,
            failures: &self.failures,
        };
        let path = self.folder.join("report.json");
        fs::write(&path, serde_json::to_vec_pretty(&json)?).with_context(|| format!("writing {}", path.display()))
    }

    fn markdown(&self) -> String {
        let verdict = if self.failures.is_empty() { "All was as expected.".to_owned() } else { list("Not as expected:", &self.failures) };
        let mut text = format!("# The end-to-end run\n\n{}, version {}. {verdict}\n", today(), version());
        for (title, section) in &self.sections {
            text += &format!("\n## {title}\n\n{}\n", section.trim_end());
        }
        if !self.rows.is_empty() {
            text += &format!("\n## Faults under load\n\n{}", faults(&self.rows));
        }
        if !self.alive.is_empty() {
            text += &format!("\n## Time to live\n\n{}", time_to_live(&self.alive));
        }
        if !self.resources.is_empty() {
            text += &format!("\n## What processes took over the long load\n\n{}", soak(&self.resources));
        }
        if !self.skipped.is_empty() {
            text += &format!("\n## Left out\n\n{}\n", list("", &self.skipped));
        }
        text
    }
}

const FAULTS: &str = "\
Every request has an id, and is counted at its client. *Failed*: an error, or nothing at all, instead of an answer. *Raced*: met a kept
connection that was just being closed, without a byte of an answer, which HTTP leaves to clients to send again (ours do not). *Cut*: broke
off after its first byte, and was seen as an error; one that ended silently would fail the run. *Retried*: requests to experts beyond the
first. *Fallen back*: answered by another expert than was chosen. *Metered*: logged by exactly one proxy exactly once, of those that got a
response.

";

fn faults(rows: &[Row]) -> String {
    let mut text = FAULTS.to_owned();
    text += "| what was done | s | sent | answered | failed | raced | cut | retried | fallen back | metered | verdict |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
    for row in rows {
        let Tally { sent, answered, failed, raced, cut, retried, fallen_back, metered, .. } = &row.tally;
        let verdict =
            if row.wrong.is_empty() { "as expected".to_owned() } else { format!("**{}**", row.wrong.join("; ").replace(['|', '\n'], " ")) };
        let note = if row.note.is_empty() { String::new() } else { format!(": {}", row.note) };
        text += &format!(
            "| {} | {:.0} | {sent} | {answered} | {failed} | {raced} | {cut} | {retried} | {fallen_back} | {metered} | {verdict}{note} |\n",
            row.name, row.seconds
        );
    }
    let mut troubles = BTreeMap::<&str, u64>::new();
    for (trouble, times) in rows.iter().flat_map(|row| &row.tally.troubles) {
        *troubles.entry(trouble).or_default() += times;
    }
    if !troubles.is_empty() {
        text += "\nHow requests failed or broke off, over all:\n\n";
        for (trouble, times) in troubles {
            text += &format!("- {times} × {trouble}\n");
        }
    }
    text
}

const LIVE: &str = "\
Seconds from the start of the call that changes an object to the first request that was decided by the change; how long the API server took
for that call; and the difference. A first change, to Pods that had just started, is not counted.

";

fn time_to_live(all: &[Alive]) -> String {
    let mut text = LIVE.to_owned();
    text += "| change | seen through | times | p50 | p90 | API server p50 | p90 | beyond it p50 | p90 |\n|---|---|---|---|---|---|---|---|---|\n";
    for alive in all {
        let ([p50, own50, beyond50], [p90, own90, beyond90]) = (alive.at(0.5), alive.at(0.9));
        text += &format!(
            "| {} | {} | {} | {p50:.2} | {p90:.2} | {own50:.2} | {own90:.2} | {beyond50:.2} | {beyond90:.2} |\n",
            alive.change,
            alive.through,
            alive.seconds.len()
        );
    }
    text
}

fn soak(all: &[Resources]) -> String {
    let mut text =
        "| process | samples | resident MiB, first | middle | last | most open files | most connections |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for Resources { process, resident, files, connections } in all {
        let mebibytes = |value: Option<&f64>| value.map_or_else(String::new, |bytes| format!("{:.1}", bytes / f64::from(1 << 20)));
        let most = |values: &[f64]| values.iter().copied().reduce(f64::max).map_or_else(|| "-".to_owned(), |most| most.to_string());
        text += &format!(
            "| {process} | {} | {} | {} | {} | {} | {} |\n",
            resident.len(),
            mebibytes(resident.first()),
            mebibytes(resident.get(resident.len() / 2)),
            mebibytes(resident.last()),
            most(files),
            most(connections)
        );
    }
    text
}

fn list(head: &str, items: &[String]) -> String {
    format!("{head}\n\n{}", items.iter().map(|item| format!("- {item}\n")).collect::<String>())
}

/// The day, in UTC.
fn today() -> String {
    let seconds = i64::try_from(unix_milliseconds() / 1000).unwrap_or_default();
    k8s_openapi::jiff::Timestamp::from_second(seconds).map_or_else(|_| "today".to_owned(), |now| now.strftime("%Y-%m-%d").to_string())
}

/// Of the package, and of the sources where git knows.
fn version() -> String {
    let described = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(::tests::workspace()).output();
    let commit =
        described.ok().filter(|output| output.status.success()).map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let package = env!("CARGO_PKG_VERSION");
    commit.map_or_else(|| package.to_owned(), |commit| format!("{package} ({commit})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_with_and_without_the_api_server() {
        let alive =
            Alive { change: "price".into(), through: "gateway".into(), seconds: vec![1.0, 0.5, 0.75], api_server: vec![0.25, 0.25, 0.25] };
        assert_eq!(alive.at(0.5), [0.75, 0.25, 0.5]);
        assert_eq!(alive.beyond_p90(), 0.75);
        assert!(time_to_live(&[alive]).contains("| price | gateway | 3 | 0.75 | 1.00 | 0.25 | 0.25 | 0.50 | 0.75 |"));
    }

    #[test]
    fn what_was_wrong_stands_in_the_row_and_at_the_top() {
        let options = clap::Parser::parse_from::<_, &str>(["e2e"]);
        let crate::options::Arguments { options, .. } = options;
        let mut report = Report::new(&options);
        report.fault(Row { name: "an expert is killed".into(), wrong: vec!["2 lost".into()], ..Row::default() });
        assert_eq!(report.failures(), ["an expert is killed: 2 lost"]);
        let text = report.markdown();
        assert!(text.contains("- an expert is killed: 2 lost") && text.contains("| **2 lost** |"), "{text}");
    }
}
