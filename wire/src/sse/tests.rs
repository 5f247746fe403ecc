//! Streams of several servers, in one piece and in many.

use bytes::Bytes;

use super::{Filter, Piece, Seen};
use crate::{Description, Endpoint, Usage};

/// What a whole stream came to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Whole {
    pub(super) out: Vec<u8>,
    pub(super) seen: Seen,
    pub(super) content_events: u32,
    pub(super) content_bytes: usize,
}

impl Whole {
    pub(super) fn add(&mut self, piece: &Piece) {
        self.out.extend_from_slice(&piece.out);
        self.seen = self.seen.and(piece.seen);
        self.content_events += piece.content_events;
        self.content_bytes += piece.content_bytes;
    }
}

pub(super) fn run<'a>(mut filter: Filter, pieces: impl IntoIterator<Item = &'a [u8]>) -> Whole {
    let mut whole = Whole::default();
    for piece in pieces {
        whole.add(&filter.push(Bytes::copy_from_slice(piece)));
    }
    whole.add(&filter.finish());
    whole
}

/// Everything in one piece, then byte by byte: both must come to the same.
fn check(endpoint: Endpoint, hide_usage: bool, stream: &str, out: &str) -> Whole {
    let whole = run(Filter::new(endpoint, hide_usage), [stream.as_bytes()]);
    assert_eq!(String::from_utf8_lossy(&whole.out), out);
    assert_eq!(run(Filter::new(endpoint, hide_usage), stream.as_bytes().chunks(1)), whole);
    whole
}

const ROLE: &str =
    "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}],\"id\":\"c1\"}\n\n";
const WORD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"né\\u00e9\"}}],\"id\":\"c1\",\"usage\":null}\n\n";
const LAST: &str = "data: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}],\"id\":\"c1\"}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"id\":\"c1\",\"usage\":{\"completion_tokens\":12,\"prompt_tokens\":37,\"prompt_tokens_details\":{\"cached_tokens\":36}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

const COUNTED: Usage = Usage { prompt_tokens: 37, completion_tokens: 12, cached_tokens: 36 };

#[test]
fn usage_asked_for_by_us_is_counted_and_hidden() {
    let whole =
        check(Endpoint::ChatCompletions, true, &[ROLE, WORD, WORD, LAST, USAGE, DONE].concat(), &[ROLE, WORD, WORD, LAST, DONE].concat());
    assert_eq!(whole.seen, Seen { content: true, usage: Some(COUNTED), done: true, error: false });
    assert_eq!((whole.content_events, whole.content_bytes), (2, 10));
}

#[test]
fn usage_asked_for_by_the_client_is_shown() {
    let stream = [ROLE, WORD, USAGE, DONE].concat();
    assert_eq!(check(Endpoint::ChatCompletions, false, &stream, &stream).seen.usage, Some(COUNTED));
}

#[test]
fn usage_beside_choices_is_cut_out_and_all_else_stays() {
    let stream = ": ping\nid: 7\r\ndata: {\"id\":\"c\",\"x\":1.0,\ndata: \"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1},\"y\":[0.10]}\n\n";
    let out = ": ping\nid: 7\r\ndata: {\"id\":\"c\",\"x\":1.0,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"y\":[0.10]}\n\n";
    let whole = check(Endpoint::ChatCompletions, true, stream, out);
    assert_eq!(whole.seen.usage.map(|usage| usage.prompt_tokens), Some(5));
    check(Endpoint::ChatCompletions, false, stream, stream);
}

#[test]
fn every_line_end_ends_events() {
    for end in ["\n", "\r\n", "\r"] {
        let shown = [ROLE, WORD, LAST, DONE].concat().replace('\n', end);
        let stream = [ROLE, WORD, LAST, USAGE, DONE].concat().replace('\n', end);
        let whole = check(Endpoint::ChatCompletions, true, &stream, &shown);
        assert_eq!((whole.seen.done, whole.seen.usage, whole.content_events), (true, Some(COUNTED), 1), "{end:?}");
    }
}

#[test]
fn comments_and_what_is_no_json_pass() {
    let stream = ": keep-alive\n\n\n\ndata\n\ndata: {\"choices\":\n\nretry: 10\ndata: null\n\nevent: x\ndata: \"text\"\n\n";
    assert_eq!(check(Endpoint::ChatCompletions, true, stream, stream).seen, Seen::default());
}

