//! Calling servers, and reading what they count.

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A client without proxies or retries: what it sees is what a server did.
///
/// # Errors
/// It cannot be built.
pub fn client() -> Result<reqwest::Client> {
    // Somebody in this process may have been first; then theirs serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).timeout(Duration::from_secs(120));
    builder.build().context("building an HTTP client")
}

/// Asks again and again until the answer is yes.
///
/// # Errors
/// `patience` ended first.
pub async fn eventually(what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = std::time::Instant::now() + patience;
    loop {
        if ask().await? {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            bail!("not in {patience:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A page of Prometheus text.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Reads `url`.
    ///
    /// # Errors
    /// Nobody answers there, or not with 200.
    pub async fn read(url: &str) -> Result<Self> {
        let response = client()?.get(url).send().await?.error_for_status()?;
        Ok(Self(response.text().await?))
    }

    /// The sum of all samples of that name that have these labels; 0 where there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (set, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            labels.iter().all(|label| set.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        samples.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let metrics = Metrics("# HELP a_total x\na_total{e=\"x\",t=\"in\"} 3\na_total{e=\"y\",t=\"in\"} 4\na_totals 9\nb 2.5\n".into());
        assert_eq!(metrics.sum("a_total", &[]), 7.0);
        assert_eq!(metrics.sum("a_total", &[("t", "in"), ("e", "y")]), 4.0);
        assert_eq!(metrics.sum("b", &[]), 2.5);
        assert_eq!(metrics.sum("c", &[]), 0.0);
    }
}
