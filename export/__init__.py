"""The exporting floor: a Keras model in, one quantised, self-describing TFLite file out."""
