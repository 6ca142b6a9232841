"""What embedding models retrieve, and how much two of them agree.

`retrieve` makes ranked lists of ids with a model, `bm25` with words alone; lists from elsewhere come as a table or a
mapping. `overlap` compares two models query by query, `relevance` scores one against judgements, `summary` averages
either over queries with an interval. `embed`, `search` and `users` are the parts of `retrieve`, for vectors and users.
"""

from repsim_nb.retrieval.agreement import exchange_test, overlap
from repsim_nb.retrieval.bm25 import bm25
from repsim_nb.retrieval.chance import chance
from repsim_nb.retrieval.differences import most_different
from repsim_nb.retrieval.lists import RankedLists, read_lists
from repsim_nb.retrieval.pairwise import pairwise
from repsim_nb.retrieval.query_means import summary
from repsim_nb.retrieval.relevance import relevance
from repsim_nb.retrieval.retrieving import memory_of_retrieval, queries_of, retrieve
from repsim_nb.retrieval.search import search
from repsim_nb.retrieval.users import users
from repsim_nb.retrieval.vectors import embed

__all__ = [
    "RankedLists",
    "bm25",
    "chance",
    "embed",
    "exchange_test",
    "memory_of_retrieval",
    "most_different",
    "overlap",
    "pairwise",
    "queries_of",
    "read_lists",
    "relevance",
    "retrieve",
    "search",
    "summary",
    "users",
]
