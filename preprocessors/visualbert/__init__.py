"""VisualBERT's inputs: texts and regions of VQA, NLVR2, COCO captions and VCR to tensors.

The rules are those of the original (uclanlp/visualbert). What it does by mistake is an option called "published" beside
the mended rule, where released weights or numbers were made with it.
"""
