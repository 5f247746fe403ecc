use model::TextRules;
use ndarray::Axis;

use super::{LearnOptions, Learned, Objective, Sources, learn};
use crate::{
    data::Data,
    decide::{Market, Rule},
    encoder::weights::fixtures,
    outcomes::{Row, Split},
    parts::PartKind,
    random::Random,
    recipe::{LossChoice, RouterKind},
    router::{agreement, load},
    score::ScoreField,
};

/// Queries of two kinds, told apart by their words. `sums` is good at one kind, `words` at the other, `cheap` at neither but costs little.
/// `skill`: how much better the right expert is; at 0 nothing can be learnt.
pub(crate) fn lines(rows: usize, skill: f32) -> Vec<String> {
    let mut random = Random::new(11, 0);
    let topics = [
        ["add", "subtract", "digit", "number", "twice", "half", "total", "equals"],
        ["river", "poem", "city", "author", "novel", "painter", "capital", "island"],
    ];
    let line = |row: usize| {
        let kind = random.below(2);
        let prompt: Vec<&str> = (0..9).map(|_| if random.uniform() < 0.7 { topics[kind][random.below(8)] } else { "the" }).collect();
        let right = |expert: usize| if expert == 2 { 0.35 } else { 0.5 + skill * if expert == kind { 0.45 } else { -0.45 } };
        let scores: Vec<u8> = (0..3).map(|expert| u8::from(random.uniform() < right(expert))).collect();
        let split = ["train", "train", "train", "train", "val"][row % 5];
        let outcome = |(name, cost, at): (&str, f64, usize)| {
            let tokens = 20 + 10 * at;
            format!(r#"{{"expert":"{name}","score":{},"cost_usd":{cost},"completion_tokens":{tokens}}}"#, scores[at])
        };
        let outcomes: Vec<String> = [("sums", 0.002, 0), ("words", 0.001, 1), ("cheap", 0.0001, 2)].into_iter().map(outcome).collect();
        format!(
            r#"{{"id":"{row}","dataset":"{}","split":"{split}","prompt":"{}","outcomes":[{}]}}"#,
            ["arithmetic", "letters"][kind],
            prompt.join(" "),
            outcomes.join(",")
        )
    };
    (0..rows).map(line).collect()
}

pub(crate) fn data(rows: usize, skill: f32) -> Data {
    let rows: Vec<Row> = lines(rows, skill).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    Data::of(&rows, &ScoreField::default(), None, &TextRules::default()).unwrap()
}

fn learnt(data: &Data, kind: RouterKind, loss: LossChoice) -> Learned {
    let train = data.select(&data.of_split(Split::Train));
    let chooser = Market::read(None).unwrap().chooser(&train);
    let options = LearnOptions { kind, loss, temperature: 10.0, objective: Objective::Quality, seed: 3, tune_minutes: 0.0 };
    learn(Sources { data: &train, chooser: &chooser, encoder: None, teacher: None }, &options, &|_| {}).unwrap()
}

fn mean_score(learned: &Learned, data: &Data) -> (f64, f64) {
    let (train, val) = (data.select(&data.of_split(Split::Train)), data.select(&data.of_split(Split::Val)));
    let chooser = Market::read(None).unwrap().chooser(&train);
    let predictions = learned.predict(&train, &val, None, &|_| {}).unwrap();
    let choices = chooser.choose(&predictions, Rule::Quality).unwrap();
    let score = |choose: &dyn Fn(usize) -> usize| {
        (0..val.rows()).map(|row| f64::from(val.score[[row, choose(row)]])).sum::<f64>() / val.rows() as f64
    };
    (score(&|row| choices[row]), score(&|_| learned.best_single))
}

#[test]
fn what_words_tell_is_learnt_under_both_losses_and_the_exported_graph_says_the_same() {
    let data = data(600, 1.0);
    let val = data.select(&data.of_split(Split::Val));
    for loss in [LossChoice::Score, LossChoice::SoftLabel] {
        let learned = learnt(&data, RouterKind::Lexical, loss);
        assert_eq!(learned.guard.favour, 0.0, "it has earned its place");
        let (router, single) = mean_score(&learned, &data);
        assert!(router > single + 0.2, "{loss:?}: {router} {single}");
        let bundle = learned.router.bundle(&TextRules::default(), None, serde_json::json!(null), serde_json::json!(null)).unwrap();
        let views = learned.views(&val, None, &|_| {}).unwrap();
        let found = agreement(&bundle, &val.texts, &learned.router.predict(&views)).unwrap();
        assert!(found.texts == val.rows() && found.most < 1e-3, "{found:?}");
    }
}

#[test]
fn output_tokens_are_learnt_where_the_data_has_them() {
    let data = data(300, 1.0);
    let learned = learnt(&data, RouterKind::Lexical, LossChoice::Score);
    let views = learned.views(&data, None, &|_| {}).unwrap();
    let tokens = learned.router.mixture.output_tokens(&views).unwrap();
    let means = tokens.mean_axis(Axis(0)).unwrap();
    // By name: cheap, sums, words.
    assert!((means[0] - 40.0).abs() < 1.0 && (means[1] - 20.0).abs() < 1.0 && (means[2] - 30.0).abs() < 1.0, "{means}");
}

#[test]
fn of_an_expert_whose_answers_nobody_counted_no_length_is_predicted_nor_exported() {
    let all = data(300, 1.0);
    let mut data = all.clone();
    data.output_tokens.column_mut(0).fill(f32::NAN);
    let learned = learnt(&data, RouterKind::Lexical, LossChoice::Score);
    let expected = learned.predict(&data, &data, None, &|_| {}).unwrap().output_tokens;
    assert!(expected.column(0).iter().all(|tokens| tokens.is_nan()) && expected.column(1).iter().all(|tokens| *tokens > 0.0));
    let bundle = learned.router.bundle(&TextRules::default(), None, serde_json::json!(null), serde_json::json!(null)).unwrap();
    let views = learned.views(&data, None, &|_| {}).unwrap();
    agreement(&bundle, &data.texts, &learned.router.predict(&views)).unwrap();
    for (served, expected) in load(bundle).unwrap().score_all(&data.texts).unwrap().iter().zip(expected.rows()) {
        let served = served.output_tokens.as_ref().unwrap();
        assert!(served[0].is_nan(), "the mean of others then serves");
        assert!((1..3).all(|expert| (served[expert] - expected[expert]).abs() < 0.5), "{served:?} {expected}");
    }
    let names_unknown = |learned: &Learned| {
        let bundle = learned.router.bundle(&TextRules::default(), None, serde_json::json!(null), serde_json::json!(null)).unwrap();
        bundle.graph.windows(14).any(|bytes| bytes == b"unknown_tokens")
    };
    assert!(names_unknown(&learned) && !names_unknown(&learnt(&all, RouterKind::Lexical, LossChoice::Score)));
}

#[test]
fn where_nothing_can_be_learnt_the_best_single_expert_answers_everything() {
    let data = data(500, 0.0);
    let learned = learnt(&data, RouterKind::Auto, LossChoice::Auto);
    let (router, single) = mean_score(&learned, &data);
    if learned.guard.favour > 0.0 {
        assert_eq!(router, single, "never worse than the best single expert");
    } else {
        assert!(learned.guard.gain > 0.0, "kept only for a gain out of fold: {:?}", learned.guard);
    }
    assert!(learned.guard.gain <= 3.0 * learned.guard.standard_error, "there is nothing to gain: {:?}", learned.guard);
}

#[test]
fn a_favoured_expert_also_leads_in_the_exported_graph() {
    let data = data(300, 1.0);
    let mut learned = learnt(&data, RouterKind::Lexical, LossChoice::SoftLabel);
    learned.router.favour[1] = 9.0;
    let bundle = learned.router.bundle(&TextRules::default(), None, serde_json::json!(null), serde_json::json!(null)).unwrap();
    let views = learned.views(&data, None, &|_| {}).unwrap();
    let expected = learned.router.predict(&views);
    agreement(&bundle, &data.texts, &expected).unwrap();
    assert!(expected.rows().into_iter().all(|row| row[1] > row[0] && row[1] > row[2]));
}

#[test]
fn a_router_without_parts_answers_with_the_experts_means() {
    let data = data(100, 1.0);
    let mut learned = learnt(&data, RouterKind::Lexical, LossChoice::Score);
    learned.router.mixture.parts.clear();
    let bundle = learned.router.bundle(&TextRules::default(), None, serde_json::json!(null), serde_json::json!(null)).unwrap();
    let views = learned.views(&data, None, &|_| {}).unwrap();
    agreement(&bundle, &data.texts, &learned.router.predict(&views)).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_missing_outcomes_are_masked() {
    let mut some = data(200, 1.0);
    // An expert scored on a quarter of the queries can join.
    (0..some.rows()).filter(|row| row % 4 != 0).for_each(|row| some.score[[row, 0]] = f32::NAN);
    let bytes = || {
        let learned = learnt(&some, RouterKind::Lexical, LossChoice::Auto);
        learned.router.bundle(&TextRules::default(), None, serde_json::json!(learned.candidates), serde_json::json!(null)).unwrap()
    };
    let (one, other) = (bytes(), bytes());
    assert_eq!((one.digest, one.graph), (other.digest, other.graph));
}

#[test]
fn settings_hold_what_they_promise_out_of_fold() {
    let data = data(600, 1.0);
    let learned = learnt(&data, RouterKind::Lexical, LossChoice::Score);
    let train = data.select(&data.of_split(Split::Train));
    let single = train.score.column(learned.best_single).mean().unwrap();
    let cost = learned.settings.cost.out_of_fold.unwrap();
    assert!(cost.score >= f64::from(single), "{cost:?} {single}");
    let balanced = learned.settings.balanced.out_of_fold.unwrap();
    let single_cost = 1e3 * f64::from(train.cost.column(learned.best_single).mean().unwrap());
    assert!(balanced.cost_per_1k_usd.unwrap() <= single_cost * (1.0 + 1e-6), "{balanced:?} {single_cost}");
    assert!(learned.candidates.iter().all(|candidate| candidate.parts.contains(&PartKind::Words.as_str())));
}

#[test]
fn a_fine_tuned_encoder_is_judged_by_rows_it_has_not_seen_and_takes_the_place_of_the_published_one() {
    let data = data(300, 1.0);
    let (train, val) = (data.select(&data.of_split(Split::Train)), data.select(&data.of_split(Split::Val)));
    let chooser = Market::read(None).unwrap().chooser(&train);
    let encoder = fixtures::encoder(1, false);
    let options = LearnOptions {
        kind: RouterKind::Bert,
        loss: LossChoice::Score,
        temperature: 10.0,
        objective: Objective::Quality,
        seed: 3,
        tune_minutes: 0.0,
    };
    let from = Sources { data: &train, chooser: &chooser, encoder: Some(&encoder), teacher: None };
    let told = std::sync::Mutex::new(Vec::new());
    let learned = learn(from, &options, &|line| told.lock().unwrap().push(line.to_owned())).unwrap();
    let told = told.into_inner().unwrap().join("\n");
    assert!(
        told.contains("without fold 1 of 1: fine-tuning") && told.contains(&format!("on {} rows out of fold", train.rows() / 5)),
        "{told}"
    );
    let tuned = learned.encoder.as_ref().unwrap();
    assert_ne!(tuned.identity().sha256, encoder.identity().sha256);
    let views = learned.views(&val, Some(&encoder), &|_| {}).unwrap();
    let bundle = learned.router.bundle(&TextRules::default(), Some(tuned), serde_json::json!(null), serde_json::json!(null)).unwrap();
    agreement(&bundle, &val.texts, &learned.router.predict(&views)).unwrap();
}
