//! The last number of a text, as people and models write them.
//!
//! In: any text. Out: a value. What is understood: groups (`1,234.50`, `1.234,50`, `1'234`, `12,34,567`), a decimal comma, a point that
//! leads, signs also before a currency, `1e3`, `1.5 × 10^3` with or without LaTeX, powers, fractions (`3/4`, `1 1/2`, `\frac{3}{4}`), and
//! digits of other scripts. Deliberately absent: words for numbers, and units: of `50 %` the number is 50.

/// The last number: where a sum is worked out, the result comes last.
pub(super) fn last_number(text: &str) -> Option<f64> {
    let letters = letters(text);
    let (mut at, mut last) = (0, None);
    while at < letters.len() {
        let text = Text { letters: &letters, at };
        match text.number() {
            // What stands above a letter is its exponent: `5 m^2` is 5.
            Some((_, end)) if is_raised(&letters[..at]) => at = end,
            Some((value, end)) => {
                last = Some(if is_negative(&letters, at) { -value } else { value });
                at = end;
            }
            None => at += 1,
        }
    }
    last.filter(|value| value.is_finite())
}

fn is_raised(before: &[char]) -> bool {
    before.iter().rev().find(|letter| !matches!(letter, '-' | '{' | '(')) == Some(&'^')
}

/// The text with one way to write each thing that has several.
fn letters(text: &str) -> Vec<char> {
    let text = fractions(text).replace("{,}", ",").replace("\\,", "\u{2009}").replace("\\times", "×").replace("\\cdot", "×");
    let mut letters: Vec<char> = Vec::with_capacity(text.len());
    let mut raised = false;
    for letter in text.chars() {
        let plain = superscript(letter);
        if plain.is_some() && !raised {
            letters.push('^');
        }
        let letter = plain.or_else(|| ascii_digit(letter)).unwrap_or(letter);
        // An exponent goes on as long as its digits do.
        raised = plain.is_some() || letter == '^' || raised && (letter.is_ascii_digit() || letter == '-');
        letters.push(letter);
    }
    letters
}

fn superscript(letter: char) -> Option<char> {
    const SUPERSCRIPTS: [char; 11] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹', '⁻'];
    let at = SUPERSCRIPTS.iter().position(|superscript| *superscript == letter)?;
    "0123456789-".chars().nth(at)
}

/// Digits of other scripts, by where their zeros are: fullwidth, Arabic, Persian, Devanagari, Bengali, Thai.
fn ascii_digit(letter: char) -> Option<char> {
    const ZEROS: [u32; 6] = [0xff10, 0x0660, 0x06f0, 0x0966, 0x09e6, 0x0e50];
    let code = u32::from(letter);
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}

/// `\frac{3}{4}`, also `\dfrac` and `\tfrac`, as `3/4`; with anything but digits in it, it stays.
fn fractions(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("frac{") {
        if let Some((above, below, after)) = digits_in_braces(after) {
            let before = before.trim_end_matches(['d', 't']).trim_end_matches('\\');
            // A whole number before it is a part of the same number.
            let blank = if before.ends_with(|letter: char| letter.is_ascii_digit()) { " " } else { "" };
            out.extend([before, blank, above, "/", below]);
            rest = after;
        } else {
            out.extend([before, "frac{"]);
            rest = after;
        }
    }
    out + rest
}

/// What is above and below in `3}{4}`, and what comes after it.
fn digits_in_braces(text: &str) -> Option<(&str, &str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (above, rest) = text.split_at(digits(text));
    let rest = rest.strip_prefix("}{")?;
    let (below, rest) = rest.split_at(digits(rest));
    let rest = rest.strip_prefix('}')?;
    (!above.is_empty() && !below.is_empty()).then_some((above, below, rest))
}

/// A minus belongs to the number unless something is taken away from what stands before it: `-3`, `= -3`, `-$5`, not `5-3`.
fn is_negative(letters: &[char], mut at: usize) -> bool {
    if at > 0 && matches!(letters[at - 1], '$' | '€' | '£' | '¥') {
        at -= 1;
    }
    let is_minus = at > 0 && matches!(letters[at - 1], '-' | '\u{2212}' | '\u{2013}' | '\u{ff0d}');
    is_minus && (at == 1 || !letters[at - 2].is_alphanumeric() && !matches!(letters[at - 2], ')' | ']'))
}

/// A place in a text.
#[derive(Clone, Copy)]
struct Text<'a> {
    letters: &'a [char],
    at: usize,
}

