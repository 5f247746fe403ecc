//! What experts charge, read off outcomes: where no manifest says it, decisions and evaluation need prices all the same, and the actual
//! cost of an answer is not known when the choice is made.

use ndarray::Array2;
use routing::Prices;

use crate::{data::Data, linear::non_negative_least_squares};

/// Of each expert; none where no outcome has a cost.
///
/// Least squares of cost on prompt tokens, completion tokens and a constant, with no price below zero. The prompt's tokens are those all
/// experts share ([`shared_prompt_tokens`]): what an expert's own instructions add goes into the constant.
#[must_use]
pub fn prices(data: &Data) -> Vec<Option<Prices>> {
    let prompt = shared_prompt_tokens(data);
    (0..data.experts.len()).map(|expert| of_expert(data, &prompt, expert)).collect()
}

fn of_expert(data: &Data, prompt: &[f64], expert: usize) -> Option<Prices> {
    let costed = || (0..data.rows()).filter(|row| !data.cost[[*row, expert]].is_nan());
    let with_output = costed().filter(|row| !data.output_tokens[[*row, expert]].is_nan()).count();
    let all = costed().count();
    if all == 0 {
        return None;
    }
    // Lengths of answers that are seldom known would make a price of the few that have them.
    let use_output = 2 * with_output > all;
    let (mut gram, mut target) = (Array2::<f64>::zeros((3, 3)), [0.0_f64; 3]);
    for row in costed() {
        let output = f64::from(data.output_tokens[[row, expert]]);
        if use_output && output.is_nan() {
            continue;
        }
        let terms = [prompt[row] / 1e3, if use_output { output / 1e3 } else { 0.0 }, 1.0];
        for one in 0..3 {
            target[one] += terms[one] * f64::from(data.cost[[row, expert]]);
            for other in 0..3 {
                gram[[one, other]] += terms[one] * terms[other];
            }
        }
    }
    let found = non_negative_least_squares(&gram, &target);
    Some(Prices { input_per_million: found[0] * 1e3, output_per_million: found[1] * 1e3, per_request: found[2], ..Prices::default() })
}

/// Makes the cost of every outcome whose tokens are known what it is at these prices; an expert without prices keeps what it had. Where
/// an expert is paid by the hour, its seconds must be known too.
pub fn reprice(data: &mut Data, prices: &[Option<Prices>]) {
    for (expert, prices) in prices.iter().enumerate() {
        let Some(prices) = prices else { continue };
        for row in 0..data.rows() {
            let at = [row, expert];
            let (prompt, output, busy) = (data.prompt_tokens[at], data.output_tokens[at], data.busy_seconds[at]);
            if prompt.is_nan() || output.is_nan() || (busy.is_nan() && prices.per_hour > 0.0) {
                continue;
            }
            // Of what is not a number nothing remains.
            let usage = wire::Usage {
                prompt_tokens: prompt as u64,
                completion_tokens: output as u64,
                cached_tokens: data.cached_tokens[at] as u64,
            };
            let busy = if busy.is_nan() { 0.0 } else { f64::from(busy) };
            data.cost[at] = prices.cost_usd(usage, busy) as f32;
        }
    }
}

/// Tokens of each prompt: the least any expert counted, else a fourth of its bytes.
#[must_use]
pub fn shared_prompt_tokens(data: &Data) -> Vec<f64> {
    let least = |row: usize| data.prompt_tokens.row(row).iter().copied().filter(|count| !count.is_nan()).fold(f32::INFINITY, f32::min);
    (0..data.rows())
        .map(|row| {
            let counted = least(row);
            if counted.is_finite() { f64::from(counted) } else { data.texts[row].len().div_ceil(4) as f64 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use model::TextRules;

    use super::{Prices, prices, reprice};
    use crate::{
        data::Data,
        outcomes::{Outcome, Row},
        score::ScoreField,
    };

    fn data(with_output: bool) -> Data {
        let rows: Vec<Row> = (0..40_u32)
            .map(|at| {
                let (prompt, output) = (50 + 13 * at % 97, 20 + 29 * at % 83);
                let cost = f64::from(prompt) * 2e-6 + f64::from(output) * 8e-6 + 1e-5;
                let tokens = if with_output { format!(r#","completion_tokens":{output}"#) } else { String::new() };
                let line = format!(
                    r#"{{"id":"{at}","prompt":"p","prompt_tokens":{prompt},"outcomes":[{{"expert":"a","score":1,"cost_usd":{cost}{tokens}}},{{"expert":"b","score":0}}]}}"#
                );
                serde_json::from_str(&line).unwrap()
            })
            .collect();
        Data::of(&rows, &ScoreField::default(), None, &TextRules::default()).unwrap()
    }

    #[test]
    fn prices_come_out_as_they_went_in_and_none_where_nothing_was_paid() {
        let found = prices(&data(true));
        let first = found[0].unwrap();
        assert!((first.input_per_million - 2.0).abs() < 0.02 && (first.output_per_million - 8.0).abs() < 0.02, "{first:?}");
        assert!((first.per_request - 1e-5).abs() < 2e-6, "{first:?}");
        assert_eq!(found[1], None);
    }

    #[test]
    fn a_manifests_prices_take_the_place_of_what_was_paid_where_tokens_are_known() {
        let mut known = data(true);
        let before = known.cost.clone();
        let dear = Prices { input_per_million: 10.0, output_per_million: 100.0, ..Prices::default() };
        reprice(&mut known, &[Some(dear), Some(dear)]);
        assert!((known.cost[[0, 0]] - (50.0 * 10e-6 + 20.0 * 100e-6)).abs() < 1e-9, "{}", known.cost[[0, 0]]);
        assert!(known.cost[[0, 1]].is_nan(), "the second expert's answers have no lengths");
        let mut hourly = data(true);
        reprice(&mut hourly, &[Some(Prices { per_hour: 1.0, ..Prices::default() }), None]);
        assert_eq!(hourly.cost.column(0), before.column(0), "no seconds, no cost by the hour");
    }

    #[test]
    fn an_answer_costs_at_the_same_prices_what_it_cost_when_it_was_given() {
        let prices = Prices {
            input_per_million: 10.0,
            output_per_million: 100.0,
            cached_input_per_million: Some(1.0),
            per_hour: 3.6,
            ..Prices::default()
        };
        let body = br#"{"choices":[{"message":{"content":"a"}}],
            "usage":{"prompt_tokens":50,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":30}}}"#;
        let answer = crate::ask::Answer::parse(body, 2.0, 4, Some(&prices)).unwrap();
        let scored = |expert: &str| Outcome { score: Some(1.0), ..answer.outcome(expert) };
        let mut row: Row = serde_json::from_str(r#"{"id":"1","prompt":"p"}"#).unwrap();
        row.outcomes = vec![scored("a"), scored("b")];
        let mut data = Data::of(&[row], &ScoreField::default(), None, &TextRules::default()).unwrap();
        let paid = data.cost.clone();
        reprice(&mut data, &[Some(prices), Some(prices)]);
        assert!((paid[[0, 0]] - (200.0 + 30.0 + 2000.0 + 500.0) / 1e6).abs() < 1e-9, "{paid}");
        assert!((data.cost[[0, 0]] - paid[[0, 0]]).abs() < 1e-9, "{} {}", data.cost, paid);
    }

    #[test]
    fn without_lengths_of_answers_the_rest_explains_the_cost() {
        let first = prices(&data(false))[0].unwrap();
        assert!(first.output_per_million == 0.0 && first.per_request > 0.0, "{first:?}");
    }
}
