//! Right or wrong: an answer against what the query says would be right, by the query's own rule.
//!
//! In: a query's `match`, `answer` and `reference`; an answer. Out: 1 or 0. Deliberately absent: similarity of meaning (`bertscore`), and
//! running code: an answer that would do the same in other words is wrong unless `answer` lists it.

use serde_json::Value;

use crate::outcomes::Row;

/// How a query's answers are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    rule: Rule,
    right: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Exact,
    Contains,
    Number,
    Code,
}

impl Judge {
    /// The judge of a row: `match` says how, `answer` (a string or a list of them, any of which is right) or else `reference` says
    /// against what. None where the row has no `match`.
    ///
    /// # Errors
    /// What is wrong, with the field's name.
    pub fn of(row: &Row) -> Result<Option<Self>, String> {
        let Some(rule) = row.other.get("match").filter(|rule| !rule.is_null()) else { return Ok(None) };
        let rule = match rule.as_str() {
            Some("exact") => Rule::Exact,
            Some("contains") => Rule::Contains,
            Some("number") => Rule::Number,
            Some("code") => Rule::Code,
            _ => return Err(format!("match: {rule} is none of \"exact\", \"contains\", \"number\", \"code\"")),
        };
        let right = right_answers(row)?;
        if rule == Rule::Number && right.iter().any(|text| last_number(text).is_none()) {
            return Err("answer: match is \"number\", but there is no number in it".into());
        }
        Ok(Some(Self { rule, right }))
    }

    /// Whether the answer is right.
    #[must_use]
    pub fn is_right(&self, answer: &str) -> bool {
        self.right.iter().any(|right| match self.rule {
            Rule::Exact => plain(answer) == plain(right),
            Rule::Contains => contains_words(&plain(answer), &plain(right)),
            Rule::Number => match (last_number(answer), last_number(right)) {
                (Some(found), Some(expected)) => (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
                _ => false,
            },
            Rule::Code => code(answer) == code(right),
        })
    }
}

fn right_answers(row: &Row) -> Result<Vec<String>, String> {
    let right = match row.other.get("answer") {
        None | Some(Value::Null) => row.reference.iter().cloned().collect(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Number(number)) => vec![number.to_string()],
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or("answer: a list of strings is expected"))
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(format!("answer: a string or a list of strings is expected, not {other}")),
    };
    if right.is_empty() {
        return Err("match: there is neither answer nor reference to match against".into());
    }
    if right.iter().any(|text| text.trim().is_empty()) {
        return Err("answer: must not be empty".into());
    }
    Ok(right)
}

/// Lower case, one blank between words, nothing that ends a sentence or quotes it round the whole.
fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    text.trim_matches(|letter: char| matches!(letter, '.' | '!' | '?' | ',' | ';' | ':' | '"' | '\'' | '`' | '*' | ' ')).to_owned()
}

/// As whole words: `male` is not in `female`.
fn contains_words(text: &str, part: &str) -> bool {
    let outside = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric());
    text.match_indices(part).any(|(at, found)| outside(text[..at].chars().next_back()) && outside(text[at + found.len()..].chars().next()))
}

/// The last number of a text: where a sum is worked out, the result comes last. Commas between digits group thousands.
fn last_number(text: &str) -> Option<f64> {
    let letters: Vec<char> = text.chars().collect();
    let digit = |at: usize| letters.get(at).is_some_and(char::is_ascii_digit);
    let end = (0..letters.len()).rev().find(|at| digit(*at))?;
    let mut start = end;
    while start > 0 && (digit(start - 1) || (matches!(letters[start - 1], '.' | ',') && start > 1 && digit(start - 2))) {
        start -= 1;
    }
    // A minus belongs to the number unless something is taken away from what stands before it: `-3`, `= -3`, not `5-3`.
    let signed = start > 0
        && matches!(letters[start - 1], '-' | '\u{2212}')
        && (start == 1 || !letters[start - 2].is_alphanumeric() && letters[start - 2] != ')');
    let number: String = letters[start..=end].iter().filter(|letter| **letter != ',').collect();
    let value: f64 = number.parse().ok()?;
    Some(if signed { -value } else { value })
}

