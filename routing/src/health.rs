//! Ejection and probing of one expert: a small state machine with the clock passed in.
