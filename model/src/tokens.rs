//! Text to token ids by `tokenizer.json`, with head and tail kept where it is too long.
