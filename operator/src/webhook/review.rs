//! The API server's question and our answer, as JSON: the fields of `admission.k8s.io/v1` that matter here. Pure.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

/// Whether a Pod may be created as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Goes back with the answer.
    pub uid: String,
    /// Where the Pod is to be.
    pub namespace: String,
    /// The Pod.
    pub pod: Value,
}

/// What we say.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It may.
    AsItIs,
    /// It may, like this.
    Patch(Value),
    /// It may not, and why.
    Refuse(String),
}

#[derive(Deserialize)]
struct Review {
    request: Option<ReviewRequest>,
}

#[derive(Deserialize)]
struct ReviewRequest {
    uid: String,
    #[serde(default)]
    namespace: String,
    object: Option<Value>,
}

impl Question {
    /// Reads an AdmissionReview.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let review: Review = serde_json::from_slice(bytes).map_err(|error| format!("expected an AdmissionReview: {error}"))?;
        let request = review.request.ok_or("expected an AdmissionReview with a request")?;
        let pod = request.object.filter(Value::is_object).ok_or("expected a request with an object")?;
        Ok(Self { uid: request.uid, namespace: request.namespace, pod })
    }
}

impl Answer {
    /// Writes an AdmissionReview.
    #[must_use]
    pub fn write(&self, uid: &str) -> Vec<u8> {
        let mut response = json!({"uid": uid, "allowed": !matches!(self, Self::Refuse(_))});
        match self {
            Self::AsItIs => {}
            Self::Patch(pod) => {
                let whole = |part: &str| json!({"op": "add", "path": format!("/{part}"), "value": pod[part]});
                let patch = json!([whole("metadata"), whole("spec")]).to_string();
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(ByteString(patch.into_bytes()));
            }
            Self::Refuse(why) => response["status"] = json!({"code": 403, "reason": "Forbidden", "message": why}),
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_review_is_refused_in_words() {
        for bytes in
            [&b""[..], b"[]", b"{}", b"{\"request\": {\"uid\": \"1\"}}", b"{\"request\": {\"uid\": \"1\", \"object\": 7}}", b"\xff"]
        {
            assert!(Question::read(bytes).unwrap_err().starts_with("expected"), "{bytes:?}");
        }
    }

    #[test]
    fn answers_are_what_the_api_server_reads() {
        let written = |answer: Answer| serde_json::from_slice::<Value>(&answer.write("7")).unwrap()["response"].clone();
        assert_eq!(written(Answer::AsItIs), json!({"uid": "7", "allowed": true}));
        assert_eq!(written(Answer::Refuse("no".into()))["status"]["message"], "no");
        let response = written(Answer::Patch(json!({"metadata": {"name": "a"}, "spec": {}})));
        let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: Value = serde_json::from_slice(&patch.0).unwrap();
        assert_eq!(patch[0], json!({"op": "add", "path": "/metadata", "value": {"name": "a"}}));
    }
}
