"""What two embedding models retrieve in common.

The share of the top k that stays when one is swapped for the other; dotted: lists drawn at random.
"""

import repsim_nb as rs
from repsim_nb.retrieval import chance, overlap, retrieve, summary

corpus = rs.load_corpus("docstrings")
depths = (1, 3, 10)
a, b = (retrieve(f"tiny-embed-{name}-contrastive-s0", corpus, k=10) for name in ("w48-d3", "w40-d4"))
ax = rs.figures.agreement_curves(
    {"two trunks": summary(overlap(a, b, k=depths))}, chance=chance(len(corpus.texts), depths)
)
