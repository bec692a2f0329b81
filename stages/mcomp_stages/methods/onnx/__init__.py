"""Writing ONNX files: how graphs become ONNX operators, and what the file keeps."""
