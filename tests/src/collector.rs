//! A real OpenTelemetry Collector: OTLP in, by gRPC and by HTTP; what it understood comes back as JSON, to be looked at.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{eventually, process::Process};

/// Starting takes a second; a machine busy with other tests takes longer.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Much more than a batch takes on its way.
const SPAN_PATIENCE: Duration = Duration::from_secs(60);

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    _process: Process,
    _folder: TempDir,
    grpc: String,
    http: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

/// A span as the collector understood it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Trace, in hexadecimal.
    pub trace: String,
    /// Own id.
    pub id: String,
    /// Empty where it is the first.
    pub parent: String,
    /// W3C's `tracestate`.
    pub state: String,
    /// For people.
    pub name: String,
    /// By the protocol's numbers: 1 internal, 2 server, 3 client.
    pub kind: u64,
    /// W3C's, and whether the parent is elsewhere.
    pub flags: u64,
    /// Nanoseconds since 1970.
    pub time: (u64, u64),
    /// Its status is an error.
    pub failed: bool,
    /// Each value as `{"stringValue": ..}` and the like.
    pub attributes: BTreeMap<String, Value>,
    /// Of its process.
    pub resource: BTreeMap<String, Value>,
}

impl Span {
    /// An attribute's value, whatever its type; null where it is absent. 64-bit numbers are text in this JSON.
    #[must_use]
    pub fn get(&self, key: &str) -> Value {
        let typed = self.attributes.get(key).or_else(|| self.resource.get(key)).and_then(Value::as_object);
        let Some((kind, value)) = typed.and_then(|typed| typed.iter().next()) else { return Value::Null };
        match (kind.as_str(), value.as_str().and_then(|text| text.parse::<i64>().ok())) {
            ("intValue", Some(number)) => number.into(),
            _ => value.clone(),
        }
    }

    /// An attribute's type, in the conventions' words.
    #[must_use]
    pub fn kind_of(&self, key: &str) -> Option<&'static str> {
        let typed = self.attributes.get(key)?.as_object()?;
        Some(match typed.keys().next()?.as_str() {
            "stringValue" => "string",
            "intValue" => "int",
            "doubleValue" => "double",
            "boolValue" => "boolean",
            "arrayValue" => "string[]",
            _ => "another",
        })
    }
}

impl Collector {
    /// Starts it on free ports, and waits until it listens.
    ///
    /// # Errors
    /// It is not here, or does not start.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let back = listener.local_addr()?;
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                // The collector keeps its connection, and breaks it at its end.
                tokio::spawn(async move { receive(stream, &kept).await });
            }
        });
        // It can be told no ports but known ones.
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok((listener.local_addr()?, listener)));
        let ((grpc, held), (http, also)) = (free()?, free()?);
        let config = serde_json::json!({
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}}},
            "exporters": {"otlp_http": {
                "endpoint": format!("http://{back}"), "encoding": "json", "compression": "none", "sending_queue": {"enabled": false},
            }},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
            },
        });
        let folder = tempfile::tempdir().context("making a folder")?;
        let file = folder.path().join("collector.yaml");
        fs::write(&file, config.to_string()).context("writing the collector's configuration")?;
        drop((held, also));
        let mut command = Command::new(parts::collector()?);
        command.arg("--config").arg(format!("file:{}", file.display()));
        let process = Process::start_guarded("otelcol", &command)?;
        process.line_where("ready", START_PATIENCE, |line| line.contains("Everything is ready").then_some(()))?;
        Ok(Self { _process: process, _folder: folder, grpc: format!("http://{grpc}"), http: format!("http://{http}"), spans })
    }

    /// Where it takes gRPC.
    #[must_use]
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// Where it takes HTTP.
    #[must_use]
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Everything so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of a trace, once there are so many, in the order of their beginning.
    ///
    /// # Errors
    /// They do not come.
    pub async fn trace(&self, trace: &str, count: usize) -> Result<Vec<Span>> {
        let of = || -> Vec<Span> { self.spans().into_iter().filter(|span| span.trace == trace).collect() };
        eventually(&format!("{count} spans of {trace}"), SPAN_PATIENCE, async || Ok(of().len() >= count)).await?;
        let mut spans = of();
        spans.sort_by_key(|span| (span.time.0, span.kind != 2));
        Ok(spans)
    }
}

/// Requests of one connection, each with its length in its head.
async fn receive(mut stream: TcpStream, kept: &Mutex<Vec<Span>>) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("a length")?.trim().parse::<usize>()?;
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                bail!("a request broke off");
            }
        }
        let message: Value = serde_json::from_slice(&buffer[head..head + length])?;
        kept.lock().unwrap_or_else(PoisonError::into_inner).extend(spans(&message));
        buffer.drain(..head + length);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}").await?;
    }
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn spans(message: &Value) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_process in items(message, "resourceSpans") {
        let resource = attributes(&of_process["resource"]);
        for span in items(of_process, "scopeSpans").flat_map(|of_scope| items(of_scope, "spans")) {
            let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
            let time = |name: &str| text(name).parse().unwrap_or_default();
            spans.push(Span {
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                state: text("traceState"),
                name: text("name"),
                kind: span["kind"].as_u64().unwrap_or_default(),
                flags: span["flags"].as_u64().unwrap_or_default(),
                time: (time("startTimeUnixNano"), time("endTimeUnixNano")),
                failed: span["status"]["code"] == 2,
                attributes: attributes(span),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn attributes(of: &Value) -> BTreeMap<String, Value> {
    items(of, "attributes").map(|pair| (pair["key"].as_str().unwrap_or_default().to_owned(), pair["value"].clone())).collect()
}
