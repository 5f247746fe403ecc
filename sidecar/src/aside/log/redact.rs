//! What is taken out of logged text. Patterns see what looks like something, and nothing else: no promise, but a good deal.

use regex_lite::Regex;
use routing::snapshot::Redaction;
use serde_json::Value;

/// What comes along, in this order: what is more exact comes first.
const STANDARD: [(&str, &str); 8] = [
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", "[key]"),
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", "[key]"),
    // What the keys of well-known services begin with.
    (
        r"\b(?:(?:sk|pk|rk|ak|hf|gsk|xai|glpat|github_pat|gh[opsru]|xox[abeoprs]|SG|npm|pypi)[-_.][-_.A-Za-z0-9]{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[-_A-Za-z0-9]{30,})",
        "[key]",
    ),
    // What is called a key: by a name that ends in such a word (`DB_PASSWORD`, `accessToken`) and `:` or `=`, in quotes or without; else by
    // the very word.
    (
        r#"(?i)(?:bearer|(?:api|access|secret)[-_ ]?key|token|secret|password)["'`\\]{0,2}\s*(?::?=|=>|:)\s*["'`\\]{0,2}[-_.~+/A-Za-z0-9]{20,}=*"#,
        "[key]",
    ),
    (r#"(?i)\b(?:bearer|(?:api|access|secret)[-_ ]?key|token|secret|password)\s+["'`\\]{0,2}[-_.~+/A-Za-z0-9]{20,}=*"#, "[key]"),
    (r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+", "[email]"),
    (r"\b[0-9](?:[ -]?[0-9]){12,18}\b", "[card]"),
    (
        r"(?:\+[0-9](?:[ ().-]{0,2}[0-9]){6,14}|\b00[1-9](?:[ ().-]{0,2}[0-9]){6,13}|(?:\([0-9]{2,5}\)|\b[0-9]{2,5})[ .-][0-9]{3,4}[ .-][0-9]{3,4})\b",
        "[phone]",
    ),
];
/// In place of what a pattern of the manifest found.
const OWN: &str = "[redacted]";

/// Patterns, compiled.
#[derive(Debug)]
pub struct Redactor(Vec<(Regex, &'static str)>);

impl Redactor {
    /// Compiles; a manifest's own patterns go first, for they know best.
    ///
    /// # Errors
    /// One that is none.
    pub fn compile(redaction: Redaction, own: &[String]) -> Result<Self, String> {
        let standard: &[(&str, &'static str)] = match redaction {
            Redaction::Standard => &STANDARD,
            Redaction::None => &[],
        };
        let all = own.iter().map(|pattern| (pattern.as_str(), OWN)).chain(standard.iter().copied());
        let compiled = all.map(|(pattern, with)| match Regex::new(pattern) {
            Ok(pattern) => Ok((pattern, with)),
            Err(error) => Err(format!("requestLog.redactPatterns: {pattern:?}: {error}")),
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The text, less what is found.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, with) in &self.0 {
            if pattern.is_match(&text) {
                text = pattern.replace_all(&text, regex_lite::NoExpand(with)).into_owned();
            }
        }
        text
    }

    /// Every text within a value.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.value(field)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(Redactor::compile(Redaction::Standard, &["ACME-[0-9]+".to_owned()]).unwrap().text(text), expect);
    }

    #[test]
    fn what_looks_like_an_address_a_number_or_a_key_is_taken_out() {
        check("write to jane.doe+x@mail.example.co.uk, please", "write to [email], please");
        check("call +49 (30) 1234-5678 or (030) 555-1234", "call [phone] or [phone]");
        check("call 555-123-4567.", "call [phone].");
        check("my card 4111 1111 1111 1111 ends 12/29", "my card [card] ends 12/29");
        check("4111-1111-1111-1111", "[card]");
        check("key sk-proj-abcDEF0123456789abcdef01 leaks", "key [key] leaks");
        check("ghp_0123456789abcdefABCDEF0123456789abcd", "[key]");
        check("AKIAIOSFODNN7EXAMPLE", "[key]");
        check("Authorization: Bearer abcdefghijklmnopqrstuvwxyz012345", "Authorization: [key]");
        check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc_def", "[key]");
        check("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend", "[key]\nend");
        check("order ACME-4711 came", "order [redacted] came");
    }

    #[test]
    fn what_is_called_a_key_goes_whatever_its_name_begins_with_and_however_it_is_quoted() {
        let named = |form: &str, expect: &str| check(&form.replace("VALUE", "abcDEF/0123456789+abcdef01=="), expect);
        named("OPENAI_API_KEY=VALUE", "OPENAI_[key]");
        named("export GITHUB_TOKEN=VALUE DEBUG=1", "export GITHUB_[key] DEBUG=1");
        named("DB_PASSWORD=VALUE\nDB_USER=ann", "DB_[key]\nDB_USER=ann");
        named("AWS_SECRET_ACCESS_KEY = VALUE", "AWS_SECRET_[key]");
        named("/cb?access_token=VALUE&state=7", "/cb?access_[key]&state=7");
        named("client_secret: 'VALUE'", "client_[key]'");
        named("api_key = \"VALUE\"", "[key]\"");
        named("clientSecret := `VALUE`", "client[key]`");
        named("'token' => 'VALUE',", "'[key]',");
        named("{\"token\": \"VALUE\"}", "{\"[key]\"}");
        named("-d \"{\\\"password\\\":\\\"VALUE\\\"}\"", "-d \"{\\\"[key]\\\"}\"");
        named("the token VALUE, the password \"VALUE\"", "the [key], the [key]\"");
    }

    #[test]
    fn what_does_not_stays() {
        for text in [
            "What is 12345 times 678?",
            "In 1969 and 2024-11-24 at 12:30",
            "a@b",
            "sk-short",
            "the secret of the token is trust",
            "a topsecret counterrevolutionary",
            "tokens: a_word_of_more_than_twenty_letters",
            "if token == expected_token_of_this_session {",
            "Token::from_the_header_of_this_request(it)",
            "password=hunter2",
            "3.14159265",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn nothing_is_taken_out_where_nobody_asks() {
        let none = Redactor::compile(Redaction::None, &[]).unwrap();
        assert_eq!(none.text("jane@example.com"), "jane@example.com");
        assert!(Redactor::compile(Redaction::None, &["(".to_owned()]).is_err());
    }

    #[test]
    fn texts_are_found_at_any_depth_and_names_are_left_alone() {
        let mut value = serde_json::json!([{"a@b.example": {"content": ["x@y.example", 7]}}]);
        Redactor::compile(Redaction::Standard, &[]).unwrap().value(&mut value);
        assert_eq!(value, serde_json::json!([{"a@b.example": {"content": ["[email]", 7]}}]));
    }
}
