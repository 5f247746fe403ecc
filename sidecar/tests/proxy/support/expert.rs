//! An expert that does as it is told, byte by byte: what it sends, when it pauses, where it breaks.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// One thing an expert does.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Bytes),
    /// Until told, or until the client goes.
    Hold(Arc<Notify>),
    /// Until the client goes.
    Hang,
    /// Ends the connection properly.
    Close,
    /// Ends it with a reset.
    Reset,
}

impl Step {
    pub fn send(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Send(Bytes::from(bytes.into()))
    }
}

/// A request as the expert saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Script = dyn Fn(usize, &Seen) -> Vec<Step> + Send + Sync;

/// Listens until the test ends.
#[derive(Clone)]
pub struct Expert {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    hangups: Arc<AtomicUsize>,
}

impl Expert {
    /// The script gets the request's number, from 0.
    pub async fn start(script: impl Fn(usize, &Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub async fn start_at(address: SocketAddr, script: impl Fn(usize, &Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let expert =
            Self { address: listener.local_addr().unwrap(), seen: Arc::default(), connections: Arc::default(), hangups: Arc::default() };
        let (me, script): (_, Arc<Script>) = (expert.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                me.connections.fetch_add(1, Ordering::SeqCst);
                let (me, script) = (me.clone(), script.clone());
                tokio::spawn(async move { me.serve(stream, &*script).await });
            }
        });
        expert
    }

    /// Always the same answer.
    pub async fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_, _| steps.clone()).await
    }

    /// An address nobody listens on.
    pub fn nowhere() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Clients that went while the expert was still at work.
    pub fn hangups(&self) -> usize {
        self.hangups.load(Ordering::SeqCst)
    }

    async fn serve(&self, mut stream: TcpStream, script: &Script) {
        let mut buffer = BytesMut::new();
        while let Some(seen) = request(&mut stream, &mut buffer).await {
            let number = {
                let mut all = self.seen.lock().unwrap();
                all.push(seen.clone());
                all.len() - 1
            };
            for step in script(number, &seen) {
                if !self.step(&mut stream, step).await {
                    return;
                }
            }
        }
    }

    /// False where the connection is over.
    async fn step(&self, stream: &mut TcpStream, step: Step) -> bool {
        let mut rest = [0; 64];
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await.is_ok(),
            Step::Hold(notify) => tokio::select! {
                () = notify.notified() => true,
                _ = stream.read(&mut rest) => { self.hangups.fetch_add(1, Ordering::SeqCst); false }
            },
            Step::Hang => {
                let _ = stream.read(&mut rest).await;
                self.hangups.fetch_add(1, Ordering::SeqCst);
                false
            }
            Step::Close => {
                let _ = stream.shutdown().await;
                false
            }
            Step::Reset => {
                #[allow(deprecated, reason = "the only way to send a reset")]
                stream.set_linger(Some(Duration::ZERO)).unwrap();
                false
            }
        }
    }
}

/// Reads one HTTP/1.1 request.
async fn request(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<Seen> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.split_to(end + 4).to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.append(name.parse::<HeaderName>().unwrap(), value.trim().parse::<HeaderValue>().unwrap());
    }
    let length: usize = headers.get("content-length").map_or(0, |value| value.to_str().unwrap().parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { path, headers, body: buffer.split_to(length).freeze() })
}

/// A whole response.
pub fn response(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Step {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\n\r\n", body.len());
    Step::send([head.as_bytes(), body].concat())
}

pub fn json_response(status: u16, body: &Value) -> Step {
    response(status, "content-type: application/json\r\n", body.to_string())
}

/// A chat completion of so many tokens: prompt, of it cached, completion.
pub fn completion(text: &str, tokens: Option<(u64, u64, u64)>) -> Value {
    let mut body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    });
    if let Some(usage) = tokens {
        body["usage"] = usage_json(usage);
    }
    body
}

fn usage_json((prompt, cached, completion): (u64, u64, u64)) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
           "prompt_tokens_details": {"cached_tokens": cached}})
}

/// An expert's whole answer.
pub fn chat(text: &str, tokens: Option<(u64, u64, u64)>) -> Vec<Step> {
    vec![json_response(200, &completion(text, tokens))]
}

/// A piece of a chunked body.
pub fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    Step::send([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

/// The beginning of a stream, an event for each word, and usage at the end where asked for. Without the end of the stream: append
/// `chunk("data: [DONE]\n\n")` and `Step::send("0\r\n\r\n")`, or do not.
pub fn events(words: &[&str], tokens: Option<(u64, u64, u64)>) -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::send(head)];
    for word in words {
        let event = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}]});
        steps.push(chunk(format!("data: {event}\n\n")));
    }
    if let Some(usage) = tokens {
        let event =
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": usage_json(usage)});
        steps.push(chunk(format!("data: {event}\n\n")));
    }
    steps
}
