//! Flags and environment to a configuration. Every flag is also `EXPERT_ROUTER_OPERATOR_<FLAG>`, which is what the chart sets.

use std::{net::SocketAddr, time::Duration};

use clap::{ArgAction, Parser, ValueEnum};

const EXAMPLES: &str = "Examples:
  Watch all namespaces, with the rights of the current kubeconfig:
    expert-router-operator --leader-election=false
  Watch two namespaces, and inject sidecars by a webhook:
    expert-router-operator --namespaces team-a,team-b --webhook-listen 0.0.0.0:9443 \\
      --webhook-service expert-router-webhook --webhook-configuration expert-router";

/// Makes of ExpertRouter and RouterModel objects everything that serves and trains them.
#[derive(Debug, Clone, Parser)]
#[command(name = "expert-router-operator", version, after_help = EXAMPLES)]
pub struct Flags {
    /// Namespaces to watch. None: all of the cluster.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', env = "EXPERT_ROUTER_OPERATOR_NAMESPACES")]
    pub namespaces: Vec<String>,
    /// The operator's own namespace: where its Lease and its certificate are.
    #[arg(long, value_name = "NAME", default_value = "default", env = "EXPERT_ROUTER_OPERATOR_NAMESPACE")]
    pub namespace: String,
    /// Of several replicas, only the holder of a Lease reconciles.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, env = "EXPERT_ROUTER_OPERATOR_LEADER_ELECTION")]
    pub leader_election: bool,
    /// The Lease's name.
    #[arg(long, value_name = "NAME", default_value = "expert-router-operator", env = "EXPERT_ROUTER_OPERATOR_LEASE_NAME")]
    pub lease_name: String,
    /// How long a leader that is gone is waited for.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(2..=3600), env = "EXPERT_ROUTER_OPERATOR_LEASE_SECONDS")]
    pub lease_seconds: u16,
    /// Names this replica in the Lease and in events. Default: the host's name, which in a Pod is the Pod's.
    #[arg(long, value_name = "NAME", env = "EXPERT_ROUTER_OPERATOR_IDENTITY")]
    pub identity: Option<String>,
    /// Metrics and health. Plain HTTP.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090", env = "EXPERT_ROUTER_OPERATOR_ADMIN")]
    pub admin: SocketAddr,
    /// Where the API server calls to have sidecars injected. Without it there is no injection.
    #[arg(long, value_name = "ADDRESS", requires = "webhook_service", env = "EXPERT_ROUTER_OPERATOR_WEBHOOK_LISTEN")]
    pub webhook_listen: Option<SocketAddr>,
    /// The Service that leads to it: what the certificate is made out to. A name with dots is taken as the whole host name or address; several are separated by commas.
    #[arg(long, value_name = "NAME", env = "EXPERT_ROUTER_OPERATOR_WEBHOOK_SERVICE")]
    pub webhook_service: Option<String>,
    /// The MutatingWebhookConfiguration that is told the certificate's authority. Without it nothing is told.
    #[arg(long, value_name = "NAME", env = "EXPERT_ROUTER_OPERATOR_WEBHOOK_CONFIGURATION")]
    pub webhook_configuration: Option<String>,
    /// The Secret the certificate is kept in.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "expert-router-webhook-certificate",
        env = "EXPERT_ROUTER_OPERATOR_CERTIFICATE_SECRET"
    )]
    pub certificate_secret: String,
    /// Somebody else makes and rotates the certificate in that Secret (cert-manager, as a rule); it is only read.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set, env = "EXPERT_ROUTER_OPERATOR_CERTIFICATE_EXTERNAL")]
    pub certificate_external: bool,
    /// Image of gateways and sidecars.
    #[arg(long, value_name = "IMAGE", default_value = "localhost/expert-router:0.1.0", env = "EXPERT_ROUTER_OPERATOR_IMAGE_ROUTER")]
    pub image_router: String,
    /// Image of training Jobs, and of the init containers that fetch bundles.
    #[arg(long, value_name = "IMAGE", default_value = "localhost/expert-router-train:0.1.0", env = "EXPERT_ROUTER_OPERATOR_IMAGE_TRAIN")]
    pub image_train: String,
    /// When these images are pulled: `Always`, `IfNotPresent` or `Never`. Default: as Kubernetes has it.
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"], env = "EXPERT_ROUTER_OPERATOR_IMAGE_PULL_POLICY")]
    pub image_pull_policy: Option<String>,
    /// Secrets to pull these images with; they have to be in the routers' namespaces.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', env = "EXPERT_ROUTER_OPERATOR_IMAGE_PULL_SECRETS")]
    pub image_pull_secrets: Vec<String>,
    /// Objects reconciled at once, of each kind.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000), env = "EXPERT_ROUTER_OPERATOR_CONCURRENCY")]
    pub concurrency: u16,
    /// How often gateways and sidecars are asked what they spent, where there are budgets.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=3600), env = "EXPERT_ROUTER_OPERATOR_SPEND_SECONDS")]
    pub spend_seconds: u16,
    /// Log lines for people or for machines. They go to standard error.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "EXPERT_ROUTER_OPERATOR_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What to log: a level, or `target=level` pairs as in `info,operator=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "EXPERT_ROUTER_OPERATOR_LOG")]
    pub log: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Ready to use.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is watched: one of these for each namespace, or a single `None` for all.
    pub scopes: Vec<Option<String>>,
    /// The operator's own.
    pub namespace: String,
    /// Present: only the holder of this Lease reconciles.
    pub lease: Option<Lease>,
    /// Names this replica.
    pub identity: String,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// Present: sidecars are injected.
    pub webhook: Option<Webhook>,
    /// What Pods are made of.
    pub images: Images,
    /// Objects reconciled at once, of each kind.
    pub concurrency: u16,
    /// Between two looks at what was spent.
    pub spend_every: Duration,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The Lease's name.
    pub name: String,
    /// How long it holds without being renewed.
    pub duration: Duration,
}

/// Injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where the API server calls.
    pub listen: SocketAddr,
    /// What the certificate is made out to, the best known name first.
    pub hosts: Vec<String>,
    /// Told the authority.
    pub configuration: Option<String>,
    /// Keeps the certificate.
    pub secret: String,
    /// Somebody else makes the certificate.
    pub external: bool,
}

/// What Pods of gateways, sidecars and Jobs are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// `expert-router`.
    pub router: String,
    /// `expert-router-train`.
    pub train: String,
    /// As in a container.
    pub pull_policy: Option<String>,
    /// Names of Secrets.
    pub pull_secrets: Vec<String>,
}

impl From<Flags> for Config {
    fn from(flags: Flags) -> Self {
        let namespaces: Vec<String> = flags.namespaces.into_iter().filter(|name| !name.is_empty()).collect();
        let scopes = if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
        let namespace = flags.namespace;
        let webhook = flags.webhook_listen.zip(flags.webhook_service).map(|(listen, service)| Webhook {
            listen,
            hosts: hosts(&service, &namespace),
            configuration: flags.webhook_configuration.filter(|name| !name.is_empty()),
            secret: flags.certificate_secret,
            external: flags.certificate_external,
        });
        Self {
            scopes,
            lease: flags
                .leader_election
                .then(|| Lease { name: flags.lease_name, duration: Duration::from_secs(u64::from(flags.lease_seconds)) }),
            identity: flags.identity.filter(|name| !name.is_empty()).unwrap_or_else(host_name),
            admin: flags.admin,
            webhook,
            images: Images {
                router: flags.image_router,
                train: flags.image_train,
                pull_policy: flags.image_pull_policy,
                pull_secrets: flags.image_pull_secrets.into_iter().filter(|name| !name.is_empty()).collect(),
            },
            concurrency: flags.concurrency,
            spend_every: Duration::from_secs(u64::from(flags.spend_seconds)),
            namespace,
        }
    }
}

fn hosts(service: &str, namespace: &str) -> Vec<String> {
    service.split(',').filter(|name| !name.is_empty()).flat_map(|name| hosts_of(name, namespace)).collect()
}

fn hosts_of(service: &str, namespace: &str) -> Vec<String> {
    if service.contains('.') {
        return vec![service.to_owned()];
    }
    vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local"), format!("{service}.{namespace}")]
}

/// The host's name; the process's number where there is none, so that two replicas never share a name.
fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    match name.as_deref().map(str::trim) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("operator-{}", std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        Flags::try_parse_from([&["expert-router-operator"], arguments].concat()).unwrap().into()
    }

    #[test]
    fn without_namespaces_the_whole_cluster_is_watched() {
        assert_eq!(config(&[]).scopes, [None]);
        assert_eq!(config(&["--namespaces", ""]).scopes, [None]);
        assert_eq!(config(&["--namespaces", "a,b"]).scopes, [Some("a".to_owned()), Some("b".to_owned())]);
    }

    #[test]
    fn the_certificate_is_made_out_to_the_service() {
        let webhook = config(&["--webhook-listen", "0.0.0.0:9443", "--webhook-service", "hook", "--namespace", "xr"]).webhook.unwrap();
        assert_eq!(webhook.hosts[0], "hook.xr.svc");
        assert!(config(&[]).webhook.is_none());
        assert!(Flags::try_parse_from(["operator", "--webhook-listen", "0.0.0.0:9443"]).is_err());
    }

    #[test]
    fn leader_election_is_on_unless_it_is_switched_off() {
        assert!(config(&[]).lease.is_some());
        assert!(config(&["--leader-election=false"]).lease.is_none());
    }
}
