use super::last_number;

fn check(cases: &[(&str, f64)]) {
    for (text, expected) in cases {
        let found = last_number(text);
        assert!(found.is_some_and(|found| (found - expected).abs() <= 1e-9 * expected.abs()), "{text}: {found:?}");
    }
}

#[test]
fn groups_and_decimals_are_told_apart() {
    check(&[
        ("1,234.50", 1234.5),
        ("1.234,50", 1234.5),
        ("1.234.567", 1_234_567.0),
        ("12,34,567", 1_234_567.0),
        ("1'234'567", 1_234_567.0),
        ("1\u{202f}234", 1234.0),
        ("1{,}234", 1234.0),
        ("1,000", 1000.0),
        ("3,5", 3.5),
        ("0,125", 0.125),
        (".5", 0.5),
        ("it is .25.", 0.25),
        ("one of 1,2,3", 3.0),
        ("1, 2, 3", 3.0),
        ("version 1.2.3", 3.0),
        ("№ 7.", 7.0),
        ("see 4.5", 4.5),
        ("50%", 50.0),
        ("$5", 5.0),
    ]);
}

#[test]
fn signs_belong_to_numbers_and_differences_have_none() {
    check(&[
        ("-3", -3.0),
        ("-$5", -5.0),
        ("$-5", -5.0),
        ("= \u{2212}3", -3.0),
        ("5-3", 3.0),
        ("5 - 3", 3.0),
        ("(2)-3", 3.0),
        ("COVID-19", 19.0),
    ]);
}

#[test]
fn powers_of_ten_are_part_of_the_number() {
    check(&[
        ("1e3", 1000.0),
        ("6.022E+23", 6.022e23),
        ("1.5e-7", 1.5e-7),
        ("-2e3", -2000.0),
        ("1.5 × 10^3", 1500.0),
        ("3x10^2", 300.0),
        ("6.022 \\times 10^{23}", 6.022e23),
        ("6.6 · 10⁻³⁴ Js", 6.6e-34),
        ("10^{-3}", 1e-3),
        ("2^10", 1024.0),
        ("5 m^2", 5.0),
        ("5 m²", 5.0),
        ("3 * 10 boxes", 10.0),
        ("3 eggs", 3.0),
        ("9.8 m s⁻²", 9.8),
        ("9.8 m/s^{-2}", 9.8),
    ]);
}

#[test]
fn fractions_are_one_number_and_dates_are_none() {
    check(&[
        ("3/4", 0.75),
        ("-3/4", -0.75),
        ("1 1/2 cups", 1.5),
        ("1\\frac{1}{2}", 1.5),
        ("\\boxed{\\dfrac{3}{4}}", 0.75),
        ("\\frac{x}{4}", 4.0),
        ("12/05/2024", 2024.0),
        ("4/0", 0.0),
    ]);
}

#[test]
fn digits_of_other_scripts_count() {
    check(&[("４２", 42.0), ("٣", 3.0), ("१२", 12.0)]);
}

proptest::proptest! {
    #[test]
    fn whatever_is_written_is_read_to_its_end(text in "[0-9.,/^{}x×*e() '$\\u{2212}\\u{2009}²⁻-]{0,24}|.*", number in 0..1_000_000_u32) {
        let _ = last_number(&text);
        proptest::prop_assert_eq!(last_number(&format!("{text}; {number} apples")), Some(f64::from(number)));
    }
}

#[test]
fn where_there_is_no_number_there_is_none() {
    for text in ["", "four", "m²", ".", "-", &"9".repeat(400)] {
        assert_eq!(last_number(text), None, "{text}");
    }
}

#[test]
fn a_megabyte_of_the_same_is_read_to_its_end() {
    for piece in ["\\frac{", "\\frac{1}", "²", "1/", "1,", "1 ", "-", "e", "× 10^", "((", "1^{"] {
        let text = piece.repeat((1 << 20) / piece.len());
        assert_eq!(last_number(&format!("{text}; 7")), Some(7.0), "{piece}");
    }
}
