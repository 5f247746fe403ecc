//! The script: what goes wrong with which request. As text: steps parted by `;`, the properties of a step by `,`, and ` x3` or
//! ` x*` behind a step to repeat it: `status=429,retry-after=2 x3; delay=200ms; cut-after=4; ok`.

use std::str::FromStr;
use std::time::Duration;

/// What happens to requests in turn. After the last step all goes well, unless it repeats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Script {
    steps: Vec<(Step, Times)>,
    repeats: bool,
}

/// What happens to one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Time before anything is answered, not even headers.
    pub delay: Duration,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// Cut the answer into chunks of so many bytes wherever these fall, instead of one for each event.
    pub chunk_bytes: Option<usize>,
    /// Leave out the usage, asked for or not.
    pub no_usage: bool,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An error instead of an answer.
    Status {
        /// The HTTP status.
        code: u16,
        /// The `Retry-After` header.
        retry_after: Option<String>,
    },
    /// Nothing is ever answered.
    Hang,
    /// The connection closes before any response.
    Close,
    /// So many events, then silence with the connection open.
    HangAfter(usize),
    /// So many events, then the connection breaks. An answer that does not stream breaks in its middle.
    CutAfter(usize),
    /// The event of that number, from 0, is no JSON. An answer that does not stream is none at all.
    MalformedAt(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    So(usize),
    Ever,
}

/// Why a script could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{word}` is no property of a step; there are ok, delay=200ms, status=500, retry-after=2, hang, close, hang-after=3, cut-after=3, malformed-at=3, chunk-bytes=7, no-usage"
)]
pub struct ScriptError {
    word: String,
}

impl Script {
    /// Every request goes well.
    pub fn fine() -> Self {
        Script::default()
    }

    /// Every request meets that step.
    pub fn always(step: Step) -> Self {
        Script { steps: vec![(step, Times::Ever)], repeats: false }
    }

    /// Adds a step for one request.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push((step, Times::So(1)));
        self
    }

    /// Adds a step for so many requests.
    #[must_use]
    pub fn then_times(mut self, times: usize, step: Step) -> Self {
        self.steps.push((step, Times::So(times)));
        self
    }

    /// Begins anew after the last step.
    #[must_use]
    pub fn repeating(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut steps = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (step, times) = match part.rsplit_once(" x") {
                Some((step, "*")) => (step, Times::Ever),
                Some((step, count)) => (step, Times::So(number("x", count)?)),
                None => (part, Times::So(1)),
            };
            steps.push((step.parse()?, times));
        }
        Ok(Script { steps, repeats: false })
    }

    /// The step for the request of that number, from 0.
    pub(crate) fn step(&self, mut index: usize) -> Step {
        let round: usize = self.steps.iter().map(|(_, times)| if let Times::So(count) = times { *count } else { 0 }).sum();
        if self.repeats && round > 0 {
            index %= round;
        }
        for (step, times) in &self.steps {
            match times {
                Times::Ever => return step.clone(),
                Times::So(count) if index < *count => return step.clone(),
                Times::So(count) => index -= count,
            }
        }
        Step::default()
    }
}

impl Step {
    /// A step with nothing but that fault.
    pub fn fault(fault: Fault) -> Self {
        Step { fault: Some(fault), ..Step::default() }
    }

    /// An error of that status.
    pub fn status(code: u16) -> Self {
        Step::fault(Fault::Status { code, retry_after: None })
    }

    /// A good answer, late.
    pub fn delay(delay: Duration) -> Self {
        Step { delay, ..Step::default() }
    }

    fn set(&mut self, word: &str) -> Result<(), ScriptError> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "ok" => {}
            "delay" => self.delay = duration(word, value)?,
            "chunk-bytes" => self.chunk_bytes = Some(number(word, value)?.max(1)),
            "no-usage" => self.no_usage = true,
            "hang" => self.fault = Some(Fault::Hang),
            "close" => self.fault = Some(Fault::Close),
            "hang-after" => self.fault = Some(Fault::HangAfter(number(word, value)?)),
            "cut-after" => self.fault = Some(Fault::CutAfter(number(word, value)?)),
            "malformed-at" => self.fault = Some(Fault::MalformedAt(number(word, value)?)),
            "status" => {
                let code = number(word, value)?;
                let valid = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
                self.fault = Some(Fault::Status { code: valid.ok_or_else(|| unknown(word))?, retry_after: None });
            }
            "retry-after" => match &mut self.fault {
                Some(Fault::Status { retry_after, .. }) => *retry_after = Some(value.to_owned()),
                _ => return Err(unknown("retry-after without status before it")),
            },
            _ => return Err(unknown(word)),
        }
        Ok(())
    }
}

impl FromStr for Step {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut step = Step::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            step.set(word)?;
        }
        Ok(step)
    }
}

fn unknown(word: &str) -> ScriptError {
    ScriptError { word: word.to_owned() }
}

fn number(word: &str, value: &str) -> Result<usize, ScriptError> {
    value.trim().parse().map_err(|_| unknown(word))
}

/// `200ms`, `1.5s` or `2` (seconds), up to a day.
fn duration(word: &str, value: &str) -> Result<Duration, ScriptError> {
    let (digits, unit) = match value.strip_suffix("ms") {
        Some(digits) => (digits, 0.001),
        None => (value.strip_suffix('s').unwrap_or(value), 1.0),
    };
    let seconds = digits.trim().parse::<f64>().map_err(|_| unknown(word))? * unit;
    if (0.0..=86_400.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(unknown(word)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_in_turn_and_then_all_is_well() {
        let script = Script::parse("status=429,retry-after=2 x2; delay=200ms; cut-after=4,chunk-bytes=7").unwrap();
        let limited = Step::fault(Fault::Status { code: 429, retry_after: Some("2".into()) });
        assert_eq!([script.step(0), script.step(1)], [limited.clone(), limited]);
        assert_eq!(script.step(2), Step::delay(Duration::from_millis(200)));
        assert_eq!(script.step(3), Step { fault: Some(Fault::CutAfter(4)), chunk_bytes: Some(7), ..Step::default() });
        assert_eq!(script.step(4), Step::default());
    }

    #[test]
    fn a_step_may_last_for_ever_and_a_script_may_repeat() {
        assert_eq!(Script::parse("ok; hang x*").unwrap().step(99), Step::fault(Fault::Hang));
        let repeating = Script::parse("ok x2; close").unwrap().repeating();
        assert_eq!([repeating.step(5), repeating.step(6)], [Step::fault(Fault::Close), Step::default()]);
        assert_eq!(Script::fine().repeating().step(3), Step::default());
    }

    #[test]
    fn what_is_no_property_is_named() {
        for (text, word) in [
            ("sttaus=1", "sttaus=1"),
            ("status=9", "status=9"),
            ("delay=-1s", "delay=-1s"),
            ("ok x-2", "`x`"),
            ("retry-after=1", "without status"),
        ] {
            let error = Script::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
