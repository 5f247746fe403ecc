//! Which text of a request the router reads. The rules are part of the bundle, so that training and serving agree.

use serde::{Deserialize, Serialize};

/// Applied to a conversation, gives the one string everything else reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextRules {
    pub messages: Messages,
    /// Longer text keeps its head and its tail, cut at character boundaries, this many characters (Unicode scalar values) in all.
    pub max_chars: usize,
    /// Of the kept characters, the share in hundredths that is head.
    pub head_percent: u8,
}

/// Which messages make the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Messages {
    /// The last user message.
    #[default]
    LastUser,
    /// All user messages, joined by a blank line.
    Users,
    /// System, user and assistant messages, joined by a blank line.
    All,
}

impl Default for TextRules {
    fn default() -> Self {
        Self { messages: Messages::LastUser, max_chars: 8_000, head_percent: 50 }
    }
}

impl TextRules {
    /// The text the router reads of a request.
    #[must_use]
    pub fn apply(&self, prompt: &wire::Prompt<'_>) -> String {
        let _ = prompt;
        String::new()
    }
}
