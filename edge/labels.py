"""The names of facial expressions, in the one order that dataset, model and events share."""

FER2013_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's seven classes; the position is the CSV's `emotion` number (Goodfellow et al. 2013)."""

UNCERTAIN = "uncertain"
"""Published instead of a label when no score is high enough. Never a class of a model."""
