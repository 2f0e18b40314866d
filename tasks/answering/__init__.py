"""Visual question answering: a question about a picture, or a sentence about a pair, in; an answer out."""
