//! A fine-tuned encoder as others use it: bundles that say what the trainer says, embeddings, output tokens.

use model::bundle::{ExpertEntry, Output};
use ndarray::Array2;

use super::{Bert, BertOptions, Loss};
use crate::{
    encoder::weights::fixtures,
    mix::Mixture,
    parts::{Part, PartKind, PartOptions},
    router::{Meaning, Router, agreement, load},
    targets::Targets,
    views::{Views, WordOptions, WordSpace},
};

fn targets(count: usize) -> Targets {
    let value = |row: usize, expert: usize| ((row * 7 + expert * 3) % 11) as f32 / 11.0 - 0.5;
    Targets {
        expert_means: ndarray::array![0.6, 0.3, 0.5],
        deviation: Array2::from_shape_fn((count, 3), |(row, expert)| if (row + expert) % 9 == 0 { f32::NAN } else { value(row, expert) }),
        others: Array2::zeros((count, 0)),
        labels: Array2::from_shape_fn((count, 2), |(row, label)| f32::from(u8::from(row % 2 == label))),
        label_names: vec!["even".into(), "odd".into()],
        output_tokens: Array2::from_shape_fn((count, 3), |(row, expert)| if expert == 2 { f32::NAN } else { (row % 50) as f32 }),
    }
}

fn experts() -> Vec<ExpertEntry> {
    let entry = |name: &str| ExpertEntry { name: name.into(), mean_score: None, mean_output_tokens: None, mean_seconds: None };
    ["a", "b", "c"].map(entry).to_vec()
}

fn fit(loss: Loss, int8: bool) -> (Bert, Vec<String>) {
    let texts = fixtures::texts(120, 14, 3);
    let groups: Vec<String> = (0..texts.len()).map(|row| row.to_string()).collect();
    let options = BertOptions { loss, epochs: 2, batch: 16, learning_rate: 1e-3, ..BertOptions::default() };
    let bert = Bert::fit(&fixtures::encoder(1, int8), &texts, &targets(texts.len()), &groups, &options, &|_| {}).unwrap();
    (bert, texts)
}

#[test]
fn a_bundle_says_what_the_trainer_says_under_either_loss() {
    for loss in [Loss::Score, Loss::SoftLabel { temperature: 5.0 }] {
        let (bert, texts) = fit(loss, false);
        let bundle = bert.bundle(&experts(), &model::TextRules::default(), serde_json::Value::Null, serde_json::Value::Null).unwrap();
        let encoder = bundle.manifest.encoder.as_ref().unwrap();
        assert_eq!((encoder.name.as_str(), encoder.dimensions), ("tiny, fine-tuned", 16));
        assert_eq!(bundle.manifest.output, loss.output());
        let found = agreement(&bundle, &texts, &bert.predict(&texts).unwrap()).unwrap();
        assert!(found.most < 1e-5, "{loss}: {found:?}");
        if let Output::LogProbs { temperature } = bundle.manifest.output {
            let engine = load(bundle.clone()).unwrap();
            let shares: f64 = engine.score_all(&texts[..1]).unwrap()[0].quality.iter().map(|q| (f64::from(*q) * temperature).exp()).sum();
            assert!((shares - 1.0).abs() < 1e-4, "{shares}");
        }
        let tokens = bert.output_tokens(&texts).unwrap().unwrap();
        let served = load(bundle).unwrap().score_all(&texts).unwrap();
        for (served, expected) in served.iter().zip(tokens.rows()) {
            let served = served.output_tokens.as_ref().unwrap();
            assert!(served.iter().zip(expected).all(|(served, expected)| (served - expected).abs() < 1e-3 && *served >= 0.0));
        }
    }
}

