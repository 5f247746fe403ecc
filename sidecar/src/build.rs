//! Files to a [`State`]: manifest or snapshot, credentials, authorities, client keys, bundle.
//!
//! In: the configuration, and the state before. Out: a new state that shares with it what did not change (pools, the loaded model, health);
//! or the first thing wrong, and then nothing has changed. Runs on the watcher's thread: it reads files and loads models, which takes its
//! time. Deliberately absent: when to build, which is `watch`'s.

mod bundle;
mod shadow;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicU32},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Uri};
use routing::{Snapshot, Table, health::Ejection, snapshot};
use sha2::{Digest, Sha256};
use wire::Endpoint;

use crate::{
    aside::log::Policy,
    config::{Config, Source},
    keys::ClientKeys,
    metrics::Metrics,
    shared::unix_seconds,
    state::{Expert, ExpertParts, Live, Model, State, lock},
    upstream::{Pool, PoolKey, SharedPool},
};
use bundle::Models;
use shadow::Shadows;

/// Why files do not make a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// `source`, `files`, `model`, `shadow`, `keys` or `tls`: a metric label.
    pub what: &'static str,
    /// Names the file and the field; no secret in it.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(what: &'static str, message: impl std::fmt::Display) -> Self {
        Self { what, message: message.to_string() }
    }
}

/// Makes states, and keeps what one can take over from the other.
#[derive(Debug)]
pub struct Builder {
    config: Config,
    metrics: Arc<Metrics>,
    pools: HashMap<PoolKey, SharedPool>,
    models: Models,
    shadows: Shadows,
    generation: u64,
    files: Vec<PathBuf>,
}

impl Builder {
    /// Nothing built yet.
    #[must_use]
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        let (models, shadows) = (Models::new(&config), Shadows::new(&config));
        let files = vec![config.source.path().to_owned()];
        Self { config, metrics, pools: HashMap::new(), models, shadows, generation: 0, files }
    }

    /// From now on this engine scores, whatever bundle a snapshot names: for tests, and for those who embed the proxy.
    #[must_use]
    pub fn with_engine(mut self, engine: Arc<model::Engine>) -> Self {
        self.models.give(engine);
        self
    }

    /// From now on this engine is in shadow, whatever bundle a snapshot names as that.
    #[must_use]
    pub fn with_shadow(mut self, engine: Arc<model::Engine>) -> Self {
        self.shadows.give(engine);
        self
    }

    /// Every file the last state was made from, or would have been: a change of one of them is a reason to build again.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The metrics that states count with.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Makes a state. The second part is what is wrong with the model, where the state can do without.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn build(&mut self, previous: Option<&State>) -> Result<(State, Option<Problem>), Problem> {
        let table = read_table(&self.config)?;
        let snapshot = table.snapshot();
        self.files = files(&self.config, snapshot);
        let keys = snapshot.client_keys_file.as_deref().map(client_keys).transpose()?;
        let session_header = snapshot.session.as_ref().map(|session| header_name(&session.header)).transpose()?;
        let mut pools = HashMap::new();
        let experts = (0..table.experts().len())
            .map(|index| self.expert(&table, index, previous, &mut pools).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let (model, problem) = match self.models.load(&table, table.snapshot().model.as_ref()) {
            Ok(model) => (model, None),
            // A loaded model is better than a broken one, and a snapshot is taken whole: so the state before stays.
            Err(problem) if previous.is_some_and(|state| matches!(state.model, Model::Ready(_))) => return Err(problem),
            Err(problem) => (Model::Broken(problem.message.clone()), Some(problem)),
        };
        let request_log = snapshot_log(&table)?;
        let (shadow, shadow_problem) = self.shadows.load(&table);
        self.pools = pools;
        self.generation += 1;
        let state = State {
            generation: self.generation,
            table,
            experts,
            model,
            shadow,
            request_log,
            keys,
            session_header,
            since: Instant::now(),
            since_unix: unix_seconds(),
        };
        Ok((state, problem.or(shadow_problem)))
    }

    fn expert(
        &self,
        table: &Table,
        index: usize,
        previous: Option<&State>,
        pools: &mut HashMap<PoolKey, SharedPool>,
    ) -> Result<Expert, Problem> {
        let expert = &table.experts()[index];
        let problem = |message: &dyn std::fmt::Display| Problem::new("files", format!("expert {}: {message}", expert.name));
        let parts = ExpertParts {
            index,
            uris: uris(&expert.base_url).map_err(|error| problem(&error))?,
            pool: self.pool(expert, pools).map_err(|error| problem(&error))?,
            authorization: expert.credentials_file.as_deref().map(bearer).transpose().map_err(|error| problem(&error))?,
            live: live(expert, previous),
            metrics: self.metrics.expert(&expert.name, &expert.model_name),
        };
        Expert::new(expert, parts).map_err(|error| problem(&error))
    }

    /// A pool of this build, of the one before, or a new one.
    fn pool(&self, expert: &snapshot::Expert, pools: &mut HashMap<PoolKey, SharedPool>) -> Result<SharedPool, String> {
        let ca_digest = expert.ca_file.as_deref().map(|path| read(path).map(|bytes| Sha256::digest(bytes).into())).transpose()?;
        let key = PoolKey {
            ca_file: expert.ca_file.clone(),
            ca_digest,
            connect_timeout: Duration::from_millis(expert.timeouts.connect_milliseconds),
            tls: expert.base_url.starts_with("https:"),
        };
        let pool = match pools.get(&key).or_else(|| self.pools.get(&key)) {
            Some(pool) => pool.clone(),
            None => Arc::new(Pool::new(&key).map_err(|error| error.to_string())?),
        };
        pools.insert(key, pool.clone());
        Ok(pool)
    }
}

