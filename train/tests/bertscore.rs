//! BERTScore against an implementation that shares nothing with it but the encoder's published weights (tests/python/bertscore.py).

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use train::{
    bertscore::{BertScore, layer_of},
    outcomes,
};

const PAIRS: usize = 50;
const TOLERANCE: f64 = 1e-4;

/// Texts that a tokenizer, a limit or a mean may stumble over.
fn odd_pairs() -> Vec<(String, String)> {
    let long = "The quick brown fox jumps over the lazy dog near the river bank. ".repeat(60);
    let other = "A slow green turtle crawls under the busy bridge by the sea. ".repeat(60);
    let pairs = [
        ("", "The capital of Germany is Berlin."),
        (" \n\t ", "x"),
        ("a", ""),
        ("The capital of Germany is Berlin.", "The capital of Germany is Berlin."),
        ("THE CAPITAL OF GERMANY IS BERLIN!", "the capital of germany is berlin"),
        ("Größe, Straße, naïve café, señor", "Grosse, Strasse, naive cafe, senor"),
        ("東京は日本の首都です。", "Tokyo is the capital of Japan."),
        ("🙂🙃 ok 👍🏽", "fine"),
        ("def f(x):\n    return x[::-1]  # reversed", "x.reverse()"),
        ("SELECT * FROM users WHERE name = 'O\\'Neil';", "SELECT * FROM users;"),
        ("supercalifragilisticexpialidocious", "antidisestablishmentarianism"),
        ("3.14159 ≈ π; 2 × 5 = 10; −7", "pi is about 3.14159"),
        ("\u{feff}zero\u{200b}width \u{0} nul\u{fffd}", "zero width"),
        ("„Anführung“ – Strich … Ende", "\"quotation\" - dash ... end"),
    ];
    let mut pairs: Vec<(String, String)> = pairs.map(|(answer, reference)| (answer.to_owned(), reference.to_owned())).to_vec();
    pairs.push((long.clone(), "A fox jumps over a dog.".to_owned()));
    pairs.push((long, other));
    pairs.push(("w".repeat(101), "w".repeat(100)));
    pairs
}

/// What experts really answered, some of each kind of query.
fn recorded_pairs(count: usize) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("demo/outcomes.jsonl.gz");
    let rows = outcomes::read(&path).unwrap();
    let step = rows.len() / count;
    let pair = |(at, row): (usize, &outcomes::Row)| {
        let answer = row.outcomes[at % row.outcomes.len()].response.clone().unwrap();
        (answer, row.reference.clone().unwrap())
    };
    rows.iter().step_by(step).take(count).enumerate().map(pair).collect()
}

#[test]
fn it_equals_an_independent_implementation() {
    let folder = parts::encoder().unwrap();
    let mut pairs = odd_pairs();
    pairs.extend(recorded_pairs(PAIRS - pairs.len()));
    let bertscore = BertScore::load(&folder).unwrap();
    let found: Vec<f64> = pairs.iter().map(|(answer, reference)| bertscore.f1(&[answer], reference).unwrap()[0]).collect();

    let expected = python(&folder, layer_of(6), &pairs);
    assert_eq!((found.len(), expected.len()), (PAIRS, PAIRS));
    for ((pair, found), expected) in pairs.iter().zip(&found).zip(&expected) {
        assert!((found - expected).abs() < TOLERANCE, "{pair:?}: {found}, expected {expected}");
    }
    // The pairs tell answers apart, or all this would show little.
    assert!(found.contains(&0.0) && found.iter().any(|f1| *f1 > 0.999) && found.iter().any(|f1| (0.2..0.5).contains(f1)));
}

#[test]
fn answers_that_are_scored_together_score_as_alone() {
    let bertscore = BertScore::load(&parts::encoder().unwrap()).unwrap();
    let reference = "The past tense of go is went.";
    let long = "went ".repeat(700);
    let answers = ["Yesterday I went", "", &long, "go", "Yesterday I went", "The past tense of go is went."];
    let together = bertscore.f1(&answers, reference).unwrap();
    for (answer, together) in answers.iter().zip(&together) {
        let alone = bertscore.f1(&[answer], reference).unwrap()[0];
        assert!((alone - together).abs() < 1e-5, "{answer:.20}: {alone} alone, {together} together");
    }
    assert_eq!((together[0], together[1]), (together[4], 0.0));
    assert!(bertscore.name().contains("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"), "{}", bertscore.name());
}

fn python(folder: &Path, layer: usize, pairs: &[(String, String)]) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/python/bertscore.py");
    let mut child = Command::new(parts::python().unwrap())
        .arg(script)
        .arg(folder)
        .arg(layer.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String =
        pairs.iter().map(|(answer, reference)| format!("{}\n", json!({"answer": answer, "reference": reference}))).collect();
    let mut input = child.stdin.take().unwrap();
    // A pipe holds less than both sides have to say: one writes while the other is read.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}
