//! The engine whole: queue, deadlines, cache and failures before a scorer that does as it is told; numbers before the real ONNX Runtime.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use super::*;
use crate::{
    bundle::{ExpertEntry, Input, Output},
    testing::{Graph, lexical_bundle, manifest, sum_of, token_bundle, token_inputs, tokenizer},
};

const LONG: Duration = Duration::from_secs(60);

/// Answers with each text's length, when it is let: each run takes one permit. Keeps what was run together.
#[derive(Debug)]
struct Gated {
    permits: Mutex<mpsc::Receiver<()>>,
    runs: Mutex<Vec<Vec<String>>>,
    waits: AtomicUsize,
}

/// The other end of a [`Gated`] scorer.
struct Gate {
    scorer: Arc<Gated>,
    permits: mpsc::Sender<()>,
}

impl Scorer for Gated {
    fn score(&self, rows: &[&Row]) -> Result<Vec<RowScores>, String> {
        let texts: Vec<_> = rows.iter().map(|row| row.text.clone()).collect();
        self.runs.lock().unwrap().push(texts.clone());
        self.waits.fetch_add(1, Ordering::SeqCst);
        self.permits.lock().unwrap().recv_timeout(LONG).map_err(|_| "nobody let it".to_owned())?;
        if texts.iter().any(|text| text == "panic") {
            panic!("told to");
        }
        if texts.iter().any(|text| text == "fail") {
            return Err("told to".into());
        }
        let quality = |text: &String| if text == "nan" { f32::NAN } else { text.len() as f32 };
        Ok(texts.iter().map(|text| RowScores { quality: vec![quality(text), 0.5], output_tokens: None }).collect())
    }
}

impl Gate {
    fn open(&self, times: usize) {
        (0..times).for_each(|_| self.permits.send(()).unwrap());
    }

