//! The gateway's NetworkPolicy: who may call it, and whom it may call.
//!
//! In: clients and scrapers from anywhere, on its two ports. Out: DNS, Pods of its own namespace, namespaces that a url names, the ports of
//! urls and Services elsewhere, and every port where the bundle is fetched from a store. Deliberately absent: injected Pods, which are
//! somebody else's and keep the policies they have (their proxy listens on the loopback address only), and experts, which others than this
//! router may use.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{gateway, metadata, names};
use crate::{
    apply::Child,
    cache::Kind,
    router::{bundle::Source, valid::ValidRouter},
};

/// The policy.
#[must_use]
pub fn policy(router: &ValidRouter) -> Child {
    let name = names::gateway(router.name());
    let object = json!({
        "metadata": metadata(router, &name, "gateway"),
        "spec": {
            "podSelector": {"matchLabels": gateway::selector(router)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [tcp(gateway::PORT), tcp(gateway::ADMIN_PORT)]}],
            "egress": egress(router),
        },
    });
    Child::planned(Kind::NetworkPolicy, name, object)
}

fn tcp(port: u16) -> Value {
    json!({"protocol": "TCP", "port": port})
}

fn egress(router: &ValidRouter) -> Vec<Value> {
    let mut rules = vec![json!({"ports": [{"protocol": "UDP", "port": 53}, tcp(53)]}), json!({"to": [{"podSelector": {}}]})];
    let tracing = router.spec.observability.iter().filter_map(|observability| Some(observability.tracing.as_ref()?.otlp_endpoint.as_str()));
    let fetched = if let Some(Source::Fetch { uri, .. }) = &router.bundle { Some(uri.as_str()) } else { None };
    let from_store = fetched.is_some_and(|uri| !is_http(uri));
    let urls = router.spec.experts.iter().filter_map(|expert| expert.url.as_deref()).chain(tracing);
    let urls = urls.chain(fetched.filter(|uri| is_http(uri)));
    let (mut namespaces, mut ports) = (BTreeSet::new(), router.outside_ports.clone());
    for (host, port) in urls.filter_map(host_and_port) {
        let (namespace, inside) = namespace_of(&host);
        namespaces.extend(namespace.map(str::to_owned));
        // A Service's port need not be its Pods': inside the cluster only the namespace can be told.
        if !inside {
            ports.insert(port);
        }
    }
    for namespace in namespaces {
        rules.push(json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]}));
    }
    if !ports.is_empty() {
        rules.push(json!({"ports": ports.into_iter().map(tcp).collect::<Vec<_>>()}));
    }
    if from_store {
        // Where the store is, nobody but its Secret says.
        rules.push(json!({"ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}]}));
    }
    rules
}

fn is_http(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let uri: http::Uri = url.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Some((uri.host()?.to_owned(), port))
}

/// The namespace that a host name may be in, and whether it is surely that of a Service: `name.namespace.svc`. Of two words, as in
/// `name.namespace` and `example.com`, nobody can tell.
fn namespace_of(host: &str) -> (Option<&str>, bool) {
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let (service, inside) = host.strip_suffix(".svc").map_or((host, false), |service| (service, true));
    match service.split('.').collect::<Vec<_>>().as_slice() {
        [_, namespace] => (Some(*namespace), inside),
        [name] if !name.contains(':') => (None, true),
        _ => (None, inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_inside_the_cluster_opens_its_namespace() {
        assert_eq!(namespace_of("llm.models.svc"), (Some("models"), true));
        assert_eq!(namespace_of("llm.models.svc.cluster.local"), (Some("models"), true));
        assert_eq!(namespace_of("otel.observability"), (Some("observability"), false));
        assert_eq!(namespace_of("llm"), (None, true));
        assert_eq!(namespace_of("llm.example.com"), (None, false));
        assert_eq!(namespace_of("[fd00::1]"), (None, false));
        assert_eq!(host_and_port("https://llm.example.com/v1"), Some(("llm.example.com".to_owned(), 443)));
        assert_eq!(host_and_port("http://[fd00::1]:8000/v1"), Some(("[fd00::1]".to_owned(), 8000)));
    }
}
