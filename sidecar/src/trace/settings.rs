//! OpenTelemetry's variables to settings.
//!
//! In: the environment. Out: [`Settings`], or none where nobody asked for traces: that is the default. As OpenTelemetry has it, a value
//! that makes no sense is told of and left aside, since a proxy that does not start is worse than one that is not traced. Values of
//! headers are secrets: they are never told of.

use std::{path::PathBuf, time::Duration};

use api::router::OTLP_HEADERS;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::PathAndQuery};

use super::{context::TraceId, sampling::Sampling};
use crate::config::{Config, Source};

/// Where gRPC collectors listen by habit.
const GRPC_PORT: u16 = 4317;
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";
/// Where a collector is by habit, for those who ask for `otlp` and name none.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";
const DEFAULT_SERVICE: &str = "expert-router";

/// How spans travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    Http,
}

/// Ready to use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// With path.
    pub endpoint: Uri,
    /// How.
    pub protocol: Protocol,
    /// For every request to the collector; marked as sensitive.
    pub headers: HeaderMap,
    /// Authorities beside the system's.
    pub certificate: Option<PathBuf>,
    /// Requests are compressed.
    pub gzip: bool,
    /// How long one request may take.
    pub timeout: Duration,
    /// Which requests are traced.
    pub sampling: Sampling,
    /// What is said of the process.
    pub resource: Vec<(String, String)>,
    /// Spans that may wait.
    pub queue: usize,
    /// Spans of one request.
    pub batch: usize,
    /// How long they wait for others.
    pub delay: Duration,
}

/// The environment, read.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// None: no traces.
    pub settings: Option<Settings>,
    /// What was left aside, for the log.
    pub ignored: Vec<String>,
}

/// Where variables are looked up: the environment; and a manifest, where the environment names no collector. Only a manifest: who writes
/// a snapshot writes the environment as well. A change of a manifest's tracing takes a restart.
pub fn variables(config: &Config) -> impl Fn(&str) -> Option<String> + use<> {
    let of_environment = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let named =
        ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter().any(|name| of_environment(name).is_some());
    let below = if named { None } else { of_manifest(config) }.unwrap_or_default();
    move |name: &str| {
        let said = || below.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        of_environment(name).or_else(said)
    }
}

fn of_manifest(config: &Config) -> Option<Vec<(&'static str, String)>> {
    let Source::Manifest(path) = &config.source else { return None };
    let tracing = api::manifest::tracing(&std::fs::read_to_string(path).ok()?)?;
    let mut variables = tracing.variables();
    if let (Some(folder), Some(secret)) = (&config.secrets_directory, &tracing.headers_secret_ref) {
        let headers = std::fs::read_to_string(folder.join(&secret.name).join(&secret.key));
        variables.extend(headers.ok().map(|headers| (OTLP_HEADERS, headers)));
    }
    Some(variables)
}

