//! Injection: the API server asks about each Pod with the label `expertrouter.dev/inject`, and gets it back with a sidecar.
//!
//! Needs no leader and no watch: each question is answered from a read of the router it names, by any replica. Which Pods are asked about,
//! and what happens while no replica is there, is for the webhook's configuration in the chart to say.

pub mod certificate;
pub mod inject;
pub mod review;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::{ExpertRouter, RouterModel};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, Client, core::DeserializeGuard};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::{Config, Images},
    metrics::Metrics,
    router::{bundle, dereference::model_facts, valid::References},
};
use certificate::{Certificates, Serving};
use inject::Target;
use review::{Answer, Question};

/// Pods are smaller by far.
const MOST_BYTES: usize = 8 << 20;
/// The API server gives up sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until dropped. `ready` turns true once there is a certificate.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(client: Client, config: &Config, metrics: Arc<Metrics>, ready: Arc<AtomicBool>) -> std::io::Result<()> {
    let Some(webhook) = &config.webhook else {
        ready.store(true, Ordering::Relaxed);
        return std::future::pending().await;
    };
    let listener = TcpListener::bind(webhook.listen).await?;
    let serving = Serving::default();
    let certificates = Certificates::new(client.clone(), &config.namespace, webhook.clone(), metrics.clone());
    let answerer = Arc::new(Answerer { client, images: config.images.clone(), metrics });
    tokio::select! {
        () = certificates.keep(serving.clone(), ready) => {}
        () = accept(listener, serving, answerer) => {}
    }
    Ok(())
}

async fn accept(listener: TcpListener, serving: Serving, answerer: Arc<Answerer>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, as a rule.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(config) = serving.config() else { continue };
        let answerer = answerer.clone();
        tokio::spawn(
            async move { drop(tokio::time::timeout(PATIENCE * 10, connection(stream, TlsAcceptor::from(config), answerer)).await) },
        );
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, answerer: Arc<Answerer>) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else { return };
    let service = service_fn(move |request| {
        let answerer = answerer.clone();
        async move { Ok::<_, Infallible>(answerer.respond(request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    // A client that breaks off has told us all there is to know.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

struct Answerer {
    client: Client,
    images: Images,
    metrics: Arc<Metrics>,
}

impl Answerer {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::POST || request.uri().path() != "/inject" {
            return text(StatusCode::NOT_FOUND, "there is POST /inject\n");
        }
        let body = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), MOST_BYTES).collect()).await;
        let Ok(Ok(body)) = body else { return text(StatusCode::BAD_REQUEST, "expected an AdmissionReview\n") };
        let question = match Question::read(&body.to_bytes()) {
            Ok(question) => question,
            Err(problem) => return text(StatusCode::BAD_REQUEST, &format!("{problem}\n")),
        };
        let answer = self.answer(&question).await;
        self.metrics.injected(match &answer {
            Answer::Patch(_) => "injected",
            Answer::AsItIs => "skipped",
            Answer::Refuse(_) => "refused",
        });
        let mut response = Response::new(Full::new(answer.write(&question.uid).into()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    async fn answer(&self, question: &Question) -> Answer {
        let Some(name) = inject::router_of(&question.pod) else { return Answer::AsItIs };
        let target = match self.target(&question.namespace, &name).await {
            Ok(Some(target)) => target,
            Ok(None) => {
                return Answer::Refuse(format!(
                    "there is no ExpertRouter {name} in namespace {}: create it first, or take the label expertrouter.dev/inject away",
                    question.namespace
                ));
            }
            Err(problem) => return Answer::Refuse(format!("ExpertRouter {name}: {problem}")),
        };
        match inject::inject(&question.pod, &target, &self.images) {
            Ok(Some(pod)) => Answer::Patch(pod),
            Ok(None) => Answer::AsItIs,
            Err(problem) => Answer::Refuse(problem),
        }
    }

    async fn target(&self, namespace: &str, name: &str) -> Result<Option<Target>, String> {
        let failed = |error: kube::Error| format!("it cannot be looked up: {error}");
        let api = Api::<DeserializeGuard<ExpertRouter>>::namespaced(self.client.clone(), namespace);
        let Some(found) = api.get_opt(name).await.map_err(failed)? else { return Ok(None) };
        let router = found.0.map_err(|invalid| format!("it cannot be read: {}", invalid.error))?;
        let mut references = References::default();
        let model = router.spec.model.as_ref();
        if let Some(reference) = model.and_then(|model| model.router_model_ref.as_ref()) {
            let api = Api::<DeserializeGuard<RouterModel>>::namespaced(self.client.clone(), namespace);
            let found = api.get_opt(&reference.name).await.map_err(failed)?;
            references.model = found.and_then(|found| found.0.ok()).map(|model| model_facts(&model));
        }
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        for claim in bundle::claims(model, references.model.as_ref()) {
            if claims.get_metadata_opt(&claim).await.map_err(failed)?.is_some() {
                references.claims.insert(claim);
            }
        }
        let credentials = model.and_then(|model| model.bundle.as_ref()?.credentials.as_ref());
        references.secrets.extend(credentials.map(|credentials| (credentials.secret_ref.name.clone(), std::collections::BTreeSet::new())));
        let status = router.status.as_ref();
        let in_force = || bundle::Source::of_status(status?.model.as_ref()?);
        let (wanted, _) = bundle::resolve(model, &references);
        let bundle = wanted.or_else(in_force).or_else(|| bundle::expected(model, &references));
        let revision = status.and_then(|status| status.snapshot_revision.clone());
        Ok(Some(Target { name: name.to_owned(), spec: router.spec, bundle, revision }))
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_owned().into()));
    *response.status_mut() = status;
    response
}
