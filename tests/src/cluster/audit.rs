//! Who called what, by the API server's audit log: the only account of calls that neither side can embellish.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// One answered call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The caller, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `patch`, ...
    pub verb: String,
    /// The resource, such as `deployments`, or `expertrouters/status`.
    pub resource: String,
    /// Namespace and name.
    pub object: String,
    /// The answer's HTTP status.
    pub status: u64,
}

impl Call {
    /// Whether it was meant to change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb.as_str())
    }

    fn read(event: &Value) -> Self {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (resource, part) = (text("/objectRef/resource"), text("/objectRef/subresource"));
        Self {
            user: text("/user/username").to_owned(),
            verb: text("/verb").to_owned(),
            resource: if part.is_empty() { resource.to_owned() } else { format!("{resource}/{part}") },
            object: format!("{}/{}", text("/objectRef/namespace"), text("/objectRef/name")),
            status: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
        }
    }
}

/// The calls of service accounts since this value was made.
#[derive(Debug)]
pub struct Calls {
    log: PathBuf,
    begin: usize,
}

impl Calls {
    pub(crate) fn new(log: PathBuf) -> Self {
        let begin = fs::metadata(&log).map_or(0, |file| usize::try_from(file.len()).unwrap_or_default());
        Self { log, begin }
    }

    /// All of one service account.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn of(&self, namespace: &str, account: &str) -> Result<Vec<Call>> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let log = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        let lines = log.get(self.begin..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
        // A line without its end is still being written.
        let whole = lines.filter(|line| line.ends_with(b"\n")).filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        Ok(whole.map(|event| Call::read(&event)).filter(|call| call.user == user).collect())
    }

    /// Those of one service account that were meant to change something, but for the Lease, which is renewed for ever.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn writes_of(&self, namespace: &str, account: &str) -> Result<Vec<Call>> {
        let calls = self.of(namespace, account)?;
        Ok(calls.into_iter().filter(|call| call.writes() && call.resource != "leases").collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_since_the_beginning_count_and_leases_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let line = |verb: &str, resource: &str| {
            format!(
                "{{\"user\":{{\"username\":\"system:serviceaccount:n:a\"}},\"verb\":\"{verb}\",\"objectRef\":{{\"resource\":\"{resource}\"}}}}\n"
            )
        };
        fs::write(&log, line("create", "secrets")).unwrap();
        let calls = Calls::new(log.clone());
        let later = [line("create", "secrets"), line("patch", "configmaps"), line("get", "pods"), line("update", "leases")].concat();
        fs::write(&log, format!("{later}{{\"user\"")).unwrap();
        assert_eq!(calls.of("n", "a").unwrap().len(), 3);
        let writes = calls.writes_of("n", "a").unwrap();
        assert_eq!((writes.len(), writes[0].resource.as_str()), (1, "configmaps"));
        assert!(calls.of("n", "b").unwrap().is_empty());
    }
}