    /// Waits until so many runs have begun, the first of the engine's own included.
    async fn begun(&self, runs: usize) {
        while self.scorer.waits.load(Ordering::SeqCst) < runs {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What was run together, less the engine's own first.
    fn runs(&self) -> Vec<Vec<String>> {
        self.scorer.runs.lock().unwrap()[1..].to_vec()
    }
}

fn gated(options: &EngineOptions) -> (Arc<Engine>, Gate) {
    let (permits, receiver) = mpsc::channel();
    let scorer = Arc::new(Gated { permits: Mutex::new(receiver), runs: Mutex::default(), waits: AtomicUsize::new(0) });
    permits.send(()).unwrap();
    let engine = Engine::with_scorer(token_bundle(), scorer.clone(), options).unwrap();
    (Arc::new(engine), Gate { scorer, permits })
}

fn one_thread() -> EngineOptions {
    EngineOptions { threads: 1, ..EngineOptions::default() }
}

fn ask(engine: &Arc<Engine>, text: &str, deadline: Duration) -> tokio::task::JoinHandle<Result<Prediction, ScoreError>> {
    let (engine, text) = (engine.clone(), text.to_owned());
    tokio::spawn(async move { engine.score(text, deadline).await })
}

/// Waits until so many texts wait in the queue.
async fn queued(engine: &Engine, count: usize) {
    while engine.queue.as_ref().unwrap().waiting() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_while_another_runs_is_run_together() {
    let (engine, gate) = gated(&one_thread());
    let first = ask(&engine, "one", LONG);
    gate.begun(2).await;
    let others: Vec<_> = ["two", "three", "four"].into_iter().map(|text| ask(&engine, text, LONG)).collect();
    queued(&engine, 3).await;
    gate.open(2);
    assert_eq!(first.await.unwrap().unwrap().quality, [3.0, 0.5]);
    let mut lengths = Vec::new();
    for other in others {
        lengths.push(other.await.unwrap().unwrap().quality[0]);
    }
    assert_eq!(lengths, [3.0, 5.0, 4.0], "answers went to others than asked");
    let runs = gate.runs();
    assert_eq!((runs.len(), runs[1].iter().collect::<BTreeSet<_>>().len()), (2, 3), "{runs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_asked_twice_is_run_once_whether_it_waits_or_was_answered() {
    let (engine, gate) = gated(&one_thread());
    let busy = ask(&engine, "busy", LONG);
    gate.begun(2).await;
    let (one, other) = (ask(&engine, "same", LONG), ask(&engine, "same", LONG));
    queued(&engine, 1).await;
    while engine.queue.as_ref().unwrap().callers() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gate.open(2);
    busy.await.unwrap().unwrap();
    let (one, other) = (one.await.unwrap().unwrap(), other.await.unwrap().unwrap());
    assert_eq!((one.quality.clone(), one.cached), (other.quality, false));
    let again = engine.score("same".into(), LONG).await.unwrap();
    assert_eq!((again.quality, again.cached, again.prompt_tokens), (one.quality, true, Some(3)));
    assert_eq!(gate.runs(), [["busy"], ["same"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_passed_is_said_and_the_text_is_not_run_any_more() {
    let (engine, gate) = gated(&one_thread());
    let busy = ask(&engine, "busy", LONG);
    gate.begun(2).await;
    assert_eq!(engine.score("late".into(), Duration::from_millis(20)).await, Err(ScoreError::DeadlineExceeded));
    assert_eq!(engine.score("later".into(), Duration::ZERO).await, Err(ScoreError::DeadlineExceeded));
    gate.open(2);
    busy.await.unwrap().unwrap();
    engine.score("next".into(), LONG).await.unwrap();
    assert_eq!(gate.runs(), [["busy"], ["next"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_door_one_more_than_may_wait_is_refused_and_the_gone_make_room() {
    let (engine, gate) = gated(&EngineOptions { max_waiting: 1, ..one_thread() });
    let busy = ask(&engine, "busy", LONG);
    gate.begun(2).await;
    let waits = ask(&engine, "waits", LONG);
    queued(&engine, 1).await;
    assert_eq!(engine.score("one more".into(), LONG).await, Err(ScoreError::Overloaded));
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    let room = ask(&engine, "has room", LONG);
    // Once it is in, the one who left is out.
    while engine.queue.as_ref().unwrap().callers() != 1 || engine.queue.as_ref().unwrap().waiting() != 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gate.open(2);
    busy.await.unwrap().unwrap();
    room.await.unwrap().unwrap();
    assert_eq!(gate.runs(), [["busy"], ["has room"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_text_that_spoils_a_run_fails_alone_and_the_engine_goes_on() {
    for (bad, runs_of_bad) in [("fail", 2), ("panic", 2), ("nan", 1)] {
        let (engine, gate) = gated(&one_thread());
        let busy = ask(&engine, "busy", LONG);
        gate.begun(2).await;
        let (good, spoils) = (ask(&engine, "good", LONG), ask(&engine, bad, LONG));
        queued(&engine, 2).await;
        gate.open(10);
        busy.await.unwrap().unwrap();
        assert_eq!(good.await.unwrap().unwrap().quality, [4.0, 0.5], "beside {bad}");
        assert!(matches!(spoils.await.unwrap(), Err(ScoreError::Failed(_))), "{bad}");
        // A failure is not remembered.
        assert!(matches!(engine.score(bad.into(), LONG).await, Err(ScoreError::Failed(_))), "{bad}");
        assert_eq!(engine.score("alive".into(), LONG).await.unwrap().quality, [5.0, 0.5]);
        let tried = gate.runs().iter().filter(|run| run.iter().any(|text| text == bad)).count();
        assert_eq!(tried, runs_of_bad + 1, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_dropped_finishes_what_runs_and_ends_its_threads() {
    let (engine, gate) = gated(&EngineOptions { threads: 2, ..EngineOptions::default() });
    let busy = ask(&engine, "busy", LONG);
    gate.begun(2).await;
    gate.open(1);
    busy.await.unwrap().unwrap();
    let weak = Arc::downgrade(&gate.scorer);
    drop(gate);
    tokio::task::spawn_blocking(move || drop(engine)).await.unwrap();
    assert!(weak.upgrade().is_none(), "a thread still holds the scorer");
}

#[tokio::test]
async fn an_answer_of_another_width_than_the_bundle_names_is_refused_at_once() {
    #[derive(Debug)]
    struct Short;
    impl Scorer for Short {
        fn score(&self, rows: &[&Row]) -> Result<Vec<RowScores>, String> {
            Ok(rows.iter().map(|_| RowScores { quality: vec![1.0], output_tokens: None }).collect())
        }
    }
    let error = Engine::with_scorer(token_bundle(), Arc::new(Short), &EngineOptions::default()).unwrap_err().to_string();
    assert!(error.contains("router.onnx") && error.contains("1 scores for 2 experts"), "{error}");
}

#[tokio::test]
async fn a_fixed_engine_answers_by_its_function_and_never_from_memory() {
    let engine = Engine::fixed(&["a", "b"], |text| match text {
        "no" => Err("no".into()),
        text => Ok(vec![text.len() as f32, 1.0]),
    })
    .unwrap();
    for _ in 0..2 {
        let prediction = engine.score("four".into(), Duration::ZERO).await.unwrap();
        assert_eq!((prediction.quality, prediction.cached), (vec![4.0, 1.0], false));
    }
    assert_eq!(engine.score("no".into(), LONG).await, Err(ScoreError::Failed("no".into())));
}

fn options() -> EngineOptions {
    EngineOptions { threads: 2, ..EngineOptions::default() }
}

fn load(graph: Graph, inputs: Vec<Input>, output: Output) -> Result<Engine, BundleError> {
    Engine::load(Bundle::assemble(manifest(inputs, output), graph.bytes(), Some(tokenizer())).unwrap(), &options())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_graph_gives_the_sums_that_paper_gives() {
    let engine = Engine::load(token_bundle(), &options()).unwrap();
    let score = async |text: &str| engine.score(text.to_owned(), LONG).await.unwrap();
    // [CLS] one two [SEP], and a word nobody knows.
    let prediction = score("One two").await;
    assert_eq!((prediction.quality, prediction.prompt_tokens), (sum_of(&[2, 4, 5, 3]), Some(4)));
    assert_eq!(score("four what").await.quality, sum_of(&[2, 7, 1, 3]));
    assert_eq!(score("").await.quality, sum_of(&[2, 3]));
    assert!(prediction.output_tokens.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_unlike_length_in_one_batch_do_not_see_each_others_padding() {
    let engine = Engine::load(token_bundle(), &options()).unwrap();
    let texts: Vec<String> = (0..40).map(|number| vec!["three four one"; number % 5].join(" ")).collect();
    let together = engine.score_all(&texts).unwrap();
    for (text, prediction) in texts.iter().zip(&together) {
        let alone = engine.score(text.clone(), LONG).await.unwrap();
        assert_eq!((&alone.quality, alone.prompt_tokens), (&prediction.quality, prediction.prompt_tokens), "{text:?}");
    }
}

#[test]
fn one_session_run_by_many_threads_gives_the_same_bits() {
    let bundle = token_bundle();
    let network = Network::load(&bundle, None).unwrap();
    let extractor = Extractor::new(&bundle).unwrap();
    let rows: Vec<Row> = ["one", "one two three", "four four four four", ""].map(|text| extractor.row(text.to_owned()).unwrap()).into();
    let expected: Vec<_> = rows.iter().map(|row| network.score(&[row]).unwrap()).collect();
    thread::scope(|scope| {
        for start in 0..8 {
            let (network, rows, expected) = (&network, &rows, &expected);
            scope.spawn(move || {
                for turn in 0..200 {
                    let index = (start + turn) % rows.len();
                    assert_eq!(network.score(&[&rows[index]]).unwrap(), expected[index]);
                }
            });
        }
    });
}

#[tokio::test]
async fn a_lexical_graph_runs_where_it_is_asked() {
    let engine = Engine::load(lexical_bundle(Vec::new()), &options()).unwrap();
    assert!(engine.queue.is_none());
    let once = engine.score("word".into(), Duration::ZERO).await.unwrap();
    let thrice = engine.score("word word word".into(), Duration::ZERO).await.unwrap();
    let weight = 1.0 + 3.0_f32.ln();
    for (thrice, once) in thrice.quality.iter().zip(&once.quality) {
        assert!((thrice - weight * once).abs() < 1e-5, "{thrice} is not {weight} times {once}");
    }
    assert_eq!(once.prompt_tokens, None);
    // No word has a row: one padded cell of weight 0.
    let nothing = Engine::load(lexical_bundle(vec![255]), &options()).unwrap();
    assert_eq!(nothing.score("zebra".into(), LONG).await.unwrap().quality, [0.0, 0.0]);
}

#[tokio::test]
async fn log_probabilities_are_divided_by_their_temperature() {
    let engine = load(Graph::of_tokens("log_probs"), token_inputs(16), Output::LogProbs { temperature: 10.0 }).unwrap();
    let expect: Vec<f32> = sum_of(&[2, 6, 3]).iter().map(|value| value / 10.0).collect();
    assert_eq!(engine.score("three".into(), LONG).await.unwrap().quality, expect);
}

#[tokio::test]
async fn a_head_for_lengths_is_read_and_what_it_does_not_know_is_not_a_number() {
    let engine = load(Graph::of_tokens("scores").with_output_tokens(), token_inputs(16), Output::Scores).unwrap();
    let tokens = engine.score("four".into(), LONG).await.unwrap().output_tokens.unwrap();
    assert_eq!(tokens[0], 2.0 * sum_of(&[2, 7, 3])[0]);
    assert!(tokens[1].is_nan());
    // A length below nothing is none.
    let tokens = engine.score(["one"; 8].join(" "), LONG).await.unwrap().output_tokens.unwrap();
    assert_eq!(tokens[0], 0.0);
}

#[tokio::test]
async fn surface_numbers_reach_the_graph() {
    let inputs = vec![Input::Surface { name: "surface".into(), version: crate::lexical::SURFACE_VERSION }];
    let engine = load(Graph::of_surface(), inputs, Output::Scores).unwrap();
    let text = "Is this (A) 12 or (B) 13?";
    let sum: f32 = crate::lexical::surface(text).iter().sum();
    let quality = engine.score(text.into(), LONG).await.unwrap().quality;
    assert!((quality[0] - sum).abs() < 1e-4 && (quality[1] + sum).abs() < 1e-4, "{quality:?}, not {sum}");
}

#[test]
fn a_graph_that_does_not_keep_the_bundles_word_is_refused_by_name() {
    let refused = |result: Result<Engine, BundleError>, part: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("router.onnx") && error.contains(part), "{error:?} does not say {part:?}");
    };
    refused(load(Graph::of_tokens("scores").with_stray_input(), token_inputs(16), Output::Scores), "the graph reads stray");
    let mut inputs = token_inputs(16);
    inputs.push(Input::TokenTypeIds { name: "token_type_ids".into() });
    refused(load(Graph::of_tokens("scores"), inputs, Output::Scores), "names the input token_type_ids");
    refused(load(Graph::of_tokens("logits"), token_inputs(16), Output::Scores), "no output scores, only logits");
    let mut three = manifest(token_inputs(16), Output::Scores);
    three.experts.push(ExpertEntry { name: "third".into(), ..three.experts[0].clone() });
    let three = Bundle::assemble(three, Graph::of_tokens("scores").bytes(), Some(tokenizer())).unwrap();
    refused(Engine::load(three, &options()), "but the bundle names 3 experts");
    let garbage = Bundle::assemble(manifest(token_inputs(16), Output::Scores), b"not a graph".to_vec(), Some(tokenizer())).unwrap();
    refused(Engine::load(garbage, &options()), "router.onnx");
    let mut tokens = token_bundle();
    tokens.tokenizer = Some(b"{}".to_vec());
    let error = Engine::load(tokens, &options()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}

#[test]
fn many_texts_are_scored_alike_by_any_number_of_threads() {
    let texts: Vec<String> =
        (0..150).map(|number| ["one", "two", "three four"][number % 3].to_owned() + &" two".repeat(number % 11)).collect();
    let scores = |threads| {
        let engine = Engine::load(token_bundle(), &EngineOptions { threads, ..options() }).unwrap();
        engine.score_all(&texts).unwrap().into_iter().map(|prediction| prediction.quality).collect::<Vec<_>>()
    };
    assert_eq!(scores(1), scores(4));
}