#[test]
fn neighbours_beside_the_layer_get_into_the_bundle() {
    let (mut bert, texts) = fit(Loss::Score, false);
    assert_eq!(bert.neighbours_share(), 0.0, "too few rows to hold any out");
    let embeddings = bert.embeddings(&texts).unwrap();
    let neighbours = crate::parts::Neighbours::new(embeddings.view(), targets(texts.len()).filled(), 7);
    bert.part.memory = Some(std::sync::Arc::new(super::Memory { share: 0.4, neighbours }));
    let bundle = bert.bundle(&experts(), &model::TextRules::default(), serde_json::Value::Null, serde_json::Value::Null).unwrap();
    let found = agreement(&bundle, &texts, &bert.predict(&texts).unwrap()).unwrap();
    assert!(found.most < 1e-4, "{found:?}");
}

#[test]
fn the_graph_computes_what_was_trained() {
    let texts = fixtures::texts(60, 14, 4);
    let encoder = fixtures::encoder(1, false);
    let ids = encoder.token_ids(&texts).unwrap();
    let objective = super::Objective::new(&targets(60), Loss::Score, super::Guides { labels: 0.0, others: 0.0 });
    let options = BertOptions { epochs: 1, batch: 16, learning_rate: 1e-3, ..BertOptions::default() };
    let groups = vec![String::new(); 60];
    let learnt = super::training::train(encoder.weights(), &ids, &objective, &groups, &options, &|_| {});
    let network = super::network::Network::with_head(&learnt.weights, &learnt.head);
    let ground = super::ground::Ground::new(&learnt.weights, 0, &ids);
    let rows: Vec<usize> = (0..ids.len()).collect();
    let shard = super::network::Shard { rows: &rows, ids: ids.iter().map(Vec::as_slice).collect() };
    let trained = network.predict(&ground, &shard);
    let tuned = encoder.with("tuned", learnt.weights, encoder.options()).unwrap();
    let onnx = learnt.head.apply(tuned.embed(&texts, &|_, _| {}).unwrap().view());
    let most = (&trained - &onnx).iter().fold(0.0_f32, |most, error| most.max(error.abs()));
    assert!(most < 1e-4, "{most}");
}

#[test]
fn other_parts_can_stand_on_it() {
    let (bert, texts) = fit(Loss::Score, true);
    let space = WordSpace::fit(&texts, &WordOptions::default());
    let mut views = space.views(&texts);
    views.embedding = Some(bert.embeddings(&texts).unwrap());
    let said = bert.part().predict(&views);
    let error = bert.predict(&texts).unwrap() - &said;
    assert!(error.rows().into_iter().all(|row| (&row - &error.row(0)).iter().all(|error| error.abs() < 1e-5)));
    assert_eq!(bert.part().output_tokens(&views).unwrap().dim(), (texts.len(), 3));
    let bundle = bert.bundle(&experts(), &model::TextRules::default(), serde_json::Value::Null, serde_json::Value::Null).unwrap();
    agreement(&bundle, &texts, &bert.predict(&texts).unwrap()).unwrap();
}

#[test]
fn a_mixture_of_parts_on_words_and_on_the_fine_tuned_encoder_is_exported_as_it_was_trained() {
    let (bert, texts) = fit(Loss::Score, false);
    let space = WordSpace::fit(&texts, &WordOptions::default());
    let views = Views { embedding: Some(bert.embeddings(&texts).unwrap()), ..space.views(&texts) };
    let specs = [PartKind::Trees, PartKind::EmbeddingTrees, PartKind::Bert].map(|kind| kind.with(PartOptions::default()));
    let groups: Vec<String> = (0..texts.len()).map(|row| row.to_string()).collect();
    let mixture = Mixture::fit(&views, &targets(texts.len()), &groups, &specs, &[0.3, 0.3, 0.4], Some(bert.part()));
    assert_eq!(mixture.parts.len(), 3);
    let favour = ndarray::array![0.0, -0.02, -0.01];
    let router = Router { kind: "mixture".into(), experts: experts(), space, meaning: Meaning::Scores, favour, mixture };
    let null = serde_json::Value::Null;
    let bundle = router.bundle(&model::TextRules::default(), Some(bert.encoder()), null.clone(), null).unwrap();
    let found = router.agreement(&bundle, &texts, &views).unwrap();
    assert!(found.mean < 1e-5, "{found:?}");
}
