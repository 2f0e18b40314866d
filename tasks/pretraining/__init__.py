"""Vision-and-language pre-training: a sentence and a picture in, masked parts of both out."""