impl Text<'_> {
    fn letter(self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn is_digit(self, ahead: usize) -> bool {
        self.letter(ahead).is_some_and(|letter| letter.is_ascii_digit())
    }

    fn go(self, ahead: usize) -> Self {
        Self { at: (self.at + ahead).min(self.letters.len()), ..self }
    }

    fn digits(self) -> usize {
        (0..).take_while(|ahead| self.is_digit(*ahead)).count()
    }

    fn blanks(self) -> usize {
        (0..).take_while(|ahead| self.letter(*ahead) == Some(' ')).count()
    }

    /// The number that begins here, without its sign, and where it ends.
    fn number(self) -> Option<(f64, usize)> {
        let (value, end, is_whole) = self.plain()?;
        let rest = Self { at: end, ..self };
        let fraction = if is_whole { self.fraction(value, rest) } else { None };
        let found = fraction.or_else(|| rest.exponent(value)).or_else(|| rest.power(value)).or_else(|| rest.times_power(value));
        Some(found.unwrap_or((value, end)))
    }

    /// Digits with what parts them; and whether it is digits alone.
    fn plain(self) -> Option<(f64, usize, bool)> {
        let before = self.at.checked_sub(1).map(|at| self.letters[at]);
        let leads =
            self.letter(0) == Some('.') && self.is_digit(1) && before.is_none_or(|before| !before.is_alphanumeric() && before != '.');
        let mut here = if leads { self.go(1) } else { self };
        let mut span = String::from(if leads { "0." } else { "" });
        loop {
            let digits = here.digits();
            span.extend(&here.letters[here.at..here.at + digits]);
            here = here.go(digits);
            match here.letter(0) {
                Some(mark @ ('.' | ',')) if digits > 0 && here.is_digit(1) => span.push(mark),
                Some('\'' | '\u{2019}' | '\u{a0}' | '\u{2009}' | '\u{202f}') if (1..=3).contains(&digits) && here.go(1).digits() == 3 => {}
                _ => break,
            }
            here = here.go(1);
        }
        let is_whole = span.bytes().all(|byte| byte.is_ascii_digit());
        Some((value(&span)?, here.at, is_whole))
    }

    /// `3/4`, or `1 3/4`; dates are none.
    fn fraction(self, value: f64, rest: Self) -> Option<(f64, usize)> {
        let slash = |at: usize| self.letters.get(at) == Some(&'/');
        let below = |above: f64, rest: Self| {
            let (value, end, is_whole) = rest.go(1).plain().filter(|_| slash(rest.at))?;
            (is_whole && value > 0.0 && !slash(end)).then_some((above / value, end))
        };
        if self.at > 0 && slash(self.at - 1) {
            return None;
        }
        below(value, rest).or_else(|| {
            let (above, end, is_whole) = rest.go(1).plain().filter(|_| rest.letter(0) == Some(' '))?;
            let (part, end) = below(above, Self { at: end, ..self }).filter(|(part, _)| is_whole && *part < 1.0)?;
            Some((value + part, end))
        })
    }

    /// `e3`, of `1e3`.
    fn exponent(self, value: f64) -> Option<(f64, usize)> {
        let (exponent, end) = self.go(1).signed().filter(|_| matches!(self.letter(0), Some('e' | 'E')))?;
        let ends = self.letters.get(end).is_none_or(|letter| !letter.is_alphanumeric());
        ends.then(|| (value * 10_f64.powi(exponent), end))
    }

    /// `^3`, of `10^3`.
    fn power(self, value: f64) -> Option<(f64, usize)> {
        let (exponent, end) = self.go(1).signed().filter(|_| self.letter(0) == Some('^'))?;
        Some((value.powi(exponent), end))
    }

    /// ` × 10^3`, of `1.5 × 10^3`.
    fn times_power(self, value: f64) -> Option<(f64, usize)> {
        let times = self.go(self.blanks());
        let ten = times.go(1).go(times.go(1).blanks());
        let is_power = matches!(times.letter(0), Some('×' | 'x' | '*' | '·' | '⋅')) && ten.digits() == 2;
        let (factor, end) = ten.go(2).power(10.0).filter(|_| is_power && ten.letter(0) == Some('1') && ten.letter(1) == Some('0'))?;
        Some((value * factor, end))
    }

    /// A whole number with its sign, perhaps in braces.
    fn signed(self) -> Option<(i32, usize)> {
        let here = if matches!(self.letter(0), Some('{' | '(')) { self.go(1) } else { self };
        let sign = match here.letter(0) {
            Some('-' | '\u{2212}') => -1,
            _ => 1,
        };
        let here = if sign < 0 || here.letter(0) == Some('+') { here.go(1) } else { here };
        let end = here.go(here.digits());
        let exponent: i32 = here.letters[here.at..end.at].iter().collect::<String>().parse().ok()?;
        let closed = if matches!(end.letter(0), Some('}' | ')')) && here.at > self.at { end.at + 1 } else { end.at };
        Some((sign * exponent, closed))
    }
}

/// The value of digits parted by points and commas, by how they are parted; of what makes no one number, such as `1,2,3`, the last.
fn value(span: &str) -> Option<f64> {
    let (commas, points) = (span.matches(',').count(), span.matches('.').count());
    let plain = match (commas, points) {
        (0, 0 | 1) => span.to_owned(),
        (_, 0 | 1) if is_grouped(span.split('.').next()?, ',') && !span.split('.').nth(1).is_some_and(|part| part.contains(',')) => {
            span.replace(',', "")
        }
        (0, _) if is_grouped(span, '.') => span.replace('.', ""),
        (1, 0) => span.replace(',', "."),
        (1, _) if is_grouped(span.split(',').next()?, '.') && !span.split(',').nth(1)?.contains('.') => {
            span.replace('.', "").replace(',', ".")
        }
        (0, _) => span.rsplit('.').next()?.to_owned(),
        _ => return value(span.rsplit(',').next()?),
    };
    plain.parse().ok()
}

/// Whether marks part thousands: `1,234`, also as in India: `12,34,567`. No group begins with nothing, nor the first with a zero.
fn is_grouped(span: &str, mark: char) -> bool {
    let groups: Vec<&str> = span.split(mark).collect();
    let [first, middle @ .., last] = groups.as_slice() else { return false };
    let is_first = (1..=3).contains(&first.len()) && !first.starts_with('0');
    is_first
        && last.len() == 3
        && (middle.iter().all(|group| group.len() == 3) || mark == ',' && middle.iter().all(|group| group.len() == 2))
}

#[cfg(test)]
mod tests;
