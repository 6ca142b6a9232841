"""What embedding models retrieve, and how much two of them agree.

Lists of ranked ids come from `search`, or from elsewhere as a table or a mapping. `overlap` compares two models query
by query, `relevance` scores one model against judgements, `summary` averages either over queries with an interval.
"""

from repsim_nb.retrieval.agreement import exchange_test, overlap
from repsim_nb.retrieval.differences import most_different
from repsim_nb.retrieval.lists import RankedLists, read_lists
from repsim_nb.retrieval.query_means import summary
from repsim_nb.retrieval.relevance import relevance
from repsim_nb.retrieval.search import search

__all__ = ["RankedLists", "exchange_test", "most_different", "overlap", "read_lists", "relevance", "search", "summary"]
