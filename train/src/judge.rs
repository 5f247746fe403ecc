//! Right or wrong: an answer against what the query says would be right, by the query's own rule.
//!
//! In: a query's `match`, `answer` and `reference`; an answer. Out: 1 or 0. Deliberately absent: similarity of meaning (`bertscore`), and
//! running code: an answer that would do the same in other words is wrong unless `answer` lists it.

mod number;

use number::last_number;
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
        if rule == Rule::Code && right.iter().any(|text| code(text).is_empty()) {
            return Err("answer: match is \"code\", but there is no code in it".into());
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
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                _ => Err("answer: a list of strings is expected"),
            })
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

/// Lower case, one blank between words, one kind of quotes, nothing that ends a sentence or quotes it round the whole. Where nothing
/// else would be left, all stays: of `?` a question mark.
fn plain(text: &str) -> String {
    let one_kind = |letter| match letter {
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' => '"',
        other => other,
    };
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase().chars().map(one_kind).collect();
    let around = |letter| matches!(letter, '!' | '?' | ',' | ';' | ':' | '"' | '\'' | '`' | '*' | ' ' | '«' | '»' | '¿' | '¡');
    let ends = |letter| around(letter) || matches!(letter, '.' | '…' | '。' | '！' | '？');
    // A point that leads is a part of what follows: `.net`, `.5`.
    let kept = text.trim_start_matches(around).trim_end_matches(ends);
    if kept.is_empty() { text } else { kept.to_owned() }
}

/// As whole words: `male` is not in `female`, nor 5 in 1.5.
fn contains_words(text: &str, part: &str) -> bool {
    let (Some(first), Some(last)) = (part.chars().next(), part.chars().next_back()) else { return false };
    text.char_indices().filter(|(at, _)| text[*at..].starts_with(part)).any(|(at, _)| {
        let (before, after) = (text[..at].chars().rev(), text[at + part.len()..].chars());
        ends_word(first, before) && ends_word(last, after)
    })
}

/// Whether a word may end with this letter before (or begin after) these.
fn ends_word(edge: char, mut beyond: impl Iterator<Item = char>) -> bool {
    let Some(next) = beyond.next() else { return true };
    if matches!(next, '.' | ',') && edge.is_numeric() {
        return !beyond.next().is_some_and(char::is_numeric);
    }
    !next.is_alphanumeric() || is_unparted(edge) || is_unparted(next)
}

/// Scripts that put no blanks between words, or endings behind them: Thai, Lao, Burmese, Khmer, Japanese, Chinese, Korean.
fn is_unparted(letter: char) -> bool {
    matches!(u32::from(letter), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff
        | 0xac00..=0xd7af | 0xf900..=0xfaff | 0x20000..=0x2fa1f)
}

/// What is inside a code fence, without white space, quotes of one kind, no semicolon at the end.
fn code(text: &str) -> String {
    let inside = text.split_once("```").map_or(text, |(_, rest)| {
        let rest = rest.split("```").next().unwrap_or_default();
        match rest.split_once('\n') {
            Some((language, code)) if language.trim().chars().all(|letter| letter.is_alphanumeric() || "+#-._".contains(letter)) => code,
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
        check("exact", &json!(".5"), &[".5", "**.5**"], &["5", "0.5"]);
        check("exact", &json!("?"), &["?", " ? "], &["", "!", "what?"]);
        check("exact", &json!("don't"), &["Don\u{2019}t.", "\u{201c}don't\u{201d}"], &["dont"]);
    }

    #[test]
    fn contained_words_are_whole() {
        check("contains", &json!("Rome"), &["The capital is ROME.", "Rome"], &["Romeo", "chrome", ""]);
        check("contains", &json!(["travelled", "traveled"]), &["I traveled"], &["I travel"]);
        check("contains", &json!("5"), &["5", "It is 5.", "5, or five"], &["1.5", "5.25", "1,5", "15"]);
        check("contains", &json!("!"), &["!"], &["", "...", "oh"]);
        check("contains", &json!("a a"), &["ba a a"], &["ba ab"]);
        check("contains", &json!("São Tomé"), &["It is são tomé!"], &["São Tom"]);
    }

    #[test]
    fn where_words_are_not_parted_by_blanks_none_are_asked_for() {
        check("contains", &json!("东京"), &["日本的首都是东京。", "東京 (东京)"], &["北京"]);
        check("contains", &json!("서울"), &["수도는 서울입니다."], &["부산"]);
    }

    #[test]
    fn the_last_number_counts() {
        check("number", &json!("1234.5"), &["1,234.5", "3 + 1 = 1,234.50.", "so 1234.5!"], &["1234", "", "1234.5 or 2", "-1234.5"]);
        check("number", &json!("-3"), &["-3", "2 - 5 = -3", "minus: \u{2212}3"], &["3", "5-3"]);
        check("number", &json!(2), &["5-3 is 2", "2.0", "a2"], &["two"]);
        check("number", &json!(["3/4", 7]), &["0.75", "It is \\frac{3}{4}.", "7"], &["4", "3"]);
    }

    #[test]
    fn code_looks_past_fences_blanks_and_quotes() {
        let right = [
            "print( \"a\" )",
            "```python\nprint('a')\n```",
            "`print('a')`",
            "print('a');",
            "```print('a')```",
            "```python\nprint('a')",
            "```c++\nprint('a')\n```",
        ];
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
            (json!({"match": "exact", "answer": [null]}), "answer"),
            (json!({"match": "code", "answer": "``` ```"}), "answer"),
            (json!({"match": "exact", "answer": " "}), "answer"),
        ] {
            assert!(judge(&fields).unwrap_err().starts_with(field), "{fields}");
        }
    }
}
