//! What a text looks like, whatever its words: lengths, lines, answer options, digits, signs, code, formulas, the form of a question.
//!
//! Only what any prompt can have: no word here belongs to one data set. Two passes over the text, one by bytes and one by lines.

/// How many numbers [`surface`] gives.
pub const SURFACE: usize = 51;

/// A change of what a number means is a new version.
pub const SURFACE_VERSION: u32 = 1;

/// The numbers, each of order one. Trees and linear parts scale them as they like.
#[must_use]
pub fn surface(text: &str) -> [f32; SURFACE] {
    let bytes = text.as_bytes();
    let counts = Counts::of(bytes);
    let lines = Lines::of(text);
    let mut out = Numbers { values: [0.0; SURFACE], at: 0 };
    lengths(&counts, &lines, &mut out);
    options(&lines, text, &mut out);
    signs(&counts, bytes.len(), &mut out);
    markers(text, &counts, &mut out);
    question(text, &mut out);
    debug_assert_eq!(out.at, SURFACE);
    out.values
}

/// Filled in order; a number too many is dropped rather than a panic (a test counts them).
struct Numbers {
    values: [f32; SURFACE],
    at: usize,
}

impl Numbers {
    fn add(&mut self, value: f32) {
        if let Some(slot) = self.values.get_mut(self.at) {
            *slot = value;
        }
        self.at += 1;
    }

    fn flag(&mut self, is: bool) {
        self.add(f32::from(u8::from(is)));
    }

    /// `ln(1 + count)`: the tenth digit says less than the first.
    fn log(&mut self, count: usize) {
        self.add((count as f32).ln_1p());
    }

    fn share(&mut self, part: usize, whole: usize) {
        self.add(part as f32 / whole.max(1) as f32);
    }
}

/// How often each byte occurs, and what can be said of words on the way.
struct Counts {
    byte: [u32; 256],
    words: usize,
    longest_word: usize,
    word_bytes: usize,
    capitalised: usize,
    sentences: usize,
    /// A digit, a sign of arithmetic and a digit, spaces aside.
    arithmetic: usize,
}

impl Counts {
    fn of(bytes: &[u8]) -> Self {
        let mut counts = Self { byte: [0; 256], words: 0, longest_word: 0, word_bytes: 0, capitalised: 0, sentences: 0, arithmetic: 0 };
        let mut word = 0;
        // The last two bytes that are no spaces.
        let (mut before, mut last) = (b' ', b' ');
        for &byte in bytes {
            counts.byte[byte as usize] += 1;
            if byte.is_ascii_whitespace() {
                counts.end_word(word);
                counts.sentences += usize::from(word > 0 && matches!(last, b'.' | b'!' | b'?'));
                word = 0;
                continue;
            }
            counts.capitalised += usize::from(word == 0 && byte.is_ascii_uppercase());
            counts.arithmetic += usize::from(byte.is_ascii_digit() && is_operator(last) && before.is_ascii_digit());
            word += 1;
            (before, last) = (last, byte);
        }
        counts.end_word(word);
        counts.sentences += usize::from(matches!(last, b'.' | b'!' | b'?'));
        counts
    }

    fn end_word(&mut self, length: usize) {
        if length > 0 {
            self.words += 1;
            self.word_bytes += length;
            self.longest_word = self.longest_word.max(length);
        }
    }

    fn sum(&self, bytes: &[u8]) -> usize {
        bytes.iter().map(|byte| self.byte[*byte as usize] as usize).sum()
    }

    fn range(&self, bytes: std::ops::RangeInclusive<u8>) -> usize {
        self.byte[*bytes.start() as usize..=*bytes.end() as usize].iter().map(|count| *count as usize).sum()
    }
}

fn is_operator(byte: u8) -> bool {
    matches!(byte, b'+' | b'-' | b'*' | b'/' | b'=' | b'^' | b'<' | b'>')
}

/// What lines say: how many, how long, and which of them are answer options (`A.`, `B)`, `(C)`, `D:`, `1.`).
#[derive(Default)]
struct Lines {
    count: usize,
    empty: usize,
    indented: usize,
    bullets: usize,
    options: usize,
    option_bytes: usize,
    option_squares: f32,
    /// Where the first option starts.
    first_option: Option<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let mut lines = Self::default();
        let mut start = 0;
        for line in text.split('\n') {
            let bytes = line.as_bytes();
            lines.count += 1;
            lines.empty += usize::from(bytes.trim_ascii().is_empty());
            lines.indented += usize::from(line.starts_with("  ") || line.starts_with('\t'));
            lines.bullets += usize::from(line.starts_with("- ") || line.starts_with("* "));
            if is_option(bytes) {
                lines.options += 1;
                lines.option_bytes += bytes.len();
                lines.option_squares += (bytes.len() as f32).powi(2);
                lines.first_option.get_or_insert(start);
            }
            start += bytes.len() + 1;
        }
        lines
    }
}

