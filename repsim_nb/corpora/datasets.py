"""Stream the first texts or pairs of a dataset on the Hugging Face hub, or the queries and passages of a BEIR set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from repsim_nb.corpora.beir import CORPUS, DEFAULT, JUDGEMENTS, QUERIES, choose_split, of_tables
from repsim_nb.corpora.corpus import Corpus
from repsim_nb.corpora.reading import LABEL, DocumentsRead, Wanted
from repsim_nb.errors import InputError, needs, unknown
from repsim_nb.system.progress import steps

if TYPE_CHECKING:
    from datasets import IterableDataset

HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
MOST = 10_000  # default maximum number of documents: a whole dataset can be huge
AT_ONCE = 2**22  # bytes of a parquet file to read at once, if its row groups are no larger
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
# Only used to suggest the closest name for a misspelt one.
KNOWN = (
    *(f"BeIR/{name}" for name in ("arguana", "fiqa", "nfcorpus", "scidocs", "scifact", "trec-covid")),
    "NeelNanda/pile-10k",
    "NeelNanda/c4-code-tokenized-2b",
    "Salesforce/wikitext",
    "allenai/c4",
    "jhu-cogsci/hans",
    "monology/pile-uncopyrighted",
    "nyu-mll/glue",
    "nyu-mll/multi_nli",
    "roneneldan/TinyStories",
    "stanfordnlp/snli",
)


class HubText(NamedTuple):
    """Documents of a dataset, with the configuration and column that they come from."""

    documents: DocumentsRead
    config: str
    column: str


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the hub at a commit.

    Attributes
    ----------
    name
        Its id, "owner/name".
    revision
        The branch, tag or commit that was asked for; None is the default branch.
    commit
        The commit of it.
    configs
        All its configurations.
    default
        The default one, if there is one.
    """

    name: str
    revision: str | None
    commit: str
    configs: tuple[str, ...]
    default: str | None

    @property
    def has_queries(self) -> bool:
        """Whether it has BEIR's layout."""
        return {CORPUS, QUERIES} <= {*self.configs}


def open_hub(name: str, revision: str | None = None) -> HubDataset:
    """Look a dataset up on the hub; no rows are read.

    Raises
    ------
    InputError
        If the dataset or revision does not exist, or there is no access or network.
    """
    needs(f"The dataset '{name}' of the hub", "datasets", "pyarrow")
    commit = find_commit(name, revision)
    with _named_errors(name, revision):
        configs, default = _configs(name, commit)
    return HubDataset(name, revision, commit, tuple(configs), default)


def read_hub(
    dataset: HubDataset,
    split: str = "all",
    column: str | None = None,
    config: str | None = None,
    limit: int | None = None,
) -> HubText:
    """Read the first documents of a hub dataset, without downloading more than needed.

    Parameters
    ----------
    dataset
        Where to read.
    split
        One of its splits, or "all" for all of them, one after another.
    column
        The column that holds the texts; None takes "text", or pairs.
    config
        One of its configurations, for datasets that have several and no default.
    limit
        Maximum number of documents; None means 10,000.

    Raises
    ------
    InputError
        If the configuration, split or column does not exist, the connection breaks, or it contains no text.
    """
    name = dataset.name
    with _named_errors(name, dataset.revision):
        config = _chosen(config, dataset)
        streams = _streams(name, config, dataset.commit)
        if split != "all" and split not in streams:
            raise unknown("split", split, streams, f"'{name}' has: {', '.join(streams)}.")
        documents, wanted, most = DocumentsRead.none(), None, MOST if limit is None else limit
        for each in streams if split == "all" else [split]:
            if len(documents.texts) < most:
                wanted = wanted or Wanted.of(_columns(streams[each]), column, _label_names(streams[each]))
                rows = streams[each].select_columns(list(wanted.columns))
                wanted.read(steps(rows, name, "row"), documents, most, f"{name}:{each}")
    if not documents.texts or wanted is None:
        raise InputError(f"The dataset '{name}' contains no text: all {documents.seen:,} rows are empty.")
    return HubText(documents, config, wanted.column or wanted.kind)


