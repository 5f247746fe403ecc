//! Answers that are none, errors that are somebody else's, and what either costs.

use serde_json::{Value, json};

use super::support::{Answer, Expert, Router, Step, chat, chunk, events, expert_json, json_response, response, snapshot};

/// Two experts; the first is asked first.
async fn pair(first: &Expert, of_first: Value, second: &Expert, of_second: Value) -> Router {
    let experts = [expert_json("first", &first.url(), of_first), expert_json("second", &second.url(), of_second)];
    Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "first"}}))).await
}

async fn stream(router: &Router, model: &str) -> Answer {
    let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "Say something."}]});
    router.client.post("/v1/chat/completions", &body).await
}

/// The second expert answers in place of the first, whole or streamed as the first was asked.
async fn steps_in(steps: Vec<Step>, streamed: bool, cause: &str) {
    let first = Expert::always(steps.clone()).await;
    let second = Expert::start(move |_, _| {
        let end = vec![chunk("data: [DONE]\n\n"), Step::send("0\r\n\r\n")];
        if streamed { [events(&["ok"], None), end].concat() } else { chat("ok", None) }
    })
    .await;
    let router = pair(&first, json!({}), &second, json!({})).await;
    let answer = if streamed { stream(&router, "auto").await } else { router.chat("auto").await };
    let from = (answer.status, answer.header("x-expert-router-expert"), answer.complete);
    assert_eq!(from, (200, "second", true), "{steps:?}: {}", answer.text());
    assert!(!answer.text().contains("error"), "{}", answer.text());
    router.counts(&format!(r#"expert_router_fallbacks_total{{cause="{cause}",expert="first"}}"#), 1.0).await;
    // What came to nothing costs nothing.
    router.counts(r#"expert_router_usage_missing_total{expert="first"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_expert_steps_in_for_an_answer_that_is_an_error_with_status_200() {
    let fault = |code: u16| json!({"error": {"message": "the provider failed", "code": code}});
    steps_in(vec![json_response(200, &fault(502))], false, "server_error").await;
    steps_in(vec![json_response(200, &fault(429))], false, "rate_limited").await;
    steps_in(vec![json_response(200, &json!({"error": "out of memory"}))], false, "server_error").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_expert_steps_in_for_an_answer_that_is_empty_or_a_page() {
    steps_in(vec![response(200, "content-type: application/json\r\n", "")], false, "cut").await;
    steps_in(vec![response(200, "", "\n")], false, "cut").await;
    steps_in(vec![Step::send("HTTP/1.1 204 No Content\r\n\r\n")], false, "cut").await;
    steps_in(vec![Step::send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")], false, "reset").await;
    steps_in(vec![response(200, "content-type: text/html; charset=utf-8\r\n", "<h1>Sign in</h1>")], false, "server_error").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_expert_steps_in_for_a_stream_that_begins_with_an_error() {
    let begun = |pieces: &[&str]| {
        let pieces = pieces.iter().map(chunk).chain([Step::send("0\r\n\r\n")]);
        [events(&[], None), pieces.collect()].concat()
    };
    steps_in(begun(&["data: {\"error\":{\"message\":\"no\",\"code\":502}}\n\n", "data: [DONE]\n\n"]), true, "server_error").await;
    // In pieces, after signs of life, and without the line's end.
    steps_in(begun(&[": ping\n\n", "da", "ta: {\"error\":{\"code\"", ":429}}\n\n"]), true, "rate_limited").await;
    steps_in(begun(&["event: error\n", "data: {\"message\":\"no\"}"]), true, "server_error").await;
    // Signs of life alone are no answer.
    steps_in(begun(&[": ping\n\n", ": ping\n\n"]), true, "cut").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_status_200_that_nobody_steps_in_for_gets_the_status_it_speaks_of() {
    let whole = Expert::always(vec![json_response(200, &json!({"error": {"message": "no", "code": 429}}))]).await;
    let begins = chunk("data: {\"error\":{\"message\":\"your fault\",\"type\":\"invalid_request_error\"}}\n\n");
    let streamed = Expert::always([events(&[], None), vec![begins, Step::send("0\r\n\r\n")]].concat()).await;
    let router = pair(&whole, json!({"prices": {"inputPerMillion": 1.0, "outputPerMillion": 1.0}}), &streamed, json!({})).await;
    let answer = router.chat("first").await;
    assert_eq!((answer.status, answer.text()), (429, r#"{"error":{"message":"no","code":429}}"#.into()));
    assert_eq!(answer.header("x-expert-router-cost-usd"), "");
    let answer = stream(&router, "second").await;
    assert_eq!((answer.status, answer.header("content-type")), (400, "application/json"));
    assert_eq!(answer.json()["error"]["message"], "your fault");
    router.counts(r#"expert_router_cost_usd_total{expert="first"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_of_a_stream_reaches_the_client_and_counts_as_a_cut() {
    let error = chunk("data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n");
    let end = vec![error, chunk("data: [DONE]\n\n"), Step::send("0\r\n\r\n")];
    let expert = Expert::always([events(&["be", "gun"], None), end].concat()).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let answer = stream(&router, "one").await;
    assert!(answer.complete && answer.text().contains("boom"), "{}", answer.text());
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="upstream_cut",status="2xx"}"#, 1.0).await;
    router.counts(r#"expert_router_streams_cut_total{cause="upstream",expert="one"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_expert_steps_in_where_this_router_is_not_let_in() {
    for status in [401, 402, 403, 404, 405, 413] {
        steps_in(vec![json_response(status, &json!({"message": "not you"}))], false, "client_error").await;
    }
    steps_in(vec![json_response(408, &json!({"message": "too slow"}))], false, "client_error").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_clients_own_that_is_refused_is_for_the_client_to_see() {
    let first = Expert::always(vec![json_response(401, &json!({"error": {"message": "your key"}}))]).await;
    let second = Expert::always(chat("b", None)).await;
    let router = pair(&first, json!({"forwardAuthorization": true}), &second, json!({})).await;
    let body = json!({"messages": [{"role": "user", "content": "?"}]}).to_string();
    for headers in [&[("authorization", "Bearer mine")][..], &[]] {
        let answer = router.client.post_with("/v1/chat/completions", headers, body.clone()).await;
        assert_eq!((answer.status, second.count()), (401, 0), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_limit_at_an_expert_keeps_nobody_else_from_it() {
    let limited = json!({"error": {"message": "your limit"}});
    let first =
        Expert::start(
            move |_, seen| {
                if seen.headers["authorization"] == "Bearer greedy" { vec![json_response(429, &limited)] } else { chat("a", None) }
            },
        )
        .await;
    let second = Expert::always(chat("b", None)).await;
    let of_first = json!({"forwardAuthorization": true, "health": {"consecutiveFailures": 1}});
    let router = pair(&first, of_first, &second, json!({})).await;
    for (key, expert) in [("Bearer greedy", "second"), ("Bearer greedy", "second"), ("Bearer modest", "first")] {
        let body = json!({"messages": [{"role": "user", "content": "?"}]}).to_string();
        let answer = router.client.post_with("/v1/chat/completions", &[("authorization", key)], body).await;
        assert_eq!((answer.status, answer.header("x-expert-router-expert")), (200, expert), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_that_refuses_our_key_is_taken_out_of_rotation() {
    let first = Expert::always(vec![json_response(401, &json!({"error": {"message": "unknown key"}}))]).await;
    let second = Expert::always(chat("b", None)).await;
    let router = pair(&first, json!({"health": {"consecutiveFailures": 2}}), &second, json!({})).await;
    for _ in 0..4 {
        assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "second");
    }
    assert_eq!(first.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_an_experts_context_goes_to_a_longer_one_only() {
    let over = json!({"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}});
    let check = |of_second: Value, expect: (u16, usize)| {
        let over = over.clone();
        async move {
            let first = Expert::always(vec![json_response(400, &over)]).await;
            let second = Expert::always(chat("b", None)).await;
            let router = pair(&first, json!({"contextTokens": 4000}), &second, of_second).await;
            let answer = router.chat("auto").await;
            assert_eq!((answer.status, second.count()), expect, "{}", answer.text());
        }
    };
    check(json!({"contextTokens": 8000}), (200, 1)).await;
    check(json!({}), (200, 1)).await;
    check(json!({"contextTokens": 4000}), (400, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_another_shape_reaches_the_client_in_openais() {
    let page = response(502, "content-type: text/html\r\nretry-after: 3\r\n", "<h1>Bad gateway</h1>");
    let (page, words) = (Expert::always(vec![page]).await, Expert::always(vec![response(422, "", "no such voice")]).await);
    let router = pair(&page, json!({}), &words, json!({})).await;
    let answer = router.chat("first").await;
    assert_eq!((answer.error(), answer.header("retry-after")), ((502, "upstream_status".into()), "3"));
    assert!(!answer.text().contains("<h1>"), "{}", answer.text());
    let answer = router.chat("second").await;
    assert_eq!(answer.error(), (422, "upstream_status".into()));
    assert!(answer.text().contains("no such voice"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_usage_cost_what_was_written_and_vectors_are_not_written() {
    let vectors = json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": vec![0.125; 2000]}]});
    let expert = Expert::start(move |_, seen| {
        if seen.path.ends_with("/embeddings") { vec![json_response(200, &vectors)] } else { chat(&"word".repeat(100), None) }
    })
    .await;
    let prices = json!({"prices": {"inputPerMillion": 0.0, "outputPerMillion": 1e6}});
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), prices)], json!({}))).await;
    assert_eq!(router.chat("one").await.header("x-expert-router-cost-usd"), "100");
    let answer = router.client.post("/v1/embeddings", &json!({"model": "one", "input": "?"})).await;
    assert_eq!(answer.header("x-expert-router-cost-usd"), "0");
    router.counts(r#"expert_router_usage_missing_total{expert="one"}"#, 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_too_large_to_wait_for_costs_the_usage_at_its_end() {
    let vectors = "0.125,".repeat(1 << 19);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let end = chunk("1],\"usage\":{\"prompt_tokens\":3,\"total_tokens\":3}}");
    let steps = [Step::send(head), chunk("{\"data\":["), chunk(&vectors), chunk(&vectors), chunk(&vectors), end, Step::send("0\r\n\r\n")];
    let expert = Expert::always(steps.to_vec()).await;
    let prices = json!({"prices": {"inputPerMillion": 1e6, "outputPerMillion": 1e6}});
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), prices)], json!({}))).await;
    let answer = router.client.post("/v1/embeddings", &json!({"model": "one", "input": "?"})).await;
    assert!(answer.complete && answer.body.len() > 9 << 20, "{}", answer.body.len());
    router.counts(r#"expert_router_cost_usd_total{expert="one"}"#, 3.0).await;
    router.counts(r#"expert_router_usage_missing_total{expert="one"}"#, 0.0).await;
}
