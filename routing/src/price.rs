//! Prices to cost. All money is USD as `f64`: a single request costs some 1e-4 to 1e-1, where `f64` keeps eleven digits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::Usage;

/// What an expert charges, in USD. All zero is a price too: free of charge.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Prices {
    /// Per million prompt tokens.
    pub input_per_million: f64,
    /// Per million completion tokens.
    pub output_per_million: f64,
    /// Absent: cached input costs what input costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_per_million: Option<f64>,
    /// For each request, however long.
    pub per_request: f64,
    /// For an expert on hardware of one's own: charged by the seconds a request keeps it busy.
    pub per_hour: f64,
}

impl Prices {
    /// The cost of a request in USD; `busy_seconds` counts only where the expert is paid by the hour, and is its share of the time:
    /// seconds from send to last byte, divided by the requests it served at once.
    #[must_use]
    pub fn cost_usd(&self, usage: Usage, busy_seconds: f64) -> f64 {
        let cached = usage.cached_tokens.min(usage.prompt_tokens);
        let fresh = usage.prompt_tokens - cached;
        let cached_price = self.cached_input_per_million.unwrap_or(self.input_per_million);
        (fresh as f64 * self.input_per_million + cached as f64 * cached_price + usage.completion_tokens as f64 * self.output_per_million)
            / 1e6
            + self.per_request
            + busy_seconds * self.per_hour / 3600.0
    }
}
