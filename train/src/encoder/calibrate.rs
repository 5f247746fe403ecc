//! What goes into an encoder's linear layers on real texts: the scales of its 8-bit form come from there.

use std::collections::BTreeMap;

use super::{
    EncoderError,
    graph::{self, Precision},
    quantise::{Quantised, Range, Site},
    run::TokenNetwork,
    weights::Weights,
};
use crate::onnx::{Dimension, Element, GraphBuilder, Value, int, ints};

/// Scales must hold for texts that were not looked at.
const HEADROOM: f32 = 1.05;

/// Texts of many kinds, so that an encoder's scales depend on the encoder only.
pub const TEXTS: &[&str] = &[
    "What is the capital of France?",
    "hello",
    "Write a Python function that merges two sorted lists without using any library.",
    "def fib(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\nWhat does fib(10) return?",
    "A train leaves at 9:40 and arrives at 13:05. How long is the journey in minutes? Explain step by step.",
    "Solve for x: 3x^2 - 12x + 9 = 0. Give both roots as integers.",
    "$\\int_0^1 x^2\\,dx = \\frac{1}{3}$ is true because the antiderivative is $\\frac{x^3}{3}$.",
    "Which of the following is a mammal? (A) shark (B) dolphin (C) trout (D) penguin",
    "A 54-year-old man with hypertension presents with sudden chest pain radiating to the back. Which test comes first?",
    "SELECT name, COUNT(*) FROM orders JOIN customers USING (customer_id) GROUP BY name HAVING COUNT(*) > 3;",
    "Translate into German: The weather is lovely today, isn't it?",
    "Ich habe gestern einen Brief bekommen. Was soll ich antworten?",
    "¿Cuál es la diferencia entre ser y estar?",
    "Pouvez-vous résumer ce texte en trois phrases ?",
    "日本の首都はどこですか。",
    "Сколько планет в Солнечной системе?",
    "Summarise the following meeting notes: the budget was approved, hiring is paused until March, and the launch moves to June.",
    "Write a short poem about the sea at night, with a sad ending.",
    "The court held that the statute was unconstitutional since it restricted speech on the basis of content.",
    "Under what conditions does a competitive market fail to reach an efficient outcome? Name two and give examples.",
    "{\"user\": {\"id\": 1832, \"name\": \"Ada\", \"roles\": [\"admin\", \"editor\"]}, \"active\": true}",
    "Error: cannot borrow `x` as mutable because it is also borrowed as immutable. How do I fix this?",
    "If all bloops are razzies and all razzies are lazzies, are all bloops lazzies? Answer yes or no.",
    "The mitochondrion is the organelle that produces most of a cell's ATP through oxidative phosphorylation.",
    "7 * 8 + 12 / 4 - 3 =",
    "Please rewrite this e-mail so that it sounds more polite: Send me the report now.",
    "Who wrote the novel in which a man turns into an insect, and in what year was it published?",
    "!!! ??? ... ### --- *** (((",
    "A bag holds 4 red, 5 blue and 6 green marbles. Two are drawn without replacement. What is the probability that both are blue?",
    "Compare the causes of the French and the Russian revolutions. Consider economy, ideas, war and the weakness of the state, and end \
     with the one difference that you find most important. Use no more than two hundred words and do not use bullet points.",
    "<html><body><h1>Title</h1><p>Some <b>bold</b> text</p></body></html>",
    "Tom has three times as many apples as Jane. Together they have 48. How many does Tom have?",
];

/// Looks at texts in 32-bit floats and finds the scales for 8-bit integers.
///
/// # Errors
/// ONNX Runtime's complaint.
pub fn calibrate(weights: &Weights, texts: &[Vec<i64>]) -> Result<Quantised, EncoderError> {
    let mut builder = GraphBuilder::new("calibration");
    let encoded = graph::add(&mut builder, weights, Precision::Full);
    let (mut all, mut widths) = (Vec::new(), Vec::new());
    for (site, value) in &encoded.taps {
        let width = if matches!(site, Site::Output(_)) { weights.config.intermediate } else { weights.config.hidden };
        widths.push((*site, width));
        all.extend(["ReduceMin", "ReduceMax"].map(|operator| extreme(&mut builder, operator, value)));
    }
    let total: usize = widths.iter().map(|(_, width)| 2 * width).sum();
    let joined = builder.add_with("Concat", &all.iter().collect::<Vec<_>>(), vec![int("axis", 1)]);
    builder.output("extremes", &joined, Element::F32, &[Dimension::Named("batch"), Dimension::Fixed(total)]);
    let seen = TokenNetwork::load(&builder.to_bytes(), "extremes")?.run_all(texts, &|_| {})?;
    let mut ranges = BTreeMap::new();
    let mut at = 0;
    for (site, width) in widths {
        let fold = |from: usize, pick: fn(f32, f32) -> f32| -> Vec<f32> {
            (from..from + width).map(|column| seen.column(column).iter().copied().fold(0.0, pick) * HEADROOM).collect()
        };
        ranges.insert(site, Range { least: fold(at, f32::min), most: fold(at + width, f32::max) });
        at += 2 * width;
    }
    Ok(Quantised::new(weights, &ranges))
}

/// Over the positions of each text, padding included: it is rounded with the same scales, but never more extreme than it is here.
fn extreme(builder: &mut GraphBuilder, operator: &str, value: &Value) -> Value {
    builder.add_with(operator, &[value], vec![ints("axes", &[1]), int("keepdims", 0)])
}
