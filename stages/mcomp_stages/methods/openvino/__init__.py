"""From ONNX files to the intermediate representation of OpenVINO."""
