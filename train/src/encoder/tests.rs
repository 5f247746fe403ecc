//! The graph against a second writing of the same network, plain loops over plain numbers; and the real encoder against what is known of it.

use ndarray::{Array2, ArrayView1};

use super::{
    Encoder, EncoderOptions, TokenNetwork,
    weights::{WORDS, Weights, fixtures, layer_prefix},
};

/// The mean of the last layer's tokens, of length 1, computed as the encoder's definition reads.
fn by_hand(weights: &Weights, ids: &[i64]) -> Vec<f64> {
    let config = weights.config;
    let get = |name: &str| weights.values(name).iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let linear = |x: &[Vec<f64>], name: &str| -> Vec<Vec<f64>> {
        let (weight, bias) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        let out = |row: &Vec<f64>| {
            let sum =
                |to: usize| row.iter().enumerate().map(|(from, value)| value * weight[from * bias.len() + to]).sum::<f64>() + bias[to];
            (0..bias.len()).map(sum).collect()
        };
        x.iter().map(out).collect()
    };
    let normalise = |x: Vec<Vec<f64>>, name: &str| -> Vec<Vec<f64>> {
        let (weight, bias) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        x.into_iter()
            .map(|row| {
                let mean = row.iter().sum::<f64>() / row.len() as f64;
                let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / row.len() as f64;
                let scale = 1.0 / (variance + config.epsilon).sqrt();
                row.iter().enumerate().map(|(at, value)| (value - mean) * scale * weight[at] + bias[at]).collect()
            })
            .collect()
    };
    let plus = |x: Vec<Vec<f64>>, y: &[Vec<f64>]| -> Vec<Vec<f64>> {
        x.iter().zip(y).map(|(x, y)| x.iter().zip(y).map(|(x, y)| x + y).collect()).collect()
    };
    let (words, positions) = (get(WORDS), get("embeddings.position_embeddings.weight"));
    let kinds = get("embeddings.token_type_embeddings.weight");
    let start = |(at, id): (usize, &i64)| {
        (0..config.hidden)
            .map(|column| words[*id as usize * config.hidden + column] + positions[at * config.hidden + column] + kinds[column])
            .collect()
    };
    let mut x = normalise(ids.iter().enumerate().map(start).collect(), "embeddings.LayerNorm");
    let width = config.hidden / config.heads;
    for layer in 0..config.layers {
        let prefix = layer_prefix(layer);
        let [query, key, value] = ["query", "key", "value"].map(|part| linear(&x, &format!("{prefix}.attention.self.{part}")));
        let mut context = vec![vec![0.0; config.hidden]; x.len()];
        for head in 0..config.heads {
            let columns = head * width..(head + 1) * width;
            for (at, context) in context.iter_mut().enumerate() {
                let score = |other: usize| {
                    columns.clone().map(|column| query[at][column] * key[other][column]).sum::<f64>() / (width as f64).sqrt()
                };
                let scores: Vec<f64> = (0..x.len()).map(|other| score(other).exp()).collect();
                let total: f64 = scores.iter().sum();
                for column in columns.clone() {
                    context[column] = (0..x.len()).map(|other| scores[other] / total * value[other][column]).sum();
                }
            }
        }
        let output = linear(&context, &format!("{prefix}.attention.output.dense"));
        x = normalise(plus(output, &x), &format!("{prefix}.attention.output.LayerNorm"));
        let mut inner = linear(&x, &format!("{prefix}.intermediate.dense"));
        for value in inner.iter_mut().flatten() {
            *value *= 0.5 * (1.0 + erf(*value / std::f64::consts::SQRT_2));
        }
        let output = linear(&inner, &format!("{prefix}.output.dense"));
        x = normalise(plus(output, &x), &format!("{prefix}.output.LayerNorm"));
    }
    let mean: Vec<f64> = (0..config.hidden).map(|column| x.iter().map(|row| row[column]).sum::<f64>() / x.len() as f64).collect();
    let length = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
    mean.iter().map(|value| value / length).collect()
}

/// By its series, which converges everywhere.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn cosine(one: ArrayView1<'_, f32>, other: ArrayView1<'_, f32>) -> f32 {
    one.dot(&other) / (one.dot(&one) * other.dot(&other)).sqrt()
}

