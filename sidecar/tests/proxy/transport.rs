//! HTTP/2 and TLS, on both sides.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{CertifiedKey, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::support::{self, Expert, Router, chat, completion, eventually, expert_json, snapshot};

fn certificate() -> CertifiedKey<KeyPair> {
    ending(2090)
}

/// Good to the end of the year before.
fn ending(year: i32) -> CertifiedKey<KeyPair> {
    let mut made = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    made.not_after = rcgen::date_time_ymd(year, 1, 1);
    let signing_key = KeyPair::generate().unwrap();
    CertifiedKey { cert: made.self_signed(&signing_key).unwrap(), signing_key }
}

fn write(folder: &Path, name: &str, certificate: &CertifiedKey<KeyPair>) {
    std::fs::write(folder.join(format!("{name}.crt")), certificate.cert.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), certificate.signing_key.serialize_pem()).unwrap();
}

/// Trusts this certificate alone.
fn trusting(certificate: &CertifiedKey<KeyPair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.cert.pem().as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// One request over TLS: status and HTTP version, or none where the certificate is not the one trusted.
async fn over_tls(address: SocketAddr, certificate: &CertifiedKey<KeyPair>, path: &str) -> Option<(u16, Version)> {
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(trusting(certificate)).https_only().enable_all_versions().build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let response = client.get(format!("https://localhost:{}{path}", address.port()).parse().unwrap()).await.ok()?;
    Some((response.status().as_u16(), response.version()))
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_without_tls_is_told_from_http1_on_the_same_port() {
    let expert = Expert::always(chat("ok", Some((1, 0, 1)))).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let http2 = support::Client::http2(router.listen);
    let body = json!({"model": "one", "messages": [{"role": "user", "content": "?"}]});
    for _ in 0..2 {
        let answer = http2.post("/v1/chat/completions", &body).await;
        assert_eq!((answer.status, answer.header("x-expert-router-expert")), (200, "one"));
        assert_eq!(router.chat("one").await.status, 200);
    }
    router.counts("expert_router_connections_total", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_dies_resets_an_http2_stream_and_leaves_the_connection() {
    let steps = [support::events(&["begun"], None), vec![support::Step::Close]].concat();
    let expert = Expert::start(move |number, _| if number == 0 { steps.clone() } else { chat("ok", None) }).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let http2 = support::Client::http2(router.listen);
    let mut body = json!({"model": "one", "stream": true, "messages": [{"role": "user", "content": "?"}]});
    let cut = http2.post("/v1/chat/completions", &body).await;
    assert!(!cut.complete && cut.text().contains("begun") && !cut.text().contains("[DONE]"), "{cut:?}");
    body["stream"] = json!(false);
    assert_eq!(http2.post("/v1/chat/completions", &body).await.status, 200);
    router.counts("expert_router_connections_total", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_towards_clients_speaks_both_versions_and_takes_a_new_certificate() {
    let expert = Expert::always(chat("ok", None)).await;
    let (old, new) = (ending(2040), ending(2050));
    let router = Router::start_with(
        |folder| {
            write(folder, "tls", &old);
            snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))
        },
        "--tls-cert FOLDER/tls.crt --tls-key FOLDER/tls.key",
    )
    .await;
    assert_eq!(over_tls(router.listen, &old, "/v1/models").await, Some((200, Version::HTTP_2)));
    assert_eq!(over_tls(router.listen, &new, "/v1/models").await, None);
    router.counts("expert_router_tls_certificate_not_after_seconds", 2_208_988_800.0).await;
    // A certificate without its key is not taken.
    router.replace("tls.crt", new.cert.pem());
    router.counts(r#"expert_router_config_reload_failures_total{what="tls"}"#, 1.0).await;
    assert_eq!(over_tls(router.listen, &old, "/v1/models").await, Some((200, Version::HTTP_2)));
    router.replace("tls.key", new.signing_key.serialize_pem());
    eventually("the new certificate", || async { over_tls(router.listen, &new, "/v1/models").await.is_some() }).await;
    assert_eq!(over_tls(router.listen, &old, "/v1/models").await, None);
    router.counts("expert_router_tls_certificate_not_after_seconds", 2_524_608_000.0).await;
    // HTTP/1.1 where the client offers nothing else.
    let mut only_http1 = trusting(&new);
    only_http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(router.listen).await.unwrap();
    let stream =
        tokio_rustls::TlsConnector::from(Arc::new(only_http1)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/v1/models").header("host", "localhost").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
}

/// An expert behind TLS that would speak HTTP/2, of one request at a time; says which version it was called by.
#[derive(Default)]
struct TlsExpert {
    count: AtomicUsize,
    /// What the first request waits for.
    gate: Option<Notify>,
}

impl TlsExpert {
    async fn start(self: Arc<Self>, certificate: &CertifiedKey<KeyPair>) -> SocketAddr {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "tls", certificate);
        let files = sidecar::config::TlsFiles { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        let acceptor = tokio_rustls::TlsAcceptor::from(sidecar::tls::server_config(&files).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, me) = (acceptor.clone(), self.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let me = me.clone();
                        async move { Ok::<_, std::convert::Infallible>(me.answer(request).await) }
                    });
                    let mut server = auto::Builder::new(TokioExecutor::new());
                    server.http2().max_concurrent_streams(1);
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        address
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let version = format!("{:?}", request.version());
        let _ = request.into_body().collect().await;
        let is_first = self.count.fetch_add(1, Ordering::SeqCst) == 0;
        if let Some(gate) = self.gate.as_ref().filter(|_| is_first) {
            gate.notified().await;
        }
        let body = completion(&version, Some((1, 0, 1))).to_string();
        Response::builder().header("content-type", "application/json").body(Full::from(body)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_behind_tls_is_called_by_http1_if_its_authority_is_trusted() {
    let certificate = certificate();
    let address = Arc::new(TlsExpert::default()).start(&certificate).await;
    let url = format!("https://localhost:{}/v1", address.port());
    let router = Router::start_with(
        |folder| {
            write(folder, "ca", &certificate);
            let experts = [expert_json("trusted", &url, json!({"caFile": folder.join("ca.crt")})), expert_json("doubted", &url, json!({}))];
            snapshot(&experts, json!({}))
        },
        "",
    )
    .await;
    for _ in 0..2 {
        let answer = router.chat("trusted").await;
        assert_eq!(
            (answer.status, answer.json()["choices"][0]["message"]["content"].as_str()),
            (200, Some("HTTP/1.1")),
            "{}",
            answer.text()
        );
    }
    assert_eq!(router.chat("doubted").await.error(), (502, "upstream_connect".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_waits_for_another_since_an_expert_allows_http2_few_streams() {
    let certificate = certificate();
    let expert = Arc::new(TlsExpert { gate: Some(Notify::new()), ..TlsExpert::default() });
    let address = expert.clone().start(&certificate).await;
    let url = format!("https://localhost:{}/v1", address.port());
    let router = Router::start_with(
        |folder| {
            write(folder, "ca", &certificate);
            snapshot(&[expert_json("one", &url, json!({"caFile": folder.join("ca.crt")}))], json!({}))
        },
        "",
    )
    .await;
    let router = Arc::new(router);
    let first = tokio::spawn({
        let router = router.clone();
        async move { router.chat("one").await.status }
    });
    eventually("the first is at work", || async { expert.count.load(Ordering::SeqCst) == 1 }).await;
    let second = tokio::time::timeout(Duration::from_secs(20), router.chat("one")).await;
    assert_eq!(second.expect("an answer while the first waits").status, 200);
    expert.gate.as_ref().unwrap().notify_one();
    assert_eq!(first.await.unwrap(), 200);
}
