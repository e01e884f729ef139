"""Models as files: the archive of an estimator, and ONNX."""
