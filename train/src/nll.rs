//! Negative log-likelihoods: of an answer, from the log-probabilities its server returns; of a given text, from llama.cpp's server.
//!
//! In: a choice's `logprobs`, or a prompt and a text. Out: the mean per token in nats. Deliberately absent: any estimate where a server
//! returns nothing.

use anyhow::{Context, Result, bail};
use reqwest::Client;
use serde_json::{Value, json};

/// The mean of a choice's log-probabilities with its sign turned. None where there are none, or any of them is no number: a mean of the
/// rest would be another quantity.
#[must_use]
pub fn of_logprobs(logprobs: &Value) -> Option<f64> {
    let tokens = logprobs.get("content")?.as_array()?;
    let sum = tokens.iter().map(|token| token.get("logprob")?.as_f64()).sum::<Option<f64>>()?;
    let mean = -sum / tokens.len() as f64;
    mean.is_finite().then_some(mean)
}

/// A given text's likelihood by a model.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLikelihood {
    /// The tokens, in order, and the log-probability of each.
    pub tokens: Vec<(String, f64)>,
}

impl TextLikelihood {
    /// Mean negative log-likelihood per token.
    #[must_use]
    pub fn mean_nll(&self) -> f64 {
        -self.tokens.iter().map(|(_, logprob)| logprob).sum::<f64>() / self.tokens.len() as f64
    }
}

/// How likely llama.cpp's server finds a text after a conversation: of the tokens its own tokenizer makes of it. The sampler is held to
/// these by a grammar that knows nothing else; the log-probabilities are those of the model, before the grammar. `server` is its root,
/// without `/v1`.
///
/// # Errors
/// The server is not llama.cpp's, does not answer, or could not be made to say the text.
pub async fn of_text(client: &Client, server: &str, messages: &[Value], text: &str) -> Result<TextLikelihood> {
    if text.is_empty() {
        bail!("an empty text has no likelihood");
    }
    let applied = post(client, &format!("{server}/apply-template"), &json!({"messages": messages})).await?;
    let prompt = applied["prompt"].as_str().context("the server applies no template: it is not llama.cpp's")?;
    let tokenized =
        post(client, &format!("{server}/tokenize"), &json!({"content": text, "add_special": false, "parse_special": false})).await?;
    let ids: Vec<u64> = tokenized["tokens"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let asked = json!({
        "prompt": prompt, "n_predict": ids.len() + 1, "temperature": 0, "n_probs": 1, "grammar": grammar(&ids), "cache_prompt": true,
    });
    let forced = post(client, &format!("{server}/completion"), &asked).await?;
    let said = forced["content"].as_str().unwrap_or_default();
    if said != text {
        bail!("the server was to say {text:?} and said {said:?}");
    }
    let entries = forced["completion_probabilities"].as_array().context("the server returns no log-probabilities")?;
    // The end of the answer comes last: it is no part of the text.
    let mut tokens = Vec::with_capacity(ids.len());
    for (entry, id) in entries.iter().zip(&ids) {
        if entry["id"].as_u64() != Some(*id) {
            bail!("the server said {text:?} in other tokens than its tokenizer's");
        }
        let logprob = entry["logprob"].as_f64().context("a token has no log-probability")?;
        tokens.push((entry["token"].as_str().unwrap_or_default().to_owned(), logprob));
    }
    if tokens.is_empty() || tokens.len() < ids.len() {
        bail!("the server returned {} of {} tokens", tokens.len(), ids.len());
    }
    Ok(TextLikelihood { tokens })
}

async fn post(client: &Client, url: &str, body: &Value) -> Result<Value> {
    let response = client.post(url).json(body).send().await.with_context(|| format!("asking {url}"))?;
    let status = response.status();
    let answer: Value = response.json().await.with_context(|| format!("reading the answer of {url}"))?;
    if !status.is_success() {
        bail!("{url} answered {status}: {}", answer.pointer("/error/message").and_then(Value::as_str).unwrap_or("no message"));
    }
    Ok(answer)
}

/// These tokens, in llama.cpp's grammar language. A grammar of the text alone would let the sampler cut it into tokens as it likes.
fn grammar(ids: &[u64]) -> String {
    let tokens: Vec<String> = ids.iter().map(|id| format!("<[{id}]>")).collect();
    format!("root ::= {}", tokens.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{grammar, of_logprobs};

    #[test]
    fn the_mean_is_per_token_and_absent_unless_whole() {
        assert_eq!(of_logprobs(&json!({"content": [{"logprob": -1.0}, {"logprob": -0.5}]})), Some(0.75));
        for absent in [json!(null), json!({}), json!({"content": []}), json!({"content": [{"logprob": -1.0}, {"logprob": null}]})] {
            assert_eq!(of_logprobs(&absent), None, "{absent}");
        }
    }

    #[test]
    fn a_grammar_knows_one_sequence_of_tokens() {
        assert_eq!(grammar(&[35716, 18]), "root ::= <[35716]> <[18]>");
    }
}
