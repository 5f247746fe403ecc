use std::{io::Write, ops::ControlFlow};

use routing::{
    Prices,
    snapshot::{Capability, Expert},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{Answer, AskError, AskOptions, Asker, Attempt, Backoff};

fn expert() -> Expert {
    let mut expert = Expert::plain("atlas");
    expert.model_name = "atlas-7b".into();
    expert.prices = Some(Prices { input_per_million: 1.0, output_per_million: 10.0, ..Prices::default() });
    expert
}

fn asker(expert: &Expert) -> Asker {
    Asker::new(expert, &AskOptions { max_tokens: 100, logprobs: true, backoff: Backoff::default() }).unwrap()
}

fn body(expert: &Expert) -> Value {
    serde_json::from_slice(&asker(expert).body(&[json!({"role": "user", "content": "Hi"})]).unwrap()).unwrap()
}

#[test]
fn an_expert_is_asked_in_its_own_way() {
    let mut expert = expert();
    expert.prepend_messages = vec![json!({"role": "system", "content": "Be brief."})];
    expert.body_overrides = serde_json::from_value(json!({"temperature": 0, "max_tokens": 24})).unwrap();
    let body = body(&expert);
    assert_eq!((body["model"].as_str(), body["messages"][0]["content"].as_str()), (Some("atlas-7b"), Some("Be brief.")));
    assert_eq!((&body["messages"][1]["content"], &body["temperature"], &body["max_tokens"]), (&json!("Hi"), &json!(0), &json!(24)));
    assert_eq!(body.get("logprobs"), None, "it does not say that it has them");
}

#[test]
fn no_answer_is_without_limit_and_log_probabilities_are_asked_for_where_there_are_some() {
    let mut expert = expert();
    expert.capabilities = vec![Capability::Logprobs];
    let asked = body(&expert);
    assert_eq!((&asked["max_tokens"], &asked["logprobs"]), (&json!(100), &json!(true)));
    expert.body_overrides = serde_json::from_value(json!({"max_completion_tokens": 7})).unwrap();
    assert_eq!(body(&expert).get("max_tokens"), None, "one limit is enough");
}

#[test]
fn the_worst_case_is_above_what_any_tokenizer_makes_of_it() {
    let mut expert = expert();
    let asker_of = |expert: &Expert| {
        let asker = asker(expert);
        let body = asker.body(&[json!({"role": "user", "content": "x".repeat(1000)})]).unwrap();
        (asker.most_cost_usd(&body), asker.likely_cost_usd(&body, Some(20.0)))
    };
    let (most, likely) = asker_of(&expert);
    assert!((2000.0 / 1e6..3000.0 / 1e6).contains(&most), "{most}");
    assert!(likely > (250.0 + 20.0 * 10.0) / 1e6 && likely < most, "{likely}");
    expert.body_overrides = serde_json::from_value(json!({"tools": [{"description": "y".repeat(5000)}]})).unwrap();
    assert!(asker_of(&expert).0 > most + 5000.0 / 1e6, "tools are read too");
    expert.context_tokens = Some(50);
    assert!((asker_of(&expert).0 - (50.0 + 1000.0) / 1e6).abs() < 1e-12, "a prompt longer than the context is not answered");
    expert.prices = None;
    assert_eq!(asker_of(&expert), (0.0, 0.0));
}

#[test]
fn a_picture_can_cost_more_than_the_letters_of_its_address() {
    let most = |part: Value, expert: &Expert| {
        let asker = asker(expert);
        asker.most_cost_usd(&asker.body(&[json!({"role": "user", "content": [{"type": "text", "text": "Who?"}, part]})]).unwrap())
    };
    let mut expert = expert();
    let picture = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    assert!(most(json!({"type": "text", "text": "Is it he?"}), &expert) < 0.002);
    assert!(most(picture.clone(), &expert) > 0.048);
    expert.context_tokens = Some(8_000);
    assert!((most(picture, &expert) - (8_000.0 + 1000.0) / 1e6).abs() < 1e-12, "no expert reads more than its context");
}

/// What asking a server came to that answers every request with these bytes, and what was told of the attempts.
async fn asked(response: Vec<u8>, attempts: u32, may_wait: bool) -> (Result<Answer, AskError>, Vec<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut expert = expert();
    expert.base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1 << 16];
            // The head and the body of so small a request come together or one after the other.
            while !request.windows(2).any(|two| two == b"Hi") {
                let read = stream.read(&mut request).await.unwrap();
                assert!(read > 0);
            }
            stream.write_all(&response).await.unwrap();
        }
    });
    let asker =
        Asker::new(&expert, &AskOptions { max_tokens: 9, logprobs: false, backoff: Backoff { attempts, ..Backoff::default() } }).unwrap();
    let body = asker.body(&[json!({"role": "user", "content": "Hi"})]).unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |attempt| {
        told.borrow_mut().push(match attempt {
            Attempt::Sent => "sent",
            Attempt::Lost => "lost",
            Attempt::Failed { .. } => "failed",
        });
        ControlFlow::Continue(())
    };
    let wait = async |_| {
        told.borrow_mut().push("wait");
        if may_wait { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let found = asker.ask(&body, 1, tell, wait).await;
    server.abort();
    (found, told.into_inner())
}

fn response(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

const ANSWER: &[u8] = br#"{"choices":[{"message":{"content":"Rome."}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;

#[tokio::test]
async fn an_answer_is_read_though_it_is_compressed() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(ANSWER).unwrap();
    let response = response("200 OK\r\ncontent-encoding: gzip", &packed.finish().unwrap());
    let (found, told) = asked(response, 1, true).await;
    assert_eq!((found.unwrap().text.as_str(), told.as_slice()), ("Rome.", &["sent"][..]));
}

#[tokio::test]
async fn an_error_counts_as_one_whatever_its_status_and_costs_nothing() {
    let check = async |head: &str, body: &[u8], expected: &str, attempts: &[&str]| {
        let (found, told) = asked(response(head, body), 2, true).await;
        assert_eq!((found.unwrap_err().to_string().as_str(), told.as_slice()), (expected, attempts), "{head}");
    };
    let once = ["sent", "failed"];
    let twice = ["sent", "failed", "wait", "sent", "failed"];
    check("400 Bad", br#"{"error":{"message":"too long"}}"#, "400 Bad Request: too long", &once).await;
    check("200 OK", br#"{"error":{"message":"too long","code":400}}"#, "400 Bad Request: too long", &once).await;
    check("200 OK", br#"{"error":{"message":"wrong key","code":401}}"#, "401 Unauthorized: wrong key", &once).await;
    check("200 OK", br#"{"error":"loading"}"#, "502 Bad Gateway: loading (tried 2 times)", &twice).await;
    check("503 Busy", b"", "503 Service Unavailable: no message (tried 2 times)", &twice).await;
    let moved = "308 Permanent Redirect: it is at https://elsewhere/v1, and redirects are not followed: change the expert's url";
    check("308 Moved\r\nlocation: https://elsewhere/v1", b"", moved, &once).await;
}

#[tokio::test]
async fn what_is_no_answer_may_have_been_paid_for() {
    let (found, told) = asked(response("200 OK", &ANSWER[..20]), 2, true).await;
    assert!(found.unwrap_err().to_string().contains("not JSON"));
    assert_eq!(told, ["sent", "lost", "wait", "sent", "lost"]);
}

#[tokio::test]
async fn whoever_may_not_wait_asks_no_further() {
    let (found, told) = asked(response("429 Slow down\r\nretry-after: 60", b""), 9, false).await;
    assert!(matches!(found, Err(AskError::Stopped)), "{found:?}");
    assert_eq!(told, ["sent", "failed", "wait"]);
}
