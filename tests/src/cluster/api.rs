//! The API server as a test sees it: paths and JSON, nothing in between.

use std::fmt;

use anyhow::{Context, Result};
use reqwest::{Certificate, Method, StatusCode};
use serde_json::Value;

/// A client with one token.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    url: String,
    token: String,
}

/// The API server's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Such as 403 or 422.
    pub status: u16,
    /// Its sentence.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Api {
    pub(crate) fn new(url: &str, authority: &str, token: &str) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Certificate::from_pem(authority.as_bytes()).context("reading the authority's certificate")?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().context("building an HTTP client")?;
        Ok(Self { client, url: url.to_owned(), token: token.to_owned() })
    }

    /// Whether the server says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let sent = self.client.get(format!("{}/readyz", self.url)).bearer_auth(&self.token).send().await;
        sent.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// The object or list at this path.
    ///
    /// # Errors
    /// [`Refusal`], or the server is away.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// The object at this path, or `None` where there is none.
    ///
    /// # Errors
    /// Another [`Refusal`], or the server is away.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == 404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A new object, in the collection at this path.
    ///
    /// # Errors
    /// [`Refusal`], or the server is away.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(("application/json", object))).await
    }

    /// Another object in the place of the one at this path.
    ///
    /// # Errors
    /// [`Refusal`], or the server is away.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        self.call(Method::PUT, path, Some(("application/json", object))).await
    }

    /// Some fields of the object at this path (a JSON merge patch).
    ///
    /// # Errors
    /// [`Refusal`], or the server is away.
    pub async fn merge(&self, path: &str, fields: &Value) -> Result<Value> {
        self.call(Method::PATCH, path, Some(("application/merge-patch+json", fields))).await
    }

    /// Server-side apply of the object at this path.
    ///
    /// # Errors
    /// [`Refusal`], or the server is away.
    pub async fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        self.apply_at(&format!("{path}?fieldManager=test&force=true&fieldValidation=Strict"), object).await
    }

    /// Server-side apply with a query of one's own, such as another field manager.
    ///
    /// # Errors
    /// [`Refusal`], or the server is away.
    pub async fn apply_at(&self, path_and_query: &str, object: &Value) -> Result<Value> {
        self.call(Method::PATCH, path_and_query, Some(("application/apply-patch+yaml", object))).await
    }

    /// Takes the object or the collection at this path away.
    ///
    /// # Errors
    /// [`Refusal`], or the server is away.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("{method} {path}"))?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status.is_success() {
            return Ok(value);
        }
        let message = value["message"].as_str().map_or_else(|| value.to_string(), str::to_owned);
        Err(Refusal { status: status.as_u16(), message }).with_context(|| format!("{method} {path}"))
    }
}
