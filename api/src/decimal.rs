//! Numbers as people write money: decimal strings. YAML readers and JSON encoders disagree about floats; nobody disagrees about strings.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// What the CRD demands of a decimal string; [`Decimal::parse`] demands the same.
pub const PATTERN: &str = r"^[0-9]{1,9}(\.[0-9]{1,9})?$";

/// What the CRD demands of a decimal string that is a share of a whole.
pub const SHARE_PATTERN: &str = r"^(0(\.[0-9]{1,9})?|1(\.0{1,9})?)$";

/// A non-negative number below a thousand million with at most nine decimals, written as a string: `"0.20"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Decimal(String);

impl Decimal {
    /// Reads a decimal string.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        (digits(whole) && digits(fraction)).then(|| Self(text.to_owned()))
    }

    /// The number.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.0.parse().expect("digits with at most one point between them are a float")
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Decimal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": 19})
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

fn unexpected<E: de::Error>(got: impl fmt::Display) -> E {
    E::custom(format_args!("expected a decimal string like \"0.20\", got {got}"))
}

impl de::Visitor<'_> for Visitor {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal string like \"0.20\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
        Decimal::parse(text).ok_or_else(|| unexpected(format_args!("{text:?}")))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Decimal, E> {
        Err(unexpected(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Decimal, E> {
        Err(unexpected(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Decimal, E> {
        Err(unexpected(number))
    }
}
