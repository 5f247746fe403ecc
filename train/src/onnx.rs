//! Writes ONNX graphs: the few protobuf messages of the format, declared by hand, and a builder over them.
