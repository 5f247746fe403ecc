//! Which text of a request the router reads. The rules are part of the bundle, so that training and serving agree.
//!
//! In: a conversation, or a plain string (a training row has either). Out: one string. Deliberately absent: anything that depends on
//! the expert, the endpoint or the clock; tool results, which are data that the conversation fetched and not what was asked.

use serde::{Deserialize, Serialize};

/// Applied to a conversation, gives the one string everything else reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextRules {
    /// Which messages are read.
    pub messages: Messages,
    /// Longer text keeps its head and its tail, cut at character boundaries, this many characters (Unicode scalar values) in all.
    pub max_chars: usize,
    /// Of the kept characters, the share in hundredths that is head. Also of the kept tokens, where an encoder reads fewer.
    pub head_percent: u8,
}

/// Which messages make the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Messages {
    /// The last user message that has text (one may be an image alone).
    #[default]
    LastUser,
    /// All user messages, joined by a blank line.
    Users,
    /// System, developer, user and assistant messages, joined by a blank line.
    All,
}

/// More characters than this say nothing more about which expert to choose; a bundle that asks for more is a mistake.
pub const MAX_CHARS_LIMIT: usize = 1_000_000;

const JOINT: &str = "\n\n";

impl Default for TextRules {
    fn default() -> Self {
        Self { messages: Messages::LastUser, max_chars: 8_000, head_percent: 50 }
    }
}

impl TextRules {
    /// The text the router reads of a request. Where no user says anything (a conversation that begins with instructions alone), all that
    /// was said is read instead, whatever `messages` says: a poor prompt is better than none.
    #[must_use]
    pub fn apply(&self, prompt: &wire::Prompt<'_>) -> String {
        let said = || prompt.turns.iter().filter(|turn| !turn.text.trim().is_empty()).map(|turn| (&*turn.role, &*turn.text));
        let users = || said().filter(|(role, _)| *role == "user").map(|(_, text)| text);
        let chosen: Vec<&str> = match self.messages {
            Messages::LastUser => users().next_back().into_iter().collect(),
            Messages::Users => users().collect(),
            Messages::All => Vec::new(),
        };
        match chosen.is_empty() {
            false => self.join(&chosen),
            true => self.join(&said().filter(|(role, _)| is_read(role)).map(|(_, text)| text).collect::<Vec<_>>()),
        }
    }

    /// The text the router reads of a prompt given as a string: the same as of a conversation with this one user message.
    #[must_use]
    pub fn apply_text(&self, prompt: &str) -> String {
        if prompt.trim().is_empty() {
            return String::new();
        }
        self.join(&[prompt])
    }

    /// What is wrong with the rules, where they came from outside.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=MAX_CHARS_LIMIT).contains(&self.max_chars) {
            return Err(format!("max_chars must be from 1 to {MAX_CHARS_LIMIT}, not {}", self.max_chars));
        }
        if self.head_percent > 100 {
            return Err(format!("head_percent must be at most 100, not {}", self.head_percent));
        }
        Ok(())
    }

    /// Pieces joined by a blank line, then cut. Each is cut first by itself, so that megabytes are not copied to be thrown away: of a
    /// piece, the whole can keep no more than the piece's own head and tail.
    fn join(&self, pieces: &[&str]) -> String {
        let (head, tail) = split(self.max_chars, self.head_percent);
        let joined = pieces.iter().fold(String::new(), |mut joined, piece| {
            if !joined.is_empty() {
                joined.push_str(JOINT);
            }
            let (first, last) = head_and_tail(piece, head, tail);
            joined.push_str(first);
            joined.push_str(last);
            joined
        });
        let (first, last) = head_and_tail(&joined, head, tail);
        if first.len() == joined.len() { joined } else { [first, last].concat() }
    }
}

/// How many of `whole` are head, and how many tail.
pub(crate) fn split(whole: usize, head_percent: u8) -> (usize, usize) {
    let head = whole * usize::from(head_percent.min(100)) / 100;
    (head, whole - head)
}

