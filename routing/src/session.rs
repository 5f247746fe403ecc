//! Which expert a conversation is with: bounded in memory, forgotten after a time without use.
