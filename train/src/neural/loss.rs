//! What a network is trained for.

use std::{fmt, str::FromStr};

use model::bundle::Output;

/// How a prediction is held against what experts scored.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Loss {
    /// Cross-entropy against `softmax(temperature * score)`, as the paper has it. Good for scores with shades (BERTSim); with scores of
    /// 0 and 1 it rewards being right where few are.
    SoftLabel {
        /// The paper's T.
        temperature: f32,
    },
    /// The square of the error of each expert's predicted score.
    Score,
}

/// The paper's.
pub const TEMPERATURE: f32 = 10.0;

impl Loss {
    /// What the output of a graph trained so means.
    #[must_use]
    pub fn output(self) -> Output {
        match self {
            Self::SoftLabel { temperature } => Output::LogProbs { temperature: f64::from(temperature) },
            Self::Score => Output::Scores,
        }
    }
}

impl Default for Loss {
    fn default() -> Self {
        Self::SoftLabel { temperature: TEMPERATURE }
    }
}

impl FromStr for Loss {
    type Err = String;

    /// `score`, `soft-label`, or `soft-label:5` with another temperature.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "score" => Ok(Self::Score),
            None if text == "soft-label" => Ok(Self::default()),
            Some(("soft-label", temperature)) => match temperature.parse::<f32>() {
                Ok(temperature) if temperature.is_finite() && temperature > 0.0 => Ok(Self::SoftLabel { temperature }),
                _ => Err(format!("`{temperature}` is not a temperature above 0")),
            },
            _ => Err(format!("`{text}` is neither score nor soft-label")),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Score => f.write_str("score"),
            Self::SoftLabel { temperature } => write!(f, "soft-label:{temperature}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Loss, TEMPERATURE};

    #[test]
    fn losses_are_read_and_told() {
        assert_eq!("soft-label".parse(), Ok(Loss::SoftLabel { temperature: TEMPERATURE }));
        for loss in [Loss::Score, Loss::SoftLabel { temperature: 2.5 }] {
            assert_eq!(loss.to_string().parse(), Ok(loss));
        }
        for bad in ["", "Score", "soft-label:0", "soft-label:NaN", "soft-label:inf", "score:3"] {
            assert!(bad.parse::<Loss>().is_err(), "{bad}");
        }
    }
}