/// One sign that counts (a letter or a digit) at a line's start, closed by `.`, `)`, `:` or `]`.
fn is_option(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let opened = matches!(line.first(), Some(b'(' | b'['));
    let line = if opened { &line[1..] } else { line };
    match line {
        [mark, close, rest @ ..] => {
            (mark.is_ascii_uppercase() || mark.is_ascii_digit() || (opened && mark.is_ascii_lowercase()))
                && matches!(close, b'.' | b')' | b':' | b']')
                && (rest.is_empty() || rest[0] == b' ' || rest[0] == b'\t')
        }
        _ => false,
    }
}

fn lengths(counts: &Counts, lines: &Lines, out: &mut Numbers) {
    let bytes: usize = counts.byte.iter().map(|count| *count as usize).sum();
    out.log(bytes);
    out.log(counts.words);
    out.log(lines.count);
    out.log(counts.sentences);
    out.share(counts.word_bytes, counts.words);
    out.share(counts.words, counts.sentences);
    out.log(counts.longest_word);
    out.share(lines.empty, lines.count);
    out.share(lines.indented, lines.count);
    out.log(lines.bullets);
}

fn options(lines: &Lines, text: &str, out: &mut Numbers) {
    out.add(lines.options as f32 / 10.0);
    for exactly in [0, 2, 3, 4, 5] {
        out.flag(lines.options == exactly);
    }
    out.flag(lines.options > 5);
    out.log(lines.first_option.unwrap_or(text.len()));
    let count = lines.options.max(1) as f32;
    let mean = lines.option_bytes as f32 / count;
    out.add(mean.ln_1p());
    out.add((lines.option_squares / count - mean * mean).max(0.0).sqrt().ln_1p());
}

fn signs(counts: &Counts, length: usize, out: &mut Numbers) {
    let digits = counts.range(b'0'..=b'9');
    out.share(digits, length);
    out.log(digits);
    out.share(counts.range(b'A'..=b'Z'), length);
    out.share(counts.capitalised, counts.words);
    // Bytes that start a character beyond ASCII.
    out.share(counts.range(0xc0..=0xff), length);
    out.share(counts.sum(b","), counts.words);
    out.log(counts.sum(b"()[]{}"));
    out.log(counts.sum(b";{}"));
    out.log(counts.sum(b"\\$^_"));
    out.log(counts.sum(b"=<>+*/"));
    out.log(counts.sum(b"\"'"));
    out.log(counts.sum(b"%"));
    out.log(counts.arithmetic);
}

fn markers(text: &str, counts: &Counts, out: &mut Numbers) {
    let has = |sign: u8| counts.byte[sign as usize] > 0;
    out.flag(has(b'\\'));
    out.flag(has(b'$'));
    out.flag(has(b'`'));
    out.flag(text.contains("\"\"\"") || text.contains("```"));
    out.flag(text.contains("___"));
    let code = ["def ", "return ", "import ", "function", "class ", "assert ", "print(", "void ", "#include", "SELECT "];
    out.flag((has(b'(') || has(b'#') || has(b'=') || has(b'S')) && code.iter().any(|word| text.contains(word)));
}

fn question(text: &str, out: &mut Numbers) {
    let trimmed = text.trim();
    out.flag(trimmed.ends_with('?'));
    out.flag(trimmed.contains('?'));
    out.flag(trimmed.starts_with(char::is_lowercase));
    out.flag(trimmed.ends_with(':'));
    let first: String = trimmed.chars().take_while(|letter| letter.is_alphabetic()).take(12).flat_map(char::to_lowercase).collect();
    for words in [
        &["who", "whom", "whose"][..],
        &["when", "where"],
        &["what", "which"],
        &["how", "why"],
        &["is", "are", "was", "were", "do", "does", "did", "can", "could", "should", "will", "has", "have"],
        &["write", "create", "generate", "compose", "implement", "make", "draft", "design", "build"],
        &["find", "compute", "calculate", "solve", "evaluate", "determine", "simplify", "prove", "let", "suppose", "if", "given"],
        &["explain", "describe", "summarize", "summarise", "translate", "list", "give", "tell", "compare", "rewrite", "classify"],
    ] {
        out.flag(words.contains(&first.as_str()));
    }
}
