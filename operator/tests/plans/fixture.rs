//! What `fixtures/<case>.yaml` has, as the operator would see it.

use std::collections::BTreeMap;

use api::{ExpertRouter, RouterModel};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, Service},
    discovery::v1::EndpointSlice,
};
use operator::{
    cache::DeploymentFacts,
    config::Images,
    router::{
        dereference::model_facts,
        plan,
        spend::Ledger,
        valid::{self, References, ValidRouter, validate},
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) fn fixture(case: &str) -> (ExpertRouter, References, Option<DeploymentFacts>) {
    let path = format!("{}/fixtures/{case}.yaml", env!("CARGO_MANIFEST_DIR"));
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut references = References::default();
    let mut deployments = BTreeMap::new();
    let mut slices: BTreeMap<String, usize> = BTreeMap::new();
    let mut router = None;
    for document in documents {
        let name = document["metadata"]["name"].as_str().unwrap().to_owned();
        match document["kind"].as_str().unwrap() {
            "ExpertRouter" => router = Some(read::<ExpertRouter>(document)),
            "RouterModel" => references.model = Some(model_facts(&read::<RouterModel>(document))),
            "Secret" => {
                references.secrets.insert(name, read::<Secret>(document).data.unwrap().into_keys().collect());
            }
            "PersistentVolumeClaim" => {
                references.claims.insert(name);
            }
            "Service" => {
                let ports = read::<Service>(document).spec.unwrap().ports.unwrap().iter().map(|port| port.port).collect();
                references.services.insert(name, valid::Service { ports, ready: Some(0) });
            }
            "EndpointSlice" => {
                let slice: EndpointSlice = read(document);
                let ready = slice.endpoints.iter().flatten().filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true));
                slices.insert(slice.metadata.labels.unwrap()["kubernetes.io/service-name"].clone(), ready.count());
            }
            "Deployment" => {
                deployments.insert(name, operator::watch::deployment_facts(&read(document)));
            }
            "ConfigMap" => {
                let data = read::<ConfigMap>(document).data.unwrap();
                references.spent = serde_json::from_str::<Ledger>(&data[plan::SPEND_KEY]).unwrap().spent();
            }
            "CustomResourceDefinition" if name.starts_with("httproutes") => references.has_http_routes = true,
            "CustomResourceDefinition" => references.has_pod_monitors = true,
            other => panic!("{other}"),
        }
    }
    let router = router.unwrap();
    for (service, ready) in slices {
        references.services.get_mut(&service).unwrap().ready = Some(ready);
    }
    let prefix = format!("{}-", router.metadata.name.as_ref().unwrap());
    let gateway = deployments.remove(&format!("{prefix}gateway"));
    references.deployments =
        deployments.into_iter().map(|(name, facts)| (name.strip_prefix(&format!("{prefix}expert-")).unwrap().to_owned(), facts)).collect();
    (router, references, gateway)
}

pub(super) fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(super) fn images() -> Images {
    Images { router: "localhost/router:1".into(), train: "localhost/train:1".into(), pull_policy: None, pull_secrets: vec!["pull".into()] }
}

pub(super) fn planned(case: &str) -> (ValidRouter, plan::Plan<plan::Prepared>, Option<DeploymentFacts>) {
    let (router, references, gateway) = fixture(case);
    let router = validate(&router, &references).unwrap();
    let spend = (!references.spent.is_empty()).then_some("{}");
    let plan = plan::plan(&router, spend, &images()).unwrap();
    (router, plan, gateway)
}
