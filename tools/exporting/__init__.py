"""From a trained model to a folder that runs without this project: ONNX files, a card and a short script."""
