//! What an answer says of itself, for whoever follows single requests: its id, its model, why it ended. No text of it.

use crate::json;

/// As the expert's server put it; empty where it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// The answer's id, which the server's support may ask for.
    pub id: Option<Box<str>>,
    /// The model that answered, often by a longer name than it was asked by.
    pub model: Option<Box<str>>,
    /// Why each choice ended, in their order: `stop`, `length`, `tool_calls`. In the responses API, which has one answer only, its
    /// status, or what left it incomplete.
    pub finish_reasons: Vec<Box<str>>,
}

impl Description {
    /// Of a whole (not streamed) body.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        let members = std::str::from_utf8(body).ok().and_then(|text| json::members(text).ok());
        members.map_or_else(Self::default, |members| Self::of_object(&members))
    }

    /// Of a body or a chunk, taken apart.
    pub(crate) fn of_object(members: &[(&str, &str)]) -> Self {
        let choices = json::find(members, "choices").and_then(|choices| json::elements(choices).ok()).unwrap_or_default();
        let mut finish_reasons: Vec<_> =
            choices.into_iter().filter_map(|choice| text(&json::members(choice).ok()?, "finish_reason")).collect();
        finish_reasons.extend(end_of_response(members));
        Self { id: text(members, "id"), model: text(members, "model"), finish_reasons }
    }

    /// With what was said later. Names stay as they were said first; reasons come one by one, each with the last chunk of its choice.
    pub fn add(&mut self, later: Self) {
        let Self { id, model, finish_reasons } = later;
        self.id = self.id.take().or(id);
        self.model = self.model.take().or(model);
        self.finish_reasons.extend(finish_reasons);
    }
}

fn text(members: &[(&str, &str)], name: &str) -> Option<Box<str>> {
    json::find(members, name).and_then(json::text).map(|text| text.into_owned().into_boxed_str())
}

/// `status` of the responses API, once it is the last.
fn end_of_response(members: &[(&str, &str)]) -> Option<Box<str>> {
    let status = text(members, "status")?;
    match &*status {
        "incomplete" => {
            let details = json::members(json::find(members, "incomplete_details")?).ok()?;
            text(&details, "reason").or(Some(status))
        }
        "completed" | "failed" | "cancelled" => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, id: Option<&str>, model: Option<&str>, reasons: &[&str]) {
        let found = Description::of_body(body.as_bytes());
        assert_eq!((found.id.as_deref(), found.model.as_deref()), (id, model), "{body}");
        assert_eq!(found.finish_reasons.iter().map(|reason| &**reason).collect::<Vec<_>>(), reasons, "{body}");
    }

    #[test]
    fn an_answer_says_who_gave_it_and_why_it_ended() {
        check(
            r#"{"id":"c-1","model":"q-7b-0624","choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}"#,
            Some("c-1"),
            Some("q-7b-0624"),
            &["stop", "length"],
        );
        check(r#"{"id":"r-1","status":"completed"}"#, Some("r-1"), None, &["completed"]);
        check(r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}"#, None, None, &["max_output_tokens"]);
        check(r#"{"status":"in_progress","choices":[{"finish_reason":null}]}"#, None, None, &[]);
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        for body in ["", "[]", "nonsense", r#"{"id":7,"model":{},"choices":{},"status":[]}"#, r#"{"choices":[7,null,"x"]}"#] {
            check(body, None, None, &[]);
        }
        assert_eq!(Description::of_body(&[0xff, 0xfe]), Description::default());
    }

    #[test]
    fn names_are_those_said_first_and_reasons_add_up() {
        let mut whole = Description::of_body(br#"{"id":"c-1","model":"m"}"#);
        whole.add(Description::of_body(br#"{"id":"c-2","model":"n","choices":[{"finish_reason":"stop"}]}"#));
        assert_eq!(whole, Description::of_body(br#"{"id":"c-1","model":"m","choices":[{"finish_reason":"stop"}]}"#));
    }
}