def read_hub_queries(dataset: HubDataset, split: str | None, limit: int | None) -> Corpus:
    """Read queries, passages and judgements of a dataset in BEIR's layout.

    Raises
    ------
    InputError
        If the split does not exist, the judgements do not fit, or the connection breaks.
    """
    name, commit = dataset.name, dataset.commit
    source = {"hub": name, "commit": commit}
    judged, at = name, commit
    if DEFAULT not in dataset.configs:
        judged = f"{name}-{JUDGEMENTS}"
        at = find_commit(judged)
        source |= {"judgements": judged, "judgements_commit": at}
    with _named_errors(name, dataset.revision):
        judgements = _streams(judged, DEFAULT, at)
        chosen = choose_split(judged, split, judgements)
        passages, queries = (_rows(_streams(name, table, commit), name) for table in (CORPUS, QUERIES))
        return of_tables(name, chosen, passages, queries, judgements[chosen], limit, source)


def _rows(streams: Mapping[str, Iterable[Any]], name: str) -> Iterator[Any]:
    """The rows of all splits, one after another."""
    for rows in streams.values():
        yield from steps(rows, name, "row")


@contextmanager
def _named_errors(name: str, revision: str | None) -> Iterator[None]:
    """Raise every error as an InputError with the name of the dataset."""
    try:
        yield
    except InputError as error:
        raise InputError(f"The dataset '{name}': {error}") from None
    except Exception as error:  # the libraries below raise their own errors, which change between versions
        raise InputError(f"Cannot read the dataset '{name}': {_reason(name, revision, error)}") from None


def find_commit(name: str, revision: str | None = None) -> str:
    """The commit of a dataset on the hub; nothing is downloaded.

    Raises
    ------
    InputError
        If the dataset or revision does not exist, or there is no access or network.
    """
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(name, revision=revision).sha or "unknown"
        HfApi().auth_check(name, repo_type="dataset")  # dataset_info succeeds for gated datasets too
        return commit
    except Exception as error:
        raise InputError(f"Cannot read the dataset '{name}': {_reason(name, revision, error)}") from None


def _configs(name: str, commit: str) -> tuple[list[str], str | None]:
    """All configurations and the default one."""
    from datasets import get_dataset_config_names, get_dataset_default_config_name

    return get_dataset_config_names(name, revision=commit), get_dataset_default_config_name(name, revision=commit)


def _chosen(config: str | None, dataset: HubDataset) -> str:
    there = dataset.configs
    if config is None and dataset.default is not None:
        return dataset.default
    if config is None:
        raise InputError(f"It has several configurations: {', '.join(there)}. Choose one: config=...")
    if config not in there:
        raise unknown("configuration", config, there, f"Available: {', '.join(there)}.")
    return config


def _streams(name: str, config: str, commit: str) -> dict[str, IterableDataset]:
    import pyarrow as pa
    import pyarrow.dataset
    from datasets import load_dataset_builder

    builder = load_dataset_builder(name, config, revision=commit)
    if hasattr(builder.config, "fragment_scan_options"):  # for parquet, which reads 32 MiB at once by default
        cache = pa.CacheOptions(range_size_limit=AT_ONCE)
        builder.config.fragment_scan_options = pyarrow.dataset.ParquetFragmentScanOptions(cache_options=cache)
    return dict(builder.as_streaming_dataset())


def _columns(stream: IterableDataset) -> list[str]:
    """Column names from the dataset, or from its first row if it does not declare them (JSON lines)."""
    return stream.column_names or list(next(iter(stream), {}))


def _label_names(stream: IterableDataset) -> list[str] | None:
    return getattr((stream.features or {}).get(LABEL), "names", None)


def _reason(name: str, revision: str | None, error: Exception) -> str:
    """The reason in one line, taken from the hub's error that the libraries wrap."""
    from httpx import TransportError
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/datasets/{name}"
    for cause in _causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(cause, errors.GatedRepoError):
            return f"it is gated. Ask for access at {page}, then {LOG_IN}."
        if isinstance(cause, errors.RepositoryNotFoundError):
            near = get_close_matches(name, KNOWN, n=1, cutoff=0.7)
            advice = f" Did you mean {near[0]!r}?" if near else ""
            return f"the hub has no such dataset, or it is private.{advice} Check the name; if it is private, {LOG_IN}."
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"it has no revision {revision!r}. See {page}/tree/main for its branches, tags and commits."
        if status == 401:
            return f"the hub does not accept your token. To replace it, {LOG_IN}."
        if isinstance(cause, ConnectionError | errors.OfflineModeIsEnabled | TransportError):
            return (
                f"{constants.ENDPOINT} cannot be reached, or the connection broke. Check the connection, and that "
                "HF_HUB_OFFLINE is not set. (A local file or folder of this name does not exist either.)"
            )
        if isinstance(cause, FileNotFoundError) and status is None and cause is error:
            return f"it contains no data files (parquet, JSON lines, CSV or text). See {page}/tree/main."
    return " ".join(str(error).split()) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
