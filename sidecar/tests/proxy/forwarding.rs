//! The way to an expert and back: what reaches it, what the client gets, and who steps in when it fails.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::support::{Expert, Router, Step, chat, chunk, events, eventually, expert_json, json_response, response, snapshot};

/// Two experts; the first is asked first, since it is the fallback expert of a router without a model.
async fn pair(first: &Expert, second: &Expert, of_first: Value) -> Router {
    let experts = [expert_json("first", &first.url(), of_first), expert_json("second", &second.url(), json!({}))];
    Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "first"}}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_request_reaches_its_expert_and_the_answer_says_who_and_why() {
    let expert = Expert::always(chat("Hello.", Some((10, 0, 5)))).await;
    let other = Expert::always(chat("Not me.", None)).await;
    let router = pair(&expert, &other, json!({})).await;
    let answer = router.chat("first").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello.");
    assert_eq!((answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason")), ("first", "pinned"));
    assert!(answer.header("x-expert-router-decision-ms").parse::<f64>().unwrap() >= 0.0);
    let seen = expert.seen();
    assert_eq!((seen.len(), other.count()), (1, 0));
    assert_eq!((seen[0].path.as_str(), &seen[0].json()["model"]), ("/v1/chat/completions", &json!("first-model")));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_the_fallback_expert_answers_and_the_reason_says_so() {
    let (first, second) = (Expert::always(chat("a", None)).await, Expert::always(chat("b", None)).await);
    let router = pair(&first, &second, json!({})).await;
    for model in ["auto", "chat"] {
        let answer = router.chat(model).await;
        assert_eq!((answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason")), ("first", "no_model"), "{model}");
    }
    let body = json!({"messages": [{"role": "user", "content": "No model named."}]});
    assert_eq!(router.client.post("/v1/chat/completions", &body).await.header("x-expert-router-expert"), "first");
    assert_eq!(router.chat("nobody").await.error(), (404, "model_not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_do_not_act_on_reaches_the_expert_byte_for_byte() {
    let expert = Expert::always(chat("ok", None)).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let tail = r#""messages":[{"role":"user","content":"\u00e9 \ud83d\ude00 /","x":[1.0,1e400,-0]}],"temperature":0.10,"seed":12345678901234567890123,"z":{"b":1,"a":{"d":null,"c":2.50}},"logit_bias":{"50256":-100}}"#;
    let answer = router.client.post_with("/v1/chat/completions", &[], format!(r#"{{"model":"one",{tail}"#)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(String::from_utf8(expert.seen()[0].body.to_vec()).unwrap(), format!(r#"{{"model":"one-model",{tail}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experts_messages_overrides_and_credentials_are_its_own() {
    let expert = Expert::always(chat("ok", None)).await;
    let router = Router::start_with(
        |folder| {
            std::fs::write(folder.join("token"), "expert-token\n").unwrap();
            let more = json!({
                "prependMessages": [{"role": "system", "content": "Answer with SQL."}],
                "bodyOverrides": {"temperature": 0},
                "credentialsFile": folder.join("token"),
            });
            snapshot(&[expert_json("sql", &expert.url(), more)], json!({}))
        },
        "",
    )
    .await;
    let body = json!({"model": "sql", "temperature": 1, "messages": [{"role": "user", "content": "Count them."}]}).to_string();
    let headers = [("authorization", "Bearer client-secret"), ("x-request-id", "trace-7"), ("x-mine", "kept")];
    let answer = router.client.post_with("/v1/chat/completions", &headers, body).await;
    assert_eq!(answer.header("x-expert-router-request-id"), "trace-7");
    let seen = &expert.seen()[0];
    assert_eq!(
        seen.json()["messages"],
        json!([{"role": "system", "content": "Answer with SQL."}, {"role": "user", "content": "Count them."}])
    );
    assert_eq!(seen.json()["temperature"], 0);
    assert_eq!(seen.headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer expert-token"]);
    assert_eq!((&seen.headers["x-request-id"], &seen.headers["x-mine"]), (&"trace-7".parse().unwrap(), &"kept".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_authorization_goes_on_only_where_the_expert_asks_for_it() {
    let (first, second) = (Expert::always(chat("a", None)).await, Expert::always(chat("b", None)).await);
    let router = pair(&first, &second, json!({"forwardAuthorization": true})).await;
    let body = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "?"}]}).to_string();
    for model in ["first", "second"] {
        router.client.post_with("/v1/chat/completions", &[("authorization", "Bearer mine")], body(model)).await;
    }
    assert_eq!(first.seen()[0].headers["authorization"], "Bearer mine");
    assert!(!second.seen()[0].headers.contains_key("authorization"));
}

/// One kind of failure before the first byte: the second expert answers, and the failure is counted as what it was.
async fn steps_in(first: &Expert, of_first: Value, cause: &str) {
    let second = Expert::always(chat("Stepped in.", None)).await;
    let router = pair(first, &second, of_first).await;
    let answer = router.chat("auto").await;
    assert_eq!((answer.status, answer.header("x-expert-router-expert")), (200, "second"), "{cause}: {}", answer.text());
    router.counts(&format!(r#"expert_router_fallbacks_total{{cause="{cause}",expert="first"}}"#), 1.0).await;
    router.counts(&format!(r#"expert_router_upstream_attempts_total{{expert="first",result="{cause}"}}"#), 1.0).await;
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="ok",status="2xx"}"#, 1.0).await;
    router.counts(r#"expert_router_in_flight{expert="first"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_expert_steps_in_on_every_kind_of_failure_before_the_first_byte() {
    let error = |status| vec![json_response(status, &json!({"error": {"message": "no"}}))];
    steps_in(&Expert::always(error(500)).await, json!({}), "server_error").await;
    steps_in(&Expert::always(error(503)).await, json!({}), "server_error").await;
    steps_in(&Expert::always(error(429)).await, json!({}), "rate_limited").await;
    steps_in(&Expert::always(vec![Step::Hang]).await, json!({"timeouts": {"firstByteMilliseconds": 150}}), "timeout").await;
    steps_in(&Expert::always(vec![Step::Close]).await, json!({}), "reset").await;
    steps_in(&Expert::always(vec![Step::Reset]).await, json!({}), "reset").await;
    steps_in(&Expert::always(vec![Step::send("not HTTP at all\r\n\r\n"), Step::Close]).await, json!({}), "reset").await;
    // A whole answer that breaks off has not reached the client either.
    let cut = vec![Step::send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\""), Step::Close];
    steps_in(&Expert::always(cut).await, json!({}), "cut").await;
    let stalled = vec![Step::send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\""), Step::Hang];
    steps_in(&Expert::always(stalled).await, json!({"timeouts": {"idleMilliseconds": 150}}), "timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_expert_steps_in_for_a_stream_of_which_nothing_came_but_the_head() {
    let begun = |end: Step| [events(&[], None), vec![end]].concat();
    steps_in(&Expert::always(begun(Step::Close)).await, json!({}), "cut").await;
    steps_in(&Expert::always(begun(Step::Reset)).await, json!({}), "cut").await;
    steps_in(&Expert::always(begun(Step::send("0\r\n\r\n"))).await, json!({}), "cut").await;
    steps_in(&Expert::always(begun(Step::Hang)).await, json!({"timeouts": {"firstByteMilliseconds": 150}}), "timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_expert_steps_in_where_nobody_listens() {
    let second = Expert::always(chat("Stepped in.", None)).await;
    let gone = format!("http://{}/v1", Expert::nowhere());
    let experts = [expert_json("first", &gone, json!({})), expert_json("second", &second.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "first"}}))).await;
    assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "second");
    router.counts(r#"expert_router_fallbacks_total{cause="connect",expert="first"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_steps_in_for_the_requests_own_fault_nor_for_a_pinned_expert() {
    let first = Expert::always(vec![json_response(422, &json!({"error": {"message": "your temperature"}}))]).await;
    let second = Expert::always(chat("b", None)).await;
    let router = pair(&first, &second, json!({})).await;
    let answer = router.chat("auto").await;
    assert_eq!((answer.status, answer.text()), (422, r#"{"error":{"message":"your temperature"}}"#.into()));
    let broken = Expert::always(vec![Step::Close]).await;
    let router = pair(&broken, &second, json!({})).await;
    assert_eq!(router.chat("first").await.error(), (502, "upstream_reset".into()));
    assert_eq!(second.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_expert_fails_the_last_error_in_words_is_passed_on() {
    let first = Expert::always(vec![response(
        429,
        "content-type: application/json\r\nretry-after: 17\r\nx-request-id: theirs\r\n",
        "{\"error\":1}",
    )])
    .await;
    let second = Expert::always(vec![Step::Close]).await;
    let router = pair(&first, &second, json!({})).await;
    let answer = router.chat("auto").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("retry-after")), (429, "{\"error\":1}", "17"));
    assert_eq!((answer.header("x-expert-router-expert"), answer.header("x-expert-router-upstream-request-id")), ("first", "theirs"));
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="upstream_status",status="4xx"}"#, 1.0).await;
    let hangs = Expert::always(vec![Step::Hang]).await;
    let router = pair(&second, &hangs, json!({})).await;
    router.replace(
        "snapshot.json",
        snapshot(&[expert_json("slow", &hangs.url(), json!({"timeouts": {"firstByteMilliseconds": 100}}))], json!({"revision": "r2"}))
            .to_string(),
    );
    router.revision("r2").await;
    assert_eq!(router.chat("auto").await.error(), (504, "upstream_timeout".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_moves_on_to_an_expert_that_is_well_however_many_come_at_once() {
    let first = Expert::always(vec![json_response(500, &json!({"error": {"message": "no"}}))]).await;
    let second = Expert::always(chat("b", None)).await;
    let router = two_that_are_never_ejected(&first, &second).await;
    let answers = futures_util::future::join_all((0..200).map(|_| router.chat("auto"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 200);
    router.counts("expert_router_retries_denied_total", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_to_an_expert_that_fails_itself_are_paid_from_a_budget() {
    let fails = vec![json_response(500, &json!({"error": {"message": "no"}}))];
    let (first, second) = (Expert::always(fails.clone()).await, Expert::always(fails).await);
    let router = two_that_are_never_ejected(&first, &second).await;
    assert_eq!(router.chat("second").await.status, 500);
    let answers = futures_util::future::join_all((0..200).map(|_| router.chat("auto"))).await;
    assert!(answers.iter().all(|answer| answer.status == 500));
    // Three are saved up at the start, and three a second come in: two hundred at once cannot all be paid.
    let moved_on = second.count() - 1;
    assert!((3..200).contains(&moved_on), "{moved_on}");
    router.counts("expert_router_retries_denied_total", (200 - moved_on) as f64).await;
}

async fn two_that_are_never_ejected(first: &Expert, second: &Expert) -> Router {
    let experts = [("first", first), ("second", second)];
    let experts = experts.map(|(name, expert)| expert_json(name, &expert.url(), json!({"health": {"consecutiveFailures": 0}})));
    Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "first", "retryBudgetPercent": 0}}))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_that_was_closed_meanwhile_costs_nobody_a_request() {
    let served = |number: usize, _: &_| {
        let mut steps = chat("ok", None);
        if number == 0 {
            steps.push(Step::Close);
        }
        steps
    };
    // The first connection is closed without a word: its end may be seen before or after it is used again.
    let expert = Expert::start(served).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    for _ in 0..3 {
        assert_eq!(router.chat("one").await.status, 200);
    }
    // Deterministic: the connection takes the second request and dies of it.
    let dies = Expert::start(|number, _| if number == 1 { vec![Step::Close] } else { chat("ok", None) }).await;
    let router = Router::start(snapshot(&[expert_json("one", &dies.url(), json!({}))], json!({}))).await;
    for _ in 0..3 {
        assert_eq!(router.chat("one").await.status, 200);
    }
    router.counts(r#"expert_router_stale_connection_retries_total{expert="one"}"#, 1.0).await;
    assert_eq!((dies.count(), dies.connections()), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_takes_its_request_back_at_once() {
    let expert = Expert::always(vec![Step::Hang]).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let client = router.client.clone();
    let call = tokio::spawn(async move {
        client.post("/v1/chat/completions", &json!({"model": "one", "messages": [{"role": "user", "content": "?"}]})).await
    });
    eventually("the expert works", || async { expert.count() == 1 }).await;
    call.abort();
    eventually("the expert is let go", || async { expert.hangups() == 1 }).await;
    router.counts(r#"expert_router_requests_total{endpoint="chat_completions",outcome="client_gone",status="none"}"#, 1.0).await;
    router.counts(r#"expert_router_upstream_attempts_total{expert="one",result="cancelled"}"#, 1.0).await;
    router.counts(r#"expert_router_in_flight{expert="one"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_has_no_more_requests_at_once_than_it_may() {
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let first = Expert::start(move |_, _| [vec![Step::Hold(held.clone())], chat("slow", None)].concat()).await;
    let second = Expert::always(chat("fast", None)).await;
    let router = pair(&first, &second, json!({"maxInFlight": 1})).await;
    let router = Arc::new(router);
    let one = tokio::spawn({
        let router = router.clone();
        async move { router.chat("auto").await }
    });
    eventually("the first works", || async { first.count() == 1 }).await;
    assert_eq!(router.chat("auto").await.header("x-expert-router-expert"), "second");
    let refused = router.chat("first").await;
    assert_eq!((refused.error(), refused.header("retry-after")), ((503, "saturated".into()), "1"));
    release.notify_waiters();
    assert_eq!(one.await.unwrap().header("x-expert-router-expert"), "first");
    router.counts(r#"expert_router_in_flight{expert="first"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expert_that_failed_is_free_while_another_answers_in_its_place() {
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let busy = json_response(429, &json!({"error": {"message": "too many"}}));
    let first = Expert::start(move |number, _| if number == 0 { vec![busy.clone()] } else { chat("free", None) }).await;
    let second = Expert::start(move |_, _| [vec![Step::Hold(held.clone())], chat("slow", None)].concat()).await;
    let router = Arc::new(pair(&first, &second, json!({"maxInFlight": 1})).await);
    let one = tokio::spawn({
        let router = router.clone();
        async move { router.chat("auto").await }
    });
    eventually("the second works", || async { second.count() == 1 }).await;
    assert!(router.metric(r#"expert_router_in_flight{expert="first"}"#).await < 0.5);
    assert_eq!(router.chat("first").await.status, 200);
    release.notify_one();
    assert_eq!(one.await.unwrap().header("x-expert-router-expert"), "second");
    router.counts(r#"expert_router_in_flight{expert="first"}"#, 0.0).await;
    router.counts(r#"expert_router_in_flight{expert="second"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_goes_to_its_own_path() {
    let expert = Expert::start(|_, seen| {
        if seen.path.ends_with("/embeddings") {
            return vec![json_response(200, &json!({"object": "list", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}))];
        }
        chat("ok", Some((1, 0, 1)))
    })
    .await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({"capabilities": ["Embeddings"]}))], json!({}))).await;
    let bodies = [
        ("/v1/chat/completions", json!({"model": "one", "messages": [{"role": "user", "content": "?"}]})),
        ("/v1/completions", json!({"model": "one", "prompt": "?"})),
        ("/v1/responses", json!({"model": "one", "input": "?"})),
        ("/v1/embeddings", json!({"model": "one", "input": "?"})),
        ("/v1/embeddings", json!({"input": "?"})),
    ];
    for (path, body) in &bodies {
        assert_eq!(router.client.post(path, body).await.status, 200, "{path}");
    }
    let paths: Vec<_> = expert.seen().iter().map(|seen| seen.path.clone()).collect();
    assert_eq!(paths, bodies.map(|(path, _)| path.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_need_an_expert_by_name_unless_only_one_can() {
    let expert = Expert::always(chat("ok", None)).await;
    let able = json!({"capabilities": ["Embeddings"]});
    let experts = [expert_json("one", &expert.url(), able.clone()), expert_json("two", &expert.url(), able)];
    let router = Router::start(snapshot(&experts, json!({}))).await;
    let answer = router.client.post("/v1/embeddings", &json!({"model": "auto", "input": "?"})).await;
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("model")));
    assert_eq!(router.client.post("/v1/embeddings", &json!({"model": "two", "input": "?"})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_lists_what_a_client_may_ask_for() {
    let expert = Expert::always(chat("ok", None)).await;
    let experts = [expert_json("one", &expert.url(), json!({})), expert_json("two", &expert.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({}))).await;
    let list = router.client.get("/v1/models").await.json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["auto", "chat", "one", "two"]);
    assert_eq!(router.client.get("/v1/models/two").await.json()["id"], "two");
    assert_eq!(router.client.get("/v1/models/three").await.error(), (404, "model_not_found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn route_shows_the_decision_and_calls_nobody() {
    let (first, second) = (Expert::always(chat("a", None)).await, Expert::always(chat("b", None)).await);
    let router = pair(&first, &second, json!({})).await;
    for body in [json!({"messages": [{"role": "user", "content": "?"}]}), json!({"input": "?"}), json!({"prompt": "?"})] {
        let answer = router.client.post("/v1/route", &body).await;
        let decision = answer.json();
        assert_eq!(
            (&decision["expert"], &decision["reason"], &decision["score_failure"]),
            (&json!("first"), &json!("no_model"), &json!("no_model"))
        );
        assert_eq!((&decision["fallbacks"], &decision["candidates"]), (&json!(["second"]), &json!(["first", "second"])));
        assert!(decision["timing_ms"]["total"].is_number() && decision["prompt_tokens"].is_number());
    }
    assert_eq!((first.count(), second.count()), (0, 0));
    assert_eq!(router.client.post("/v1/route", &json!({"model": "auto"})).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_too_large_to_wait_for_is_passed_on_as_it_comes() {
    let text = "x".repeat(3 << 20);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let steps = vec![Step::send(head), chunk(&text), chunk(&text), chunk(&text), chunk(&text), Step::send("0\r\n\r\n")];
    let expert = Expert::always(steps).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let answer = router.chat("one").await;
    assert_eq!((answer.status, answer.body.len(), answer.complete), (200, 12 << 20, true));
    router.counts(r#"expert_router_usage_missing_total{expert="one"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_answer_is_passed_on_untouched() {
    let body = b"\x1f\x8b\x08 not really";
    let expert = Expert::always(vec![response(200, "content-type: application/json\r\ncontent-encoding: gzip\r\n", body)]).await;
    let router = Router::start(snapshot(&[expert_json("one", &expert.url(), json!({}))], json!({}))).await;
    let answer = router.chat("one").await;
    assert_eq!((answer.body.as_ref(), answer.header("content-encoding")), (&body[..], "gzip"));
    assert_eq!(expert.seen()[0].headers["accept-encoding"], "identity");
}
