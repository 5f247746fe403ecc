//! Likelihoods against the real llama.cpp server: what one request finds equals what asking token by token finds.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    io::{BufRead, BufReader},
    ops::ControlFlow,
    path::Path,
    process::{Child, Command, Stdio},
};

use reqwest::Client;
use routing::snapshot::{Capability, Expert};
use serde_json::{Value, json};
use train::{
    ask::{AskOptions, Asker, Backoff},
    nll,
};

/// The server; it ends with the value, for its standard input closes then.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("python/llama_server.py");
        let mut child = Command::new(parts::python().unwrap())
            .arg(script)
            .arg(parts::chat_model().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("READY ").map(str::to_owned));
        Self { child, url: url.expect("the server says where it is") }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let response = client().post(format!("{}{path}", self.url)).json(&body).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.unwrap()
    }

    async fn tokens(&self, text: &str, special: bool) -> Vec<i64> {
        let found = self.post("/tokenize", json!({"content": text, "add_special": special, "parse_special": special})).await;
        found["tokens"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
    }

    /// Log-probability of each token after the prompt and the tokens before it: one request each, over the whole vocabulary.
    async fn stepwise(&self, prompt: &[i64], text: &[i64]) -> Vec<f64> {
        let (mut before, mut found) = (prompt.to_vec(), Vec::new());
        for token in text {
            let body = json!({"prompt": before, "n_predict": 1, "temperature": 0, "n_probs": 60_000, "cache_prompt": false});
            let answer = self.post("/completion", body).await;
            let all = answer["completion_probabilities"][0]["top_logprobs"].as_array().unwrap();
            let entry = all.iter().find(|entry| entry["id"] == *token).expect("every token has a probability");
            found.push(entry["logprob"].as_f64().unwrap());
            before.push(*token);
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

fn conversation() -> Vec<Value> {
    vec![
        json!({"role": "system", "content": "You name capital cities."}),
        json!({"role": "user", "content": "Name the capital of France."}),
        json!({"role": "assistant", "content": "The capital of France is Paris."}),
        json!({"role": "user", "content": "Name the capital of Italy."}),
    ]
}

#[tokio::test]
async fn the_likelihood_of_a_given_text_equals_stepwise_scoring() {
    let server = Server::start();
    let applied = server.post("/apply-template", json!({"messages": conversation()})).await;
    let prompt = server.tokens(applied["prompt"].as_str().unwrap(), true).await;
    for text in ["The capital of Italy is Rome.", "Bananas \"quoted\" \\ back", "line one\nline two", "Größe 3.5 €"] {
        let forced = nll::of_text(&client(), &server.url, &conversation(), text).await.unwrap();
        let tokens = server.tokens(text, false).await;
        let stepwise = server.stepwise(&prompt, &tokens).await;
        let expected = -stepwise.iter().sum::<f64>() / stepwise.len() as f64;
        assert!(
            (forced.mean_nll() - expected).abs() < 0.01,
            "{text:?}: {} and stepwise {expected}\n{forced:?}\n{stepwise:?}",
            forced.mean_nll()
        );
    }
    let error = nll::of_text(&client(), &server.url, &conversation(), "").await.unwrap_err().to_string();
    assert!(error.contains("empty"), "{error}");
}

#[tokio::test]
async fn the_likelihood_of_an_answer_equals_stepwise_scoring() {
    let server = Server::start();
    let mut expert = Expert::plain("local");
    expert.base_url = format!("{}/v1", server.url);
    expert.capabilities = vec![Capability::Logprobs];
    expert.prepend_messages = conversation()[..3].to_vec();
    expert.body_overrides = serde_json::from_value(json!({"temperature": 0, "max_tokens": 12, "stop": ["\n"]})).unwrap();
    let client = client();
    let asker = Asker::new(&expert, &AskOptions { max_tokens: 100, logprobs: true, backoff: Backoff::default() }).unwrap();
    let body = asker.body(&conversation()[3..]).unwrap();
    let answer = asker.ask(&body, 1, |_| ControlFlow::Continue(()), async |_| ControlFlow::Continue(())).await.unwrap();
    drop(client);
    assert!(!answer.text.is_empty());

    let applied = server.post("/apply-template", json!({"messages": conversation()})).await;
    let prompt = server.tokens(applied["prompt"].as_str().unwrap(), true).await;
    // What was said, and the token that ended it where one did.
    let mut tokens = server.tokens(&answer.text, false).await;
    if answer.finish_reason.as_deref() == Some("stop") {
        tokens.extend(server.tokens("<|im_end|>", true).await);
    }
    let counted = answer.usage.unwrap().completion_tokens as usize;
    assert!(counted == tokens.len(), "{counted} tokens were counted of {:?}, {tokens:?}", answer.text);
    let stepwise = server.stepwise(&prompt, &tokens).await;
    let found = answer.nll.unwrap();
    let mean = |tokens: &[f64]| -tokens.iter().sum::<f64>() / tokens.len() as f64;
    // The server may or may not tell the last token's.
    let candidates = [mean(&stepwise), mean(&stepwise[..stepwise.len() - 1])];
    assert!(candidates.iter().any(|expected| (found - expected).abs() < 0.01), "{found}, stepwise {candidates:?}");
}