/// Reads; `variable` looks one up.
pub fn read(variable: impl Fn(&str) -> Option<String>) -> Read {
    let mut reader = Reader { variable: &variable, ignored: Vec::new() };
    let settings = reader.settings();
    Read { settings, ignored: reader.ignored }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    ignored: Vec<String>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Option<Settings> {
        if self.of("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let exporter = self.of("OTEL_TRACES_EXPORTER");
        match exporter.as_deref() {
            None | Some("otlp") => {}
            Some("none") => return None,
            Some(_) => {
                self.ignore("OTEL_TRACES_EXPORTER", "`otlp` or `none`");
                return None;
            }
        }
        let (endpoint, protocol) = self.endpoint(exporter.is_some())?;
        Some(Settings {
            endpoint,
            protocol,
            headers: self.headers(),
            certificate: self.of_otlp("CERTIFICATE").map(|(_, path)| path.into()),
            gzip: self.gzip(),
            timeout: self.otlp_timeout(),
            sampling: self.sampling(),
            resource: self.resource(),
            queue: self.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048),
            batch: self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
            delay: Duration::from_millis(self.number("OTEL_BSP_SCHEDULE_DELAY", 5000) as u64),
        })
    }

    /// As OpenTelemetry has it, empty is absent.
    fn of(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// What is said of traces, else of all signals; with its name.
    fn of_otlp(&self, name: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.into_iter().find_map(|name| self.of(&name).map(|value| (name, value)))
    }

    fn ignore(&mut self, name: &str, expected: &str) {
        self.ignored.push(format!("{name}: expected {expected}"));
    }

    /// Where and how. The variable of all signals is a base, that of traces is the whole address.
    fn endpoint(&mut self, asked_for: bool) -> Option<(Uri, Protocol)> {
        let whole = self.of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let base = self.of("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| asked_for.then(|| DEFAULT_ENDPOINT.to_owned()));
        let (name, address) = match (&whole, &base) {
            (Some(whole), _) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole),
            (None, base) => ("OTEL_EXPORTER_OTLP_ENDPOINT", base.as_ref()?),
        };
        let uri = address.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let Some(uri) = uri else {
            self.ignore(name, "an address with http:// or https://, as http://collector:4318; there are no traces");
            return None;
        };
        let protocol = self.protocol(&uri)?;
        let path = uri.path().trim_end_matches('/');
        let path = match protocol {
            Protocol::Grpc => GRPC_PATH.to_owned(),
            Protocol::Http if whole.is_some() => uri.path().to_owned(),
            Protocol::Http => format!("{path}{HTTP_PATH}"),
        };
        let mut parts = uri.into_parts();
        parts.path_and_query = PathAndQuery::try_from(path).ok();
        Uri::from_parts(parts).ok().map(|uri| (uri, protocol))
    }

    fn protocol(&mut self, uri: &Uri) -> Option<Protocol> {
        match self.of_otlp("PROTOCOL").as_ref().map(|(name, value)| (name.as_str(), value.as_str())) {
            Some((_, "grpc")) => Some(Protocol::Grpc),
            Some((_, "http/protobuf")) => Some(Protocol::Http),
            // By habit a port says it; a wrong guess would be a collector that answers nothing but nonsense.
            None if uri.port_u16() == Some(GRPC_PORT) => Some(Protocol::Grpc),
            None => Some(Protocol::Http),
            Some((name, _)) => {
                self.ignore(name, "`grpc` or `http/protobuf`; there are no traces");
                None
            }
        }
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some((name, list)) = self.of_otlp("HEADERS") else { return headers };
        for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let header = pair.split_once('=').and_then(|(key, value)| {
                let mut value = HeaderValue::from_str(&decoded(value)?).ok()?;
                value.set_sensitive(true);
                Some((key.trim().parse::<HeaderName>().ok()?, value))
            });
            match header {
                Some((key, value)) => drop(headers.insert(key, value)),
                // What stands there may be a secret.
                None => self.ignore(&name, "`name=value` pairs with commas between, values percent-encoded; one of them is left out"),
            }
        }
        headers
    }

    fn gzip(&mut self) -> bool {
        match self.of_otlp("COMPRESSION").as_ref().map(|(name, value)| (name.as_str(), value.as_str())) {
            Some((_, "gzip")) => true,
            None | Some((_, "none")) => false,
            Some((name, _)) => {
                self.ignore(name, "`gzip` or `none`");
                false
            }
        }
    }

    fn otlp_timeout(&mut self) -> Duration {
        let name = self.of_otlp("TIMEOUT").map_or_else(|| "OTEL_EXPORTER_OTLP_TIMEOUT".to_owned(), |(name, _)| name);
        Duration::from_millis(self.number(&name, 10_000) as u64)
    }

    fn sampling(&mut self) -> Sampling {
        let ratio = match self.of("OTEL_TRACES_SAMPLER_ARG").map(|value| value.parse::<f64>()) {
            None => 1.0,
            Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => ratio,
            Some(_) => {
                self.ignore("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1");
                1.0
            }
        };
        let name = self.of("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".to_owned());
        Sampling::named(&name, ratio).unwrap_or_else(|| {
            self.ignore("OTEL_TRACES_SAMPLER", "`always_on`, `always_off`, `traceidratio`, or one of them after `parentbased_`");
            Sampling { parent_based: true, ratio: 1.0 }
        })
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let id = TraceId::fresh().to_string();
        let mut resource = vec![
            ("service.name".to_owned(), DEFAULT_SERVICE.to_owned()),
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id".to_owned(), id),
            ("telemetry.sdk.name".to_owned(), DEFAULT_SERVICE.to_owned()),
            ("telemetry.sdk.language".to_owned(), "rust".to_owned()),
            ("telemetry.sdk.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let mut set = |key: &str, value: String| match resource.iter_mut().find(|(present, _)| present == key) {
            Some(pair) => pair.1 = value,
            None => resource.push((key.to_owned(), value)),
        };
        let list = self.of("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').and_then(|(key, value)| Some((key.trim(), decoded(value)?))) {
                Some((key, value)) if !key.is_empty() => set(key, value),
                _ => self.ignored.push(format!("OTEL_RESOURCE_ATTRIBUTES: expected name=value, got {pair:?}")),
            }
        }
        if let Some(name) = self.of("OTEL_SERVICE_NAME") {
            set("service.name", name);
        }
        resource
    }

    fn number(&mut self, name: &str, default: usize) -> usize {
        match self.of(name).map(|value| value.parse::<usize>()) {
            None => default,
            Some(Ok(number)) if number > 0 => number,
            Some(_) => {
                self.ignore(name, "a whole number over 0");
                default
            }
        }
    }
}

