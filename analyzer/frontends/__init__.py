"""Readers that turn ONNX files and torch modules into graphs."""