/// The first `head` and the last `tail` characters; all and nothing where the text has no more than both together.
pub(crate) fn head_and_tail(text: &str, head: usize, tail: usize) -> (&str, &str) {
    if text.len() <= head + tail {
        return (text, "");
    }
    let head_end = text.char_indices().nth(head).map_or(text.len(), |(at, _)| at);
    let tail_start = match tail {
        0 => text.len(),
        _ => text.char_indices().rev().nth(tail - 1).map_or(0, |(at, _)| at),
    };
    if head_end >= tail_start { (text, "") } else { (&text[..head_end], &text[tail_start..]) }
}

fn is_read(role: &str) -> bool {
    matches!(role, "system" | "developer" | "user" | "assistant")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{Prompt, Turn};

    use super::*;

    fn check(messages: Messages, turns: &[(&str, &str)], expect: &str) {
        let turns = turns.iter().map(|(role, text)| Turn { role: (*role).into(), text: (*text).into() }).collect();
        let rules = TextRules { messages, max_chars: 20, head_percent: 25 };
        assert_eq!(rules.apply(&Prompt { turns }), expect);
    }

    #[test]
    fn last_user_reads_the_last_user_message_that_has_text() {
        check(Messages::LastUser, &[("user", "one"), ("assistant", "two"), ("user", "three"), ("tool", "four")], "three");
        check(Messages::LastUser, &[("user", "one"), ("user", " ")], "one");
    }

    #[test]
    fn users_and_all_are_joined_by_a_blank_line_without_tool_results() {
        let turns = [("system", "s"), ("user", "a"), ("assistant", ""), ("tool", "no"), ("function", "no"), ("user", "b")];
        check(Messages::Users, &turns, "a\n\nb");
        check(Messages::All, &turns, "s\n\na\n\nb");
    }

    #[test]
    fn without_a_user_message_everything_said_is_read() {
        check(Messages::LastUser, &[("developer", "d"), ("assistant", "a"), ("tool", "t")], "d\n\na");
        check(Messages::Users, &[("system", "s")], "s");
        check(Messages::LastUser, &[("tool", "t")], "");
        check(Messages::All, &[], "");
    }

    #[test]
    fn long_text_keeps_head_and_tail_at_character_boundaries() {
        check(Messages::LastUser, &[("user", "äöüßéabcdefghijklmnopqrstuvwxyz")], "äöüßélmnopqrstuvwxyz");
        check(Messages::LastUser, &[("user", "äöüßéabcdefghijklmno")], "äöüßéabcdefghijklmno");
        check(Messages::Users, &[("user", &"a".repeat(50)), ("user", &"b".repeat(50))], &("a".repeat(5) + &"b".repeat(15)));
    }

    #[test]
    fn a_string_is_read_like_a_conversation_with_this_one_message() {
        let rules = TextRules { max_chars: 7, ..TextRules::default() };
        for text in ["short", "a longer prompt", " ", "ünïcödé prompt"] {
            let turns = vec![Turn { role: "user".into(), text: text.into() }];
            assert_eq!(rules.apply_text(text), rules.apply(&Prompt { turns }));
        }
    }

    #[test]
    fn absurd_rules_are_refused() {
        let rules = TextRules::default();
        assert!(rules.check().is_ok());
        assert!(TextRules { max_chars: 0, ..rules.clone() }.check().unwrap_err().contains("max_chars"));
        assert!(TextRules { head_percent: 101, ..rules }.check().unwrap_err().contains("head_percent"));
    }

    proptest! {
        #[test]
        fn cutting_pieces_first_changes_nothing(pieces in prop::collection::vec("\\PC{1,30}", 1..6), max_chars in 1_usize..80, head_percent in 0_u8..=100) {
            let rules = TextRules { messages: Messages::Users, max_chars, head_percent };
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let whole: Vec<char> = pieces.join(JOINT).chars().collect();
            let (head, tail) = split(max_chars, head_percent);
            let expect: String = match whole.len() <= max_chars {
                true => whole.iter().collect(),
                false => whole[..head].iter().chain(&whole[whole.len() - tail..]).collect(),
            };
            prop_assert_eq!(rules.join(&pieces), expect);
        }
    }
}
