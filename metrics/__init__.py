"""Metrics of captions: tokens, BLEU, ROUGE-L, CIDEr, METEOR and SPICE, as COCO's evaluation computes them."""
