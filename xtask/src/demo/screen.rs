//! What the demo prints: numbered steps with their times, and tables whose columns line up.

use std::{cell::Cell, time::Instant};

/// Steps of the whole.
const STEPS: usize = 7;

/// Prints the steps and times them.
pub(super) struct Screen {
    begun: Instant,
    step: Cell<usize>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), step: Cell::new(0) }
    }

    /// Begins a step.
    pub(super) fn step(&self, what: &str) {
        self.step.set(self.step.get() + 1);
        println!("\n[{}/{STEPS}] {what}  ({} so far)", self.step.get(), seconds(self.begun));
    }

    /// A line of a step.
    pub(super) fn say(&self, text: &str) {
        println!("      {text}");
    }

    pub(super) fn elapsed(&self) -> String {
        seconds(self.begun)
    }
}

/// How long it took, for people.
pub(super) fn seconds(since: Instant) -> String {
    let seconds = since.elapsed().as_secs_f64();
    if seconds < 60.0 { format!("{seconds:.1} s") } else { format!("{} min {:02} s", seconds as u64 / 60, seconds as u64 % 60) }
}

/// Rows of text in columns that line up; the first row is the head. Columns whose head begins with a blank are numbers and stand to the
/// right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let right: Vec<bool> = (0..columns).map(|column| rows[0].get(column).is_some_and(|head| head.starts_with(' '))).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if right[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text += format!("      {}", cells.collect::<Vec<_>>().join("  ")).trim_end();
        text += "\n";
        if at == 0 {
            text += &format!("      {}\n", widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  "));
        }
    }
    text
}

/// A text cut to so many characters, in one line.
pub(super) fn short(text: &str, most: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= most { text } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// Cells of a row.
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::{row, short, table};

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let text = table(&[row(["name", " score"]), row(["a", "0.5"]), row(["longer", "10.25"])]);
        assert_eq!(text, "      name     score\n      ------  ------\n      a          0.5\n      longer   10.25\n");
    }

    #[test]
    fn long_texts_are_cut_by_characters() {
        assert_eq!((short("größer\n als", 20), short("größer als", 5)), ("größer als".to_owned(), "größ…".to_owned()));
    }
}
