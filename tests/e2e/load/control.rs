//! What the load client is told, and asked for: a few paths with JSON, plain HTTP.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::TcpListener;

use super::{generator::Generator, unix_milliseconds};

/// Of which phase.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// Its name.
    pub(crate) phase: String,
    /// How many of its records are known already.
    pub(crate) known: usize,
}

/// Serves for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, generator: Generator) {
    loop {
        // Whoever went away before it was accepted asks again.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let generator = generator.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let generator = generator.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(&generator, request).await) }
            });
            // How the connection ends is its client's affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(generator: &Generator, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/health") => reply(&"ok"),
        (&Method::GET, "/clock") => reply(&unix_milliseconds()),
        (&Method::GET, "/probe") => reply(&generator.probes.progress()),
        (&Method::POST, "/load") => with(&body, |load| reply(&generator.set(load))),
        (&Method::POST, "/records") => with(&body, |Phase { phase, known }| reply(&generator.records(&phase, known))),
        (&Method::POST, "/probe") => with(&body, |wanted| reply(&generator.probes.begin(wanted))),
        _ => refuse(StatusCode::NOT_FOUND, "no such path".into()),
    }
}

fn with<T: DeserializeOwned>(body: &[u8], then: impl FnOnce(T) -> Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    match serde_json::from_slice(body) {
        Ok(value) => then(value),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

fn reply(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(json) => Response::new(Full::new(json.into())),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn refuse(status: StatusCode, why: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(why)));
    *response.status_mut() = status;
    response
}
