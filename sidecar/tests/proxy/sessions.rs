//! Conversations stay with their expert.

use serde_json::json;

use super::support::{Expert, Router, Step, chat, chunk, expert_json, json_response, snapshot};

/// The first expert fails once, so that the conversation begins with the second.
async fn begun() -> (Router, Expert, Expert) {
    let first =
        Expert::start(|number, _| if number == 0 { vec![json_response(503, &json!({"error": {}}))] } else { chat("first", None) }).await;
    let second = Expert::always(chat("second", None)).await;
    let experts = [expert_json("first", &first.url(), json!({})), expert_json("second", &second.url(), json!({}))];
    let session = json!({"header": "x-conversation", "ttlSeconds": 600, "maxSessions": 100, "switchGain": 0.1});
    let more = json!({"policy": {"fallbackExpert": "first"}, "session": session});
    (Router::start(snapshot(&experts, more)).await, first, second)
}

async fn turn(router: &Router, headers: &[(&str, &str)], opening: &str, later: &[&str]) -> String {
    let mut messages = vec![json!({"role": "system", "content": "Be brief."}), json!({"role": "user", "content": opening})];
    for text in later {
        messages.push(json!({"role": "assistant", "content": "..."}));
        messages.push(json!({"role": "user", "content": text}));
    }
    let body = json!({"messages": messages}).to_string();
    let answer = router.client.post_with("/v1/chat/completions", headers, body).await;
    format!("{} {}", answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_named_by_header_stays_where_it_was_answered() {
    let (router, _, _) = begun().await;
    assert_eq!(turn(&router, &[("x-conversation", "c-1")], "Hello", &[]).await, "second no_model");
    assert_eq!(turn(&router, &[("x-conversation", "c-1")], "Something else", &[]).await, "second no_model");
    assert_eq!(turn(&router, &[("x-expert-router-session", "c-1")], "And again", &[]).await, "second no_model");
    assert_eq!(turn(&router, &[("x-conversation", "c-2")], "Hello", &[]).await, "first no_model");
    router.counts("expert_router_sessions", 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_of_a_conversation_do_not_move_it_to_who_makes_them() {
    let (router, _, _) = begun().await;
    let named = [("x-conversation", "c-1")];
    assert_eq!(turn(&router, &named, "Hello", &[]).await, "second no_model");
    let body = json!({"model": "first", "input": "?"}).to_string();
    assert_eq!(router.client.post_with("/v1/embeddings", &named, body).await.header("x-expert-router-expert"), "first");
    assert_eq!(turn(&router, &named, "And again", &[]).await, "second no_model");
    router.counts("expert_router_sessions", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_header_the_first_messages_name_the_conversation() {
    let (router, _, _) = begun().await;
    assert_eq!(turn(&router, &[], "Hello", &[]).await, "second no_model");
    assert_eq!(turn(&router, &[], "Hello", &["And then?"]).await, "second no_model");
    assert_eq!(turn(&router, &[], "Hello", &["And then?", "And then?"]).await, "second no_model");
    assert_eq!(turn(&router, &[], "Goodbye", &[]).await, "first no_model");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_outlive_a_new_snapshot_by_the_experts_name() {
    let (router, first, second) = begun().await;
    assert_eq!(turn(&router, &[("x-conversation", "c-1")], "Hello", &[]).await, "second no_model");
    // Another order, and one more in front: numbers change, names do not.
    let experts = [
        expert_json("new", &first.url(), json!({})),
        expert_json("second", &second.url(), json!({})),
        expert_json("first", &first.url(), json!({})),
    ];
    let session = json!({"header": "x-conversation", "ttlSeconds": 600, "maxSessions": 100, "switchGain": 0.1});
    let content = snapshot(&experts, json!({"revision": "r2", "policy": {"fallbackExpert": "first"}, "session": session}));
    router.replace("snapshot.json", content.to_string());
    router.revision("r2").await;
    assert_eq!(turn(&router, &[("x-conversation", "c-1")], "Hello", &[]).await, "second no_model");
    assert_eq!(turn(&router, &[("x-conversation", "c-3")], "Hello", &[]).await, "first no_model");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_is_gone_on_from_where_it_is_kept() {
    let whole = json!({"id": "resp_whole", "object": "response", "status": "completed", "output": []});
    let event = |name: &str| format!("data: {}\n\n", json!({"type": name, "response": {"id": "resp_streamed"}}));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let stream = vec![Step::send(head), chunk(event("response.created")), chunk(event("response.completed")), Step::send("0\r\n\r\n")];
    let first = Expert::always(vec![json_response(200, &json!({"id": "resp_of_first", "object": "response"}))]).await;
    let second =
        Expert::start(move |_, seen| if seen.json()["stream"] == true { stream.clone() } else { vec![json_response(200, &whole)] }).await;
    let experts = [expert_json("first", &first.url(), json!({})), expert_json("second", &second.url(), json!({}))];
    let router = Router::start(snapshot(&experts, json!({"policy": {"fallbackExpert": "first"}}))).await;
    let respond = async |body: serde_json::Value| {
        let answer = router.client.post("/v1/responses", &body).await;
        format!("{} {}", answer.header("x-expert-router-expert"), answer.header("x-expert-router-reason"))
    };
    for stream in [false, true] {
        assert_eq!(respond(json!({"model": "second", "input": "?", "stream": stream})).await, "second pinned");
    }
    for id in ["resp_whole", "resp_streamed"] {
        assert_eq!(respond(json!({"model": "auto", "input": "And?", "previous_response_id": id})).await, "second pinned");
        // Who names an expert gets that one, whatever comes of it.
        assert_eq!(respond(json!({"model": "first", "input": "And?", "previous_response_id": id})).await, "first pinned");
    }
    assert_eq!(respond(json!({"model": "auto", "input": "And?", "previous_response_id": "resp_of_nobody"})).await, "first no_model");
}
