//! Text to the hashes of its words.
//!
//! A word is a run of letters in lower case, a single digit, a single sign, a line's end, or a single letter of a script that is written
//! without spaces. Digits stand alone since numbers are too many to learn by heart, and signs since they tell code and formulas apart.

/// Calls `word` with the (unfinished) hash of each word in order.
pub(super) fn each_word(text: &str, mut word: impl FnMut(u32)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        match CLASS[byte as usize] {
            LETTER => {
                let mut hash = SEED;
                while at < bytes.len() && CLASS[bytes[at] as usize] == LETTER {
                    hash = step(hash, u32::from(bytes[at] | 0x20));
                    at += 1;
                }
                if at < bytes.len() && bytes[at] >= 0x80 {
                    (hash, at) = letters(text, at, hash);
                }
                word(hash);
            }
            SPACE => at += 1,
            WIDE => {
                let Some(first) = text[at..].chars().next() else { break };
                if first.is_alphabetic() && !stands_alone(first) {
                    let (hash, end) = letters(text, at, SEED);
                    word(hash);
                    at = end;
                } else {
                    at += first.len_utf8();
                    if !first.is_whitespace() {
                        word(step(SEED, first as u32));
                    }
                }
            }
            _ => {
                word(step(SEED, u32::from(byte)));
                at += 1;
            }
        }
    }
}

/// Goes on with a word that has letters beyond ASCII: the hash so far, and where the word ends.
fn letters(text: &str, start: usize, mut hash: u32) -> (u32, usize) {
    let mut end = start;
    for letter in text[start..].chars() {
        if !letter.is_alphabetic() || stands_alone(letter) {
            break;
        }
        for lower in letter.to_lowercase() {
            hash = step(hash, lower as u32);
        }
        end += letter.len_utf8();
    }
    (hash, end)
}

/// Scripts written without spaces: from the CJK radicals on, without Hangul, and Thai, Lao, Burmese, Khmer.
fn stands_alone(letter: char) -> bool {
    let code = letter as u32;
    (0x2e80..0xac00).contains(&code)
        || (0xf900..0xfb00).contains(&code)
        || (0xff66..0xffa0).contains(&code)
        || code >= 0x2_0000
        || (0x0e00..0x0f00).contains(&code)
        || (0x1000..0x10a0).contains(&code)
        || (0x1780..0x1800).contains(&code)
}

const LETTER: u8 = 0;
const SIGN: u8 = 1;
const SPACE: u8 = 2;
const WIDE: u8 = 3;

/// What each byte is; a line's end is a sign.
const CLASS: [u8; 256] = {
    let mut class = [SIGN; 256];
    let mut byte = 0;
    while byte < 256 {
        let this = byte as u8;
        if this.is_ascii_alphabetic() {
            class[byte] = LETTER;
        } else if this >= 0x80 {
            class[byte] = WIDE;
        } else if this != b'\n' && (this == b' ' || this.is_ascii_control()) {
            class[byte] = SPACE;
        }
        byte += 1;
    }
    class
};

const SEED: u32 = 0x811c_9dc5;

/// FNV-1a over characters: a multiplication each, and words are short.
fn step(hash: u32, character: u32) -> u32 {
    (hash ^ character).wrapping_mul(0x0100_0193)
}

/// The hash of two neighbours, in this order.
pub(super) fn pair(first: u32, second: u32) -> u32 {
    (first.rotate_left(5) ^ 0x9e37_79b9).wrapping_mul(0x85eb_ca6b) ^ second
}

/// Mixes high bits into the low ones, which are the ones kept (the finisher of MurmurHash3).
pub(super) fn finish(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}
