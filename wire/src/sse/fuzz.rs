//! A stream cut at any places comes to the same bytes and counts as in one piece; any bytes are taken.

use proptest::{collection::vec, prelude::*};

use super::{
    Filter,
    tests::{Whole, run},
};
use crate::Endpoint;

fn line() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec![
        r#"data: {"choices":[{"delta":{"content":"日本 😀"}}]}"#,
        r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
        r#"data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#,
        r#"data: {"choices":[{"text":"b"}],"#,
        r#"data: "usage":{"prompt_tokens":7}}"#,
        r#"data: {"type":"response.output_text.delta","delta":"x"}"#,
        r#"data: {"error":{"message":"m"}}"#,
        "data: [DONE]",
        "event: response.completed",
        ": comment",
        "data",
        "",
        "",
        "",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let lines =
        vec((line(), proptest::sample::select(vec!["\n", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\r\r", "\r\n\n", "\n\r"])), 0..12);
    lines.prop_map(|lines| lines.into_iter().flat_map(|(line, end)| (line + end).into_bytes()).collect())
}

fn check(endpoint: Endpoint, hide_usage: bool, stream: &[u8], cuts: &[usize], max_event_bytes: usize) -> Result<(), TestCaseError> {
    let filter = || Filter { max_event_bytes, ..Filter::new(endpoint, hide_usage) };
    let whole: Whole = run(filter(), [stream]);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    prop_assert_eq!(&run(filter(), cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]])), &whole);
    if !hide_usage {
        prop_assert_eq!(&whole.out, stream);
    }
    Ok(())
}

#[test]
fn an_event_as_long_as_allowed_is_read_wherever_its_last_line_end_is_cut() {
    let stream = b"data: {\"error\":{\"message\":\"m\"}}\r\n\r\n";
    for max_event_bytes in stream.len() - 4..=stream.len() {
        (0..=stream.len()).for_each(|cut| check(Endpoint::ChatCompletions, false, stream, &[cut], max_event_bytes).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(
        endpoint in proptest::sample::select(Endpoint::ALL.to_vec()),
        hide_usage in any::<bool>(),
        stream in stream(),
        cuts in vec(any::<usize>(), 0..20),
        max_event_bytes in proptest::sample::select(vec![60, 100, usize::MAX]),
    ) {
        check(endpoint, hide_usage, &stream, &cuts, max_event_bytes)?;
    }

    #[test]
    fn any_bytes_are_taken(hide_usage in any::<bool>(), stream in vec(any::<u8>(), 0..200), cuts in vec(any::<usize>(), 0..10)) {
        check(Endpoint::ChatCompletions, hide_usage, &stream, &cuts, 50)?;
    }
}