/// Reads and compiles; also what `--check` does.
///
/// # Errors
/// The file or field that is wrong.
pub fn read_table(config: &Config) -> Result<Table, Problem> {
    let path = config.source.path();
    let at = |message: &dyn std::fmt::Display| Problem::new("source", format!("{}: {message}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| at(&error))?;
    let snapshot = match &config.source {
        Source::Snapshot(_) => serde_json::from_slice::<Snapshot>(&bytes).map_err(|error| at(&error))?,
        Source::Manifest(path) => {
            let text = String::from_utf8(bytes).map_err(|_| at(&"expected UTF-8"))?;
            let base_directory = match path.parent() {
                Some(folder) if folder != Path::new("") => folder.to_owned(),
                _ => PathBuf::from("."),
            };
            let standalone = api::Standalone {
                base_directory,
                secrets_directory: config.secrets_directory.clone(),
                expert_urls: config.expert_urls.clone(),
            };
            api::read_manifest(&text, &standalone).map_err(|error| at(&error))?
        }
    };
    let shadow = config.shadow.clone().or(snapshot.shadow);
    Table::compile(Snapshot { shadow, ..snapshot }).map_err(|error| at(&error))
}

fn snapshot_log(table: &Table) -> Result<Option<Arc<Policy>>, Problem> {
    let log = table.snapshot().request_log.as_ref().map(Policy::compile).transpose();
    log.map(|policy| policy.map(Arc::new)).map_err(|error| Problem::new("source", error))
}

fn files(config: &Config, snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut files = vec![config.source.path().to_owned()];
    files.extend(snapshot.client_keys_file.clone());
    for expert in &snapshot.experts {
        files.extend(expert.credentials_file.clone());
        files.extend(expert.ca_file.clone());
    }
    if let Some(model) = &snapshot.model {
        files.extend(bundle::files(model));
    }
    if let Some(shadow) = &snapshot.shadow {
        files.extend(bundle::files(&shadow.model));
    }
    files.sort_unstable();
    files.dedup();
    files
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn client_keys(path: &Path) -> Result<ClientKeys, Problem> {
    let text = read(path).map_err(|error| Problem::new("keys", error))?;
    let text = String::from_utf8(text).map_err(|_| Problem::new("keys", format!("{}: expected UTF-8", path.display())))?;
    ClientKeys::parse(&text).map_err(|error| Problem::new("keys", format!("{}: {error}", path.display())))
}

fn header_name(name: &str) -> Result<HeaderName, Problem> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Problem::new("source", format!("session.header: {name:?} is no header name")))
}

fn uris(base_url: &str) -> Result<[Uri; 4], String> {
    let base = base_url.trim_end_matches('/');
    let uri =
        |endpoint: Endpoint| format!("{base}{}", endpoint.path()).parse::<Uri>().map_err(|error| format!("baseUrl {base_url}: {error}"));
    let mut uris = [const { None }; 4];
    for endpoint in Endpoint::ALL {
        uris[endpoint as usize] = Some(uri(endpoint)?);
    }
    Ok(uris.map(|uri| uri.expect("every endpoint has a number below four")))
}

/// The file's content as a header that never shows in a log.
fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let bytes = read(path)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| format!("{} has characters that no header can carry", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Health stays with the address it was seen at.
fn live(expert: &snapshot::Expert, previous: Option<&State>) -> Arc<Live> {
    let before = previous.and_then(|state| Some(&state.experts[state.table.expert(&expert.name)?].live));
    match before.filter(|live| live.base_url == expert.base_url) {
        Some(live) => {
            lock(&live.ejection).set_policy(expert.health);
            live.clone()
        }
        None => Arc::new(Live {
            base_url: expert.base_url.clone(),
            ejection: Mutex::new(Ejection::new(expert.health)),
            in_flight: AtomicU32::new(0),
        }),
    }
}
