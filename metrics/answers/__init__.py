"""Scores of answers, as the official evaluators of VQA v2, GQA, NLVR, NLVR2 and CLEVR compute them, and calibration."""