/// What is inside a code fence, without white space, quotes of one kind, no semicolon at the end.
fn code(text: &str) -> String {
    let inside = text.split_once("```").map_or(text, |(_, rest)| {
        let rest = rest.split("```").next().unwrap_or_default();
        match rest.split_once('\n') {
            Some((language, code)) if language.trim().chars().all(char::is_alphanumeric) => code,
            _ => rest,
        }
    });
    let kept = inside.chars().filter(|letter| !letter.is_whitespace()).map(|letter| if letter == '"' { '\'' } else { letter });
    kept.collect::<String>().trim_matches('`').trim_end_matches(';').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Judge;
    use crate::outcomes::Row;

    fn judge(fields: &Value) -> Result<Option<Judge>, String> {
        let mut row = json!({"id": "1", "prompt": "?"});
        row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Judge::of(&serde_json::from_value::<Row>(row).unwrap())
    }

    fn check(rule: &str, answer: &Value, right: &[&str], wrong: &[&str]) {
        let judge = judge(&json!({"match": rule, "answer": answer})).unwrap().unwrap();
        right.iter().for_each(|text| assert!(judge.is_right(text), "{rule} {answer}: {text} is right"));
        wrong.iter().for_each(|text| assert!(!judge.is_right(text), "{rule} {answer}: {text} is wrong"));
    }

    #[test]
    fn exact_looks_past_case_blanks_and_full_stops_alone() {
        check("exact", &json!("New  Delhi"), &["new delhi.", " New\nDelhi! "], &["", "delhi", "It is New Delhi."]);
    }

    #[test]
    fn contained_words_are_whole() {
        check("contains", &json!("Rome"), &["The capital is ROME.", "Rome"], &["Romeo", "chrome", ""]);
        check("contains", &json!(["travelled", "traveled"]), &["I traveled"], &["I travel"]);
        check("contains", &json!("São Tomé"), &["It is são tomé!"], &["São Tom"]);
    }

    #[test]
    fn the_last_number_counts() {
        check("number", &json!("1234.5"), &["1,234.5", "3 + 1 = 1,234.50.", "so 1234.5!"], &["1234", "", "1234.5 or 2", "-1234.5"]);
        check("number", &json!("-3"), &["-3", "2 - 5 = -3", "minus: \u{2212}3"], &["3", "5-3"]);
        check("number", &json!(2), &["5-3 is 2", "2.0", "a2"], &["two"]);
    }

    #[test]
    fn code_looks_past_fences_blanks_and_quotes() {
        let right =
            ["print( \"a\" )", "```python\nprint('a')\n```", "`print('a')`", "print('a');", "```print('a')```", "```python\nprint('a')"];
        check("code", &json!("print('a')"), &right, &["print(a)", "PRINT('a')", "x = print('a')", ""]);
    }

    #[test]
    fn the_reference_stands_in_and_no_rule_is_no_judge() {
        assert!(judge(&json!({"match": "number", "reference": "2 + 2 = 4"})).unwrap().unwrap().is_right("4"));
        assert_eq!(judge(&json!({"reference": "4"})).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_judged_is_refused_by_field() {
        for (fields, field) in [
            (json!({"match": "fuzzy", "reference": "x"}), "match"),
            (json!({"match": "exact"}), "match"),
            (json!({"match": "number", "reference": "four"}), "answer"),
            (json!({"match": "exact", "answer": [1]}), "answer"),
            (json!({"match": "exact", "answer": " "}), "answer"),
        ] {
            assert!(judge(&fields).unwrap_err().starts_with(field), "{fields}");
        }
    }
}
