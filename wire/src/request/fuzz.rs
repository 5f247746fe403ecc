//! Any bytes, and bodies built to be hard: parsing never panics, and what is forwarded differs in the edited fields alone.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value, json};

use super::{Endpoint, Inbound, Outbound};
use crate::json::{find, is_key, members};

fn endpoints() -> impl Strategy<Value = Endpoint> {
    proptest::sample::select(Endpoint::ALL.to_vec())
}

/// JSON text that a tree of values would not keep.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        proptest::sample::select(vec!["1e400", "-0.0", "1.0", "0.10", "123456789012345678901234567890", "1E+2", "null", "true", "false"])
            .prop_map(str::to_owned),
        proptest::sample::select(vec![r#""""#, r#""\ud800""#, r#""caf\u00e9\/\n""#, r#""[{\"""#, "\"日本 😀\""]).prop_map(str::to_owned),
        any::<String>().prop_map(|text| json!(text).to_string()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|elements| format!("[ {} ]", elements.join(" , "))),
            vec(("[ab]", inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\"\t:{value}")).collect();
                format!("{{{}}}", members.join(",\n"))
            }),
        ]
    })
}

/// Fields that we do not act on, some of them twice.
fn rest() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((proptest::sample::select(vec!["temperature", "x", "\\u0078", "metadata", "", "ü", "stop"]).prop_map(str::to_owned), value()), 0..6)
}

fn read_everything(inbound: &Inbound) -> Bytes {
    assert!(inbound.prompt().turns.iter().all(|turn| turn.text.len() <= 3 * inbound.body().len()));
    assert!(inbound.conversation_opening().is_none_or(|opening| !opening.is_empty()));
    let overrides = Map::from_iter([("temperature".to_owned(), json!(0)), ("stop".to_owned(), Value::Null)]);
    let messages = [json!({"role": "system", "content": "s"})];
    inbound.outbound(&Outbound { model_name: "m", prepend_messages: &messages, body_overrides: &overrides, ask_usage: true })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_parsed_or_refused(endpoint in endpoints(), body in vec(any::<u8>(), 0..300)) {
        if let Ok(inbound) = Inbound::parse(endpoint, Bytes::from(body)) {
            read_everything(&inbound);
        }
    }

    #[test]
    fn any_values_in_the_fields_we_act_on_are_parsed_or_refused(
        endpoint in endpoints(),
        fields in vec((proptest::sample::select(vec![
            "model", "stream", "stream_options", "max_tokens", "messages", "prompt", "input", "instructions", "tools", "tool_choice",
            "functions", "response_format", "text", "logprobs", "top_logprobs", "n", "include",
        ]), value()), 0..8),
        messages in vec(vec((proptest::sample::select(vec!["role", "content", "type", "text", "output", "tool_calls"]), value()), 0..4), 0..3),
    ) {
        let object = |members: &[(&str, String)]| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let list: Vec<String> = messages.iter().map(|message| object(message)).collect();
        let mut fields = fields;
        fields.push(("messages", format!("[{}]", list.join(","))));
        fields.push(("input", format!("[{}]", list.join(","))));
        match Inbound::parse(endpoint, Bytes::from(object(&fields))) {
            Ok(inbound) => {
                let forwarded = read_everything(&inbound);
                prop_assert!(Inbound::parse(endpoint, forwarded).is_ok());
            }
            Err(error) => prop_assert!(error.status() == 400 && !error.message.is_empty()),
        }
    }

    #[test]
    fn cut_bodies_are_refused(at in 0usize..200) {
        let body = r#"{"model":"auto","messages":[{"role":"system","content":"a\"b"},{"role":"user","content":[{"type":"text","text":"é"}]}],"stream":true}"#;
        let cut = at % body.len();
        let parsed = Inbound::parse(Endpoint::ChatCompletions, Bytes::copy_from_slice(&body.as_bytes()[..cut]));
        prop_assert_eq!(parsed.expect_err("half an object").status(), 400);
    }

    #[test]
    fn forwarded_bodies_differ_in_edited_fields_alone(before in rest(), between in rest(), stream in any::<bool>(), text in any::<String>()) {
        let quoted = json!(text).to_string();
        let plain = |rest: &[(String, String)]| rest.iter().fold(String::new(), |all, (name, value)| all + &format!("\"{name}\" : {value} ,"));
        let body = format!(
            "{{{}\"model\":\"auto\",{}\"messages\":[{{\"role\":\"user\",\"content\":{quoted}}}],\"stream\":{stream}}}",
            plain(&before),
            plain(&between)
        );
        let inbound = Inbound::parse(Endpoint::ChatCompletions, Bytes::from(body.clone())).expect("a good body");
        prop_assert_eq!(&*inbound.prompt().turns[0].text, &*text);
        let nothing = Map::new();
        let change = Outbound { model_name: "m", prepend_messages: &[], body_overrides: &nothing, ask_usage: true };
        let forwarded = inbound.outbound(&change);
        let forwarded = std::str::from_utf8(&forwarded).expect("UTF-8");
        let (client, expert) = (members(&body).expect("an object"), members(forwarded).expect("an object"));
        prop_assert_eq!(find(&expert, "model"), Some("\"m\""));
        prop_assert_eq!(find(&expert, "stream_options"), stream.then_some("{\"include_usage\":true}"));
        let untouched = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            let edited = |key: &str| is_key(key, "model") || is_key(key, "stream_options");
            list.iter().filter(|(key, _)| !edited(key)).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        prop_assert_eq!(untouched(&client), untouched(&expert));
    }
}
