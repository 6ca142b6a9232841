"""Texts, or labelled pairs of texts, from the parquet files of a dataset on the Hugging Face hub: the first of them."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from repsim_nb.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MOST = 10_000  # documents; a sample is enough, and the whole Pile is not
TEXT = "text"
PAIR = ("premise", "hypothesis")
LABEL = "label"
CASE = ("heuristic", "label", "subcase")  # as HANS has them


class HubText(NamedTuple):
    """Documents and what they are of; fields as in `Corpus`."""

    texts: list[str]
    commit: str
    second_texts: list[str] | None = None
    labels: list[str] | None = None
    cases: list[str] | None = None


def read_hub(name: str, split: str = "all") -> HubText:
    """The first documents of the dataset `name`: its texts without the empty ones, or its labelled pairs.

    Args:
        split: "all", or how the names of its files begin, as "validation" in validation-00000-of-00001.parquet.

    Raises:
        InputError: no such dataset or split, no access, no network, no parquet file or no column that is known.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi, hf_hub_download

    try:
        about = HfApi().dataset_info(name)
        files = sorted(f.rfilename for f in about.siblings or [] if f.rfilename.endswith(".parquet"))
        frames, found = [], 0
        for file in _of_split(files, split):
            if found >= MOST:
                break
            frames.append(_read(hf_hub_download(name, file, repo_type="dataset", revision=about.sha)))
            found += len(frames[-1])
    except (OSError, ValueError, HTTPError) as error:
        raise InputError(
            f"Cannot read the dataset '{name}' from the hub: {str(error).splitlines()[0]} "
            "(A local file or folder of this name does not exist either.)"
        ) from error
    if not found:
        raise InputError(
            f"The dataset '{name}' has no parquet file with texts; expected a column {TEXT!r}, or {PAIR[0]!r} and "
            f"{PAIR[1]!r} with a {LABEL!r}, and rows in it."
        )
    return _gathered(frames, about.sha or "unknown")


def _of_split(files: list[str], split: str) -> list[str]:
    if split == "all" or not files:
        return files
    splits = {file: PurePosixPath(file).stem.split("-")[0] for file in files}
    if split not in splits.values():
        raise unknown("split", split, set(splits.values()))
    return [file for file in files if splits[file] == split]


def _read(path: str) -> pd.DataFrame:
    """The columns that are known, the label by its name; rows that lack one left out."""
    import pandas as pd
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    if TEXT in schema.names:
        texts = pd.read_parquet(path, columns=[TEXT])
        return texts[texts[TEXT].map(lambda t: isinstance(t, str) and bool(t.strip()))]
    if not {*PAIR, LABEL} <= set(schema.names):
        return pd.DataFrame()
    pairs = pd.read_parquet(path, columns=[c for c in (*PAIR, *dict.fromkeys(CASE)) if c in schema.names])
    pairs = pairs.dropna()
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    names = described.get("info", {}).get("features", {}).get(LABEL, {}).get("names")
    if names:
        pairs = pairs[pairs[LABEL] >= 0]  # -1 is no label
        return pairs.assign(**{LABEL: [names[int(i)] for i in pairs[LABEL]]})
    if not pairs[LABEL].map(lambda label: isinstance(label, str)).all():
        raise InputError("its labels are numbers, and the file does not say what they stand for.")
    return pairs


def _gathered(frames: list[pd.DataFrame], commit: str) -> HubText:
    import pandas as pd

    table = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)[:MOST]
    if TEXT in table:
        return HubText(table[TEXT].tolist(), commit)
    cases = ["/".join(row) for row in table[[*CASE]].itertuples(index=False)] if {*CASE} <= set(table) else None
    return HubText(table[PAIR[0]].tolist(), commit, table[PAIR[1]].tolist(), table[LABEL].tolist(), cases)
