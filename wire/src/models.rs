//! The bodies of `GET /v1/models` and `GET /v1/models/{name}`.

use bytes::Bytes;
use serde_json::{Value, json};

/// One name a client may put into `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model<'a> {
    /// `auto`, the router's name, or an expert's.
    pub id: &'a str,
    /// Who answers: the router's name.
    pub owned_by: &'a str,
    /// Unix seconds; OpenAI clients require the field.
    pub created: i64,
}

impl Model<'_> {
    /// The body for one model.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.fields().to_string().into()
    }

    /// The body for all models.
    #[must_use]
    pub fn list(models: &[Model<'_>]) -> Bytes {
        let data: Vec<Value> = models.iter().map(Model::fields).collect();
        json!({"object": "list", "data": data}).to_string().into()
    }

    fn fields(&self) -> Value {
        json!({"id": self.id, "object": "model", "created": self.created, "owned_by": self.owned_by})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_keeps_the_order_it_is_given() {
        let auto = Model { id: "auto", owned_by: "chat", created: 5 };
        let local = Model { id: "local", owned_by: "chat", created: 6 };
        assert_eq!(
            Model::list(&[auto, local]),
            r#"{"object":"list","data":[{"id":"auto","object":"model","created":5,"owned_by":"chat"},{"id":"local","object":"model","created":6,"owned_by":"chat"}]}"#
        );
        assert_eq!(auto.to_bytes(), r#"{"id":"auto","object":"model","created":5,"owned_by":"chat"}"#);
    }
}