fn decoded(value: &str) -> Option<String> {
    percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Read {
        read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn endpoint(variables: &[(&str, &str)], expect: Option<(&str, Protocol)>) {
        let found = of(variables).settings.map(|settings| (settings.endpoint.to_string(), settings.protocol));
        assert_eq!(found.as_ref().map(|(uri, protocol)| (uri.as_str(), *protocol)), expect, "{variables:?}");
    }

    #[test]
    fn there_are_traces_only_where_somebody_asked_for_them() {
        endpoint(&[], None);
        endpoint(&[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "always_on")], None);
        endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "  ")], None);
        let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        endpoint(&[at, ("OTEL_SDK_DISABLED", "True")], None);
        endpoint(&[at, ("OTEL_TRACES_EXPORTER", "none")], None);
        endpoint(&[at, ("OTEL_TRACES_EXPORTER", "console")], None);
        endpoint(&[("OTEL_TRACES_EXPORTER", "otlp")], Some(("http://localhost:4318/v1/traces", Protocol::Http)));
    }

    #[test]
    fn the_base_gets_a_path_and_the_traces_own_address_does_not() {
        let grpc = "http://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/")], Some(("http://c:4318/v1/traces", Protocol::Http)));
        endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/otlp")], Some(("https://c/otlp/v1/traces", Protocol::Http)));
        endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")], Some((grpc, Protocol::Grpc)));
        let both = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")];
        endpoint(&both, Some(("http://t:1/x", Protocol::Http)));
        let said = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        endpoint(&said, Some(("http://c:4317/v1/traces", Protocol::Http)));
        let said = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")];
        endpoint(&said, Some((grpc, Protocol::Grpc)));
        for wrong in ["c:4317", "ftp://c", "http://", "no address"] {
            let read = of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)]);
            assert!(read.settings.is_none() && read.ignored[0].starts_with("OTEL_EXPORTER_OTLP_ENDPOINT"), "{wrong}");
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let read = of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret, x-tenant = a ,s3cret"),
        ]);
        let shown = format!("{read:?}");
        let headers = read.settings.unwrap().headers;
        assert_eq!((headers["authorization"].as_bytes(), headers["x-tenant"].as_bytes()), (&b"Bearer s3cret"[..], &b"a"[..]));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(read.ignored.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_told_of_and_left_aside() {
        let read = of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c"),
        ]);
        let settings = read.settings.unwrap();
        assert_eq!(settings.sampling, Sampling { parent_based: true, ratio: 1.0 });
        assert_eq!((settings.queue, settings.timeout, settings.gzip), (2048, Duration::from_secs(10), false));
        assert_eq!(read.ignored.len(), 6, "{:?}", read.ignored);
    }

    #[test]
    fn the_services_name_is_the_nearest_one_said() {
        let name = |variables: &[(&str, &str)]| {
            let all: Vec<_> = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")].iter().chain(variables).copied().collect();
            let resource = of(&all).settings.unwrap().resource;
            resource.into_iter().find(|(key, _)| key == "service.name").unwrap().1
        };
        assert_eq!(name(&[]), "expert-router");
        assert_eq!(name(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=by%20list")]), "by list");
        assert_eq!(name(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=by-list"), ("OTEL_SERVICE_NAME", "by-name")]), "by-name");
    }
}