#[test]
fn text_tool_calls_and_reasoning_are_content() {
    let content = |choice: &str, bytes: usize| {
        let stream = format!("data:{{\"choices\":[{choice}]}}\n\n");
        let whole = check(Endpoint::ChatCompletions, true, &stream, &stream);
        assert_eq!((whole.seen.content, whole.content_bytes), (bytes > 0, bytes), "{choice}");
    };
    content(r#"{"text":"abc"}"#, 3);
    content(r#"{"delta":{"reasoning_content":"hm"}}"#, 2);
    content(r#"{"delta":{"reasoning":"hmm"}}"#, 3);
    content(r#"{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"ab","arguments":""}}]}}"#, 2);
    content(r#"{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}}"#, 3);
    content(r#"{"delta":{"function_call":{"arguments":"{"}}}"#, 1);
    content(r#"{"delta":{"content":"a"}},{"delta":{"content":"bc"}}"#, 3);
    content(r#"{"delta":{"role":"assistant","content":""}}"#, 0);
    content(r#"{"delta":[]},{"delta":{"content":{}}},7"#, 0);
}

#[test]
fn responses_events_are_read_by_type_or_by_event_line() {
    let begun = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n";
    let delta = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
    let call = "event: response.function_call_arguments.delta\ndata: {\"delta\":\"{\"}\n\n";
    let end = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":37,\"output_tokens\":12,\"input_tokens_details\":{\"cached_tokens\":36}}}}\n\n";
    let stream = [begun, delta, call, end].concat();
    let whole = check(Endpoint::Responses, true, &stream, &stream);
    assert_eq!(whole.seen, Seen { content: true, usage: Some(COUNTED), done: true, error: false });
    assert_eq!((whole.content_events, whole.content_bytes), (2, 3));
    for (name, error) in [("response.incomplete", false), ("response.failed", true)] {
        let stream = format!("data: {{\"type\":\"{name}\",\"response\":{{}}}}\n\n");
        let seen = check(Endpoint::Responses, true, &stream, &stream).seen;
        assert_eq!((seen.done, seen.error), (true, error), "{name}");
    }
}

#[test]
fn errors_in_a_stream_are_seen_and_shown() {
    let error = |endpoint, stream: &str| assert!(check(endpoint, true, stream, stream).seen.error, "{stream}");
    error(Endpoint::ChatCompletions, "data: {\"error\":{\"code\":500,\"message\":\"out of memory\"}}\n\n");
    error(Endpoint::ChatCompletions, "event: error\ndata: overloaded\n\n");
    error(Endpoint::Completions, "error: {\"code\":500}\n\n");
    error(Endpoint::Responses, "data: {\"type\":\"error\",\"message\":\"overloaded\"}\n\n");
}

#[test]
fn the_end_without_a_blank_line_is_read_and_hidden_too() {
    let whole = check(Endpoint::ChatCompletions, true, "data: [DONE]", "data: [DONE]");
    assert!(whole.seen.done);
    let cut = USAGE.trim_end();
    assert_eq!(check(Endpoint::ChatCompletions, true, cut, "").seen.usage, Some(COUNTED));
    let broken = &USAGE[..USAGE.len() / 2];
    assert_eq!(check(Endpoint::ChatCompletions, true, broken, broken).seen, Seen::default());
}

#[test]
fn each_event_goes_on_as_soon_as_it_is_whole() {
    let mut filter = Filter::new(Endpoint::ChatCompletions, true);
    let (first, rest) = WORD.split_at(20);
    assert_eq!(filter.push(Bytes::from(first)).out, "");
    assert_eq!(filter.push(Bytes::from([rest, USAGE, "da"].concat())).out, WORD);
    assert_eq!(filter.push(Bytes::from("ta: [DONE]\n\n")).out, DONE);
}

#[test]
fn a_piece_nothing_is_taken_out_of_is_not_copied() {
    let piece = Bytes::from([ROLE, WORD, LAST].concat());
    let out = Filter::new(Endpoint::ChatCompletions, true).push(piece.clone()).out;
    assert_eq!((out.as_ptr(), out.len()), (piece.as_ptr(), piece.len()));
}

#[test]
fn an_event_over_the_cap_passes_unread_and_the_next_is_read_again() {
    let long = format!("data: {{\"choices\":[{{\"text\":\"{}\"}}]}}\n\n", "x".repeat(300));
    let stream = [&long, USAGE, WORD, &long, DONE].concat();
    let shown = [&long, WORD, &long, DONE].concat();
    for size in [1, 7, 250, stream.len()] {
        let filter = Filter { max_event_bytes: 250, ..Filter::new(Endpoint::Completions, true) };
        let whole = run(filter, stream.as_bytes().chunks(size));
        assert_eq!(String::from_utf8_lossy(&whole.out), shown, "{size}");
        assert_eq!((whole.seen.done, whole.seen.usage, whole.content_events), (true, Some(COUNTED), 1), "{size}");
    }
}

#[test]
fn what_is_held_of_an_event_is_bounded() {
    let mut filter = Filter { max_event_bytes: 1000, ..Filter::new(Endpoint::ChatCompletions, true) };
    for _ in 0..10_000 {
        filter.push(Bytes::from_static(b"data: and no end of it"));
        assert!(filter.pending.len() <= 1000);
    }
}

#[test]
fn a_stream_is_described_where_that_is_asked_for() {
    let body = "data: {\"id\":\"c-1\",\"model\":\"m-0624\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
                data: {\"id\":\"c-1\",\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n";
    let described =
        |describe| Filter::new(Endpoint::ChatCompletions, false).describing(describe).push(Bytes::from_static(body.as_bytes())).description;
    let expect = Description { id: Some("c-1".into()), model: Some("m-0624".into()), finish_reasons: vec!["length".into()] };
    assert_eq!((described(true), described(false)), (expect, Description::default()));
    let body = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r-1\",\"model\":\"m\",\"status\":\"completed\"}}\n\n";
    let piece = Filter::new(Endpoint::Responses, false).describing(true).push(Bytes::from_static(body.as_bytes()));
    assert_eq!(piece.description.finish_reasons, ["completed".into()]);
}
