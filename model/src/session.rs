//! ONNX Runtime: the library loaded once at run time, sessions made from bytes, a batch of inputs to a matrix of outputs.
