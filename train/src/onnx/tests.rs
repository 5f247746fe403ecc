//! The builder's files read back; what ONNX Runtime makes of them is tested where graphs are run.

use prost::Message;

use super::{Constant, Dimension, Element, GraphBuilder, Value, float, floats, int, ints, messages, string, strings, tensor};

fn decoded(builder: &GraphBuilder) -> messages::Model {
    messages::Model::decode(&builder.to_bytes()[..]).unwrap()
}

#[test]
fn a_file_has_its_inputs_outputs_constants_and_nodes() {
    let mut builder = GraphBuilder::new("head");
    let x = builder.input("x", Element::F32, &[Dimension::Named("batch"), Dimension::Fixed(2)]);
    let weight = builder.constant("weight", Constant::f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let bias = builder.constant("bias", Constant::f16(&[3], &[0.5, 1.5, 2.5]));
    let bias = builder.cast(&bias, Element::F32);
    let y = builder.linear(&x, &weight, &bias);
    builder.output("scores", &y, Element::F32, &[Dimension::Named("batch"), Dimension::Fixed(3)]);
    let graph = decoded(&builder).graph.unwrap();
    assert_eq!(graph.node.iter().map(|node| node.op_type.as_str()).collect::<Vec<_>>(), ["Cast", "MatMul", "Add", "Identity"]);
    assert_eq!(graph.node[1].input, ["x", "weight"]);
    assert_eq!(graph.node[3].output, ["scores"]);
    assert_eq!(graph.initializer[0].dims, [2, 3]);
    assert_eq!(graph.initializer[1].raw_data, [0x00, 0x38, 0x00, 0x3e, 0x00, 0x41], "1.5 is 0x3e00");
    assert_eq!(builder.constant_bytes(), 24 + 6);
    let shape = graph.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
    assert_eq!(shape.dim[0].dim_param.as_deref(), Some("batch"));
    assert_eq!(shape.dim[1].dim_value, Some(2));
}

#[test]
fn scalars_have_no_dimensions_and_are_kept_once() {
    let mut builder = GraphBuilder::new("scalars");
    let zero = builder.integer(0);
    assert_eq!(builder.integer(0), zero);
    assert_ne!(builder.integers(&[0]), zero);
    assert_ne!(builder.scalar(0.0), zero);
    let graph = decoded(&builder).graph.unwrap();
    let dims: Vec<_> = graph.initializer.iter().map(|tensor| tensor.dims.clone()).collect();
    assert_eq!(dims, [vec![], vec![1], vec![]]);
}

#[test]
fn every_kind_of_attribute_is_marked_and_zero_is_written() {
    let attributes = vec![
        float("f", 0.0),
        int("i", 0),
        string("s", "SUM"),
        tensor("t", Constant::i32(&[1], &[7])),
        floats("fs", &[0.0, 1.5]),
        ints("is", &[0, -1]),
        strings("ss", &["LEAF", ""]),
    ];
    let mut builder = GraphBuilder::new("attributes");
    let x = builder.input("x", Element::F32, &[]);
    let outputs = builder.add_many("ai.onnx.ml.TreeEnsembleRegressor", &[&x, &Value::absent()], attributes.clone(), 2);
    assert_ne!(outputs[0], outputs[1]);
    let model = decoded(&builder);
    let node = &model.graph.unwrap().node[0];
    assert_eq!(node.attribute, attributes);
    assert_eq!(node.attribute.iter().map(|attribute| attribute.kind).collect::<Vec<_>>(), [1, 2, 3, 4, 6, 7, 8]);
    assert_eq!((node.attribute[0].f, node.attribute[1].i), (Some(0.0), Some(0)));
    assert_eq!(node.input, ["x", ""]);
    assert_eq!((node.domain.as_str(), node.op_type.as_str()), ("ai.onnx.ml", "TreeEnsembleRegressor"));
    let sets: Vec<_> = model.opset_import.iter().map(|set| (set.domain.as_str(), set.version)).collect();
    assert_eq!(sets, [("", 17), ("ai.onnx.ml", 3)]);
}

#[test]
fn names_are_unique_whatever_is_asked_for() {
    let mut builder = GraphBuilder::new("names");
    let names: Vec<String> =
        ["w", "w", "w_1", "w", "w_2"].iter().map(|name| builder.constant(name, Constant::u8(&[], &[1])).name().to_owned()).collect();
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
}

#[test]
fn parts_share_an_input_of_the_same_type() {
    let mut builder = GraphBuilder::new("shared");
    let shape = [Dimension::Named("batch"), Dimension::Named("sequence")];
    assert_eq!(builder.input("input_ids", Element::I64, &shape), builder.input("input_ids", Element::I64, &shape));
    assert_eq!(decoded(&builder).graph.unwrap().input.len(), 1);
}

#[test]
#[should_panic(expected = "declared twice")]
fn an_input_of_two_types_is_refused() {
    let mut builder = GraphBuilder::new("shared");
    builder.input("x", Element::I64, &[]);
    builder.input("x", Element::F32, &[]);
}

#[test]
#[should_panic(expected = "number of values")]
fn a_constant_of_the_wrong_size_is_refused() {
    let _ = Constant::i8(&[2, 2], &[1, 2, 3]);
}