fn embedded(encoder: &Encoder, texts: &[String]) -> Array2<f32> {
    let ids = encoder.token_ids(texts).unwrap();
    TokenNetwork::load(&encoder.bytes(), "embedding").unwrap().run_all(&ids, &|_| {}).unwrap()
}

#[test]
fn embeddings_are_those_of_the_definition_whatever_runs_together() {
    let encoder = fixtures::encoder(3, false);
    // Short and long ones, so that padding is masked.
    let texts = fixtures::texts(40, 30, 1);
    let ids = encoder.token_ids(&texts).unwrap();
    assert!(ids.iter().any(|ids| ids.len() == 20) && ids.iter().any(|ids| ids.len() < 5));
    for (found, ids) in embedded(&encoder, &texts).rows().into_iter().zip(&ids) {
        let expected = by_hand(encoder.weights(), ids);
        let error = found.iter().zip(&expected).map(|(found, expected)| (f64::from(*found) - expected).abs()).fold(0.0, f64::max);
        assert!(error < 1e-5, "{error}");
    }
}

#[test]
fn integers_say_nearly_the_same_and_do_not_depend_on_company() {
    let (full, integers) = (fixtures::encoder(3, false), fixtures::encoder(3, true));
    let texts = fixtures::texts(60, 18, 2);
    let together = embedded(&integers, &texts);
    for (one, other) in embedded(&full, &texts).rows().into_iter().zip(together.rows()) {
        assert!(cosine(one, other) > 0.99, "{}", cosine(one, other));
    }
    for (text, row) in texts.iter().zip(together.rows()).take(8) {
        let alone = embedded(&integers, std::slice::from_ref(text));
        assert!((&alone.row(0) - &row).iter().all(|error| error.abs() < 1e-5), "{text}");
    }
}

#[test]
fn ids_that_the_table_lacks_are_refused() {
    let weights = fixtures::tiny(1);
    let json = String::from_utf8(fixtures::tokenizer()).unwrap().replace(r#""w59":59"#, r#""w59":60"#);
    let options = EncoderOptions { max_tokens: 20, head_percent: 50, int8: false };
    let encoder = Encoder::new("tiny".into(), weights, json.into_bytes(), std::path::Path::new("tokenizer.json"), options).unwrap();
    assert!(encoder.token_ids(&["w58".into()]).is_ok());
    let error = encoder.token_ids(&["w58 w59".into()]).unwrap_err().to_string();
    assert!(error.contains("gives 60") && error.contains("knows 60 tokens only"), "{error}");
}

/// The published encoder, from the user's cache folder.
fn real(int8: bool) -> Encoder {
    let folder = parts::encoder().unwrap_or_else(|missing| panic!("{missing}"));
    Encoder::open(&folder, EncoderOptions { max_tokens: 64, head_percent: 50, int8 }).unwrap()
}

#[test]
fn the_published_encoder_finds_what_its_authors_implementation_finds() {
    let texts = [
        "How do I sort a list in Python?",
        "What is the way to order an array in Python?",
        "Write a poem about the sea.",
        "What is the capital of France?",
    ]
    .map(str::to_owned);
    let encoder = real(false);
    let found = embedded(&encoder, &texts);
    // Against the definition: the network is the published one, and the graph computes it.
    for (row, ids) in found.rows().into_iter().zip(encoder.token_ids(&texts[..2]).unwrap()) {
        let expected: Vec<f32> = by_hand(encoder.weights(), &ids).into_iter().map(|value| value as f32).collect();
        assert!(cosine(row, ArrayView1::from(&expected)) > 0.99999);
    }
    assert_eq!(encoder.token_ids(&texts[3..]).unwrap()[0], [101, 2054, 2003, 1996, 3007, 1997, 2605, 1029, 102]);
    let alike = |one: usize, other: usize| cosine(found.row(one), found.row(other));
    assert!(alike(0, 1) > 0.6 && alike(0, 2) < 0.2 && alike(1, 3) < 0.2, "{} {} {}", alike(0, 1), alike(0, 2), alike(1, 3));
    // And its 8-bit form stays near.
    for (one, other) in found.rows().into_iter().zip(embedded(&real(true), &texts).rows()) {
        assert!(cosine(one, other) > 0.97, "{}", cosine(one, other));
    }
}
