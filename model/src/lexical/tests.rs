//! Words, rows and surface: what counts, and that nothing panics.

use proptest::prelude::*;

use super::{Features, HASH_VERSION, HashRules, Lexicon, SURFACE, surface, words};

fn rules(rows: Vec<u32>, ngrams: u8) -> HashRules {
    HashRules { version: HASH_VERSION, bits: 18, rows, ngrams }
}

fn features(rules: &HashRules, text: &str) -> Features {
    let mut features = Features::default();
    Lexicon::new(rules).features(text, &mut features);
    features
}

fn count(text: &str) -> usize {
    let mut count = 0;
    words::each_word(text, |_| count += 1);
    count
}

#[test]
fn words_are_letters_in_lower_case_single_digits_signs_and_line_ends() {
    for (text, expected) in [("", 0), ("  \t", 0), ("Hello", 1), ("Hello, World", 3), ("x1", 2), ("123", 3), ("a\nb", 3), ("don't", 3)] {
        assert_eq!(count(text), expected, "{text:?}");
    }
    let same = [("Hello World", "hello  WORLD"), ("ÉCOLE", "école"), ("caféS", "Cafés"), ("a\r\nb", "a\nb")];
    for (one, other) in same {
        assert_eq!(features(&rules(vec![], 2), one).rows, features(&rules(vec![], 2), other).rows, "{one} {other}");
    }
}

#[test]
fn scripts_without_spaces_are_read_letter_by_letter_and_others_word_by_word() {
    for (text, expected) in [("東京都", 3), ("привет мир", 2), ("한국어 말", 2), ("naïve", 1), ("x東", 2), ("→", 1), ("\u{a0}", 0)]
    {
        assert_eq!(count(text), expected, "{text}");
    }
}

#[test]
fn pairs_keep_their_order() {
    let (one, other) = (features(&rules(vec![], 2), "dog bites man"), features(&rules(vec![], 2), "man bites dog"));
    assert_eq!((one.rows.len(), other.rows.len()), (5, 5));
    assert_eq!(one.rows.iter().filter(|row| other.rows.contains(row)).count(), 3);
    assert_eq!(features(&rules(vec![], 1), "dog bites man").rows.len(), 3);
}

#[test]
fn weights_are_one_and_the_logarithm_of_the_count() {
    let found = features(&rules(vec![], 1), "a b a a");
    let mut weights = found.weights.clone();
    weights.sort_by(f32::total_cmp);
    assert_eq!(weights, [1.0, 1.0 + 3_f32.ln()]);
}

#[test]
fn only_listed_hashes_have_rows_and_a_row_is_the_place_in_the_list() {
    let all = features(&rules(vec![], 2), "the cat sat on the mat").rows;
    let kept: Vec<u32> = all.iter().copied().step_by(2).collect();
    let found = features(&rules(kept.clone(), 2), "the cat sat on the mat");
    assert_eq!(found.rows, (0..kept.len() as u32).collect::<Vec<_>>());
    assert_eq!(features(&rules(kept, 2), "nothing known").rows, [] as [u32; 0]);
}

#[test]
fn hashes_stay_as_they_are() {
    // Trained bundles hold these numbers: another hash needs another version.
    assert_eq!(features(&rules(vec![], 2), "What is 7?").rows, HASHES_OF_VERSION_1);
}

const HASHES_OF_VERSION_1: [u32; 7] = [73_075, 99_274, 118_877, 191_858, 223_670, 235_065, 248_165];

#[test]
fn rules_from_outside_are_checked() {
    let good = rules(vec![1, 5], 2);
    assert_eq!(good.check(), Ok(()));
    for bad in [
        HashRules { version: 9, ..good.clone() },
        HashRules { bits: 60, ..good.clone() },
        HashRules { ngrams: 3, ..good.clone() },
        rules(vec![5, 5], 2),
        rules(vec![1 << 18], 2),
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
        // Unchecked, they still must not panic.
        features(&bad, "some text");
    }
}

#[test]
fn surface_sees_options_digits_code_and_the_kind_of_question() {
    let of = |text: &str| surface(text);
    let differs = |one: &str, other: &str| of(one).iter().zip(of(other)).filter(|(a, b)| **a != *b).count();
    // Numbers 10 and 12: how many options, and that they are two.
    for text in ["Name it.\nA. red\nB. blue", "Name it.\n(a) red\n(b) blue", "Name it.\n1) red\n2) blue"] {
        assert_eq!((of(text)[10], of(text)[12]), (0.2, 1.0), "{text}");
    }
    assert!(differs("Who is it?", "How is it?") >= 2);
    assert!(differs("x = 3", "def f(x): return 3") >= 5);
    assert_eq!(of("")[0], 0.0);
}

proptest! {
    #[test]
    fn any_text_gives_finite_numbers_of_the_stated_width(text in "\\PC{0,300}|[A-J0-9.):?\n $\\\\]{0,80}") {
        let numbers = surface(&text);
        prop_assert_eq!(numbers.len(), SURFACE);
        prop_assert!(numbers.iter().all(|number| number.is_finite()));
        let found = features(&rules(vec![], 2), &text);
        prop_assert!(found.rows.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(found.rows.len(), found.weights.len());
    }
}

/// Not a check: prints what features cost. `cargo test -p model --release -- --ignored --nocapture features_of_500`.
#[test]
#[ignore = "prints a time"]
fn features_of_500_words_take_this_long() {
    let text: String =
        (0..500).map(|at| format!("w{} of ", "abcdefghij".chars().cycle().skip(at % 7).take(2 + at % 5).collect::<String>())).collect();
    let text = &text[..3_000];
    let lexicon = Lexicon::new(&rules((0..1 << 18).step_by(4).collect(), 2));
    let mut found = Features::default();
    for _ in 0..3 {
        let start = std::time::Instant::now();
        for _ in 0..1_000 {
            lexicon.features(std::hint::black_box(text), &mut found);
        }
        let words = start.elapsed();
        for _ in 0..1_000 {
            std::hint::black_box(surface(std::hint::black_box(text)));
        }
        println!("{} rows: words {:?}, surface {:?}", found.rows.len(), words / 1_000, (start.elapsed() - words) / 1_000);
    }
}
