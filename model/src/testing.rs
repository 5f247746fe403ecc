//! Bundles for tests: graphs small enough to work out by hand, and a tokenizer of a few words.
//!
//! Every graph sums, over the words or tokens of a text, a row of [`TABLE`] for each: what comes out can be computed in the test.

mod onnx;

use serde_json::json;

use crate::{
    Bundle, Manifest, TextRules,
    bundle::{ExpertEntry, FORMAT_VERSION, Input, Output},
    lexical::{HASH_VERSION, HashRules},
};
pub(crate) use onnx::Graph;

/// Rows for token ids 0 to 7, a column for each of two experts.
pub(crate) const TABLE: [[f32; 2]; 8] =
    [[0.0, 0.0], [0.5, 0.25], [0.125, 1.0], [2.0, -1.0], [-0.5, 3.0], [4.0, 0.0], [0.0, 8.0], [16.0, -16.0]];

/// Words the tokenizer knows, by id; 0 pads, 1 is any other word, 2 and 3 stand around every text.
const WORDS: [&str; 8] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "four"];

/// What the token graph gives for these ids.
pub(crate) fn sum_of(ids: &[usize]) -> Vec<f32> {
    (0..2).map(|column| ids.iter().map(|id| TABLE[*id][column]).sum()).collect()
}

/// Of two experts that differ in everything.
pub(crate) fn manifest(inputs: Vec<Input>, output: Output) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        router: "mlp".into(),
        experts: vec![
            ExpertEntry { name: "coder".into(), mean_score: Some(0.75), mean_output_tokens: Some(120.0), mean_seconds: Some(2.5) },
            ExpertEntry { name: "writer".into(), mean_score: None, mean_output_tokens: None, mean_seconds: None },
        ],
        output,
        text: TextRules::default(),
        inputs,
        encoder: None,
        files: std::collections::BTreeMap::new(),
        training: json!({"seed": 7}),
        evaluation: json!(null),
    }
}

pub(crate) fn token_inputs(max_tokens: usize) -> Vec<Input> {
    vec![Input::InputIds { name: "input_ids".into(), max_tokens }, Input::AttentionMask { name: "attention_mask".into() }]
}

/// Reads tokens.
pub(crate) fn token_bundle() -> Bundle {
    Bundle::assemble(manifest(token_inputs(16), Output::Scores), Graph::of_tokens("scores").bytes(), Some(tokenizer())).unwrap()
}

/// Reads words, of which only those with a hash in `rows` count; all where it is empty.
pub(crate) fn lexical_bundle(rows: Vec<u32>) -> Bundle {
    let hash = HashRules { version: HASH_VERSION, bits: 8, rows, ngrams: 1 };
    let width = hash.row_count();
    let inputs = vec![Input::LexicalIds { name: "lexical_ids".into(), hash }, Input::LexicalWeights { name: "lexical_weights".into() }];
    Bundle::assemble(manifest(inputs, Output::Scores), Graph::of_words(width).bytes(), None).unwrap()
}

/// `tokenizer.json` of whole words. It asks for padding and truncation, as files in the wild do: nobody here may heed it.
pub(crate) fn tokenizer() -> Vec<u8> {
    let vocabulary: serde_json::Map<_, _> = WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let special = |word: &str, id: u32| {
        json!({"id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
    };
    let piece = |word: &str| json!({"SpecialToken": {"id": word, "type_id": 0}});
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let names = |word: &str, id: u32| json!({"id": word, "ids": [id], "tokens": [word]});
    let json = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special("[PAD]", 0), special("[UNK]", 1), special("[CLS]", 2), special("[SEP]", 3)],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("[CLS]"), sequence("A"), piece("[SEP]")],
            "pair": [piece("[CLS]"), sequence("A"), piece("[SEP]"), sequence("B"), piece("[SEP]")],
            "special_tokens": {"[CLS]": names("[CLS]", 2), "[SEP]": names("[SEP]", 3)},
        },
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    json.to_string().into_bytes()
}
