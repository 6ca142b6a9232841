"""Text from a dataset on the Hugging Face hub: the column "text" of its parquet files, the first documents of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from repsim_nb.errors import InputError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MOST = 10_000  # documents; a sample is enough, and the whole Pile is not
COLUMN = "text"


class HubText(NamedTuple):
    """Texts and what they are of."""

    texts: list[str]
    commit: str


def read_hub(name: str) -> HubText:
    """The first texts of the dataset `name`, empty ones left out.

    Raises:
        InputError: no such dataset, no access, no network, no parquet file or no column "text".
    """
    import pandas as pd
    from httpx import HTTPError
    from huggingface_hub import HfApi, hf_hub_download

    try:
        about = HfApi().dataset_info(name)
        files = sorted(f.rfilename for f in about.siblings or [] if f.rfilename.endswith(".parquet"))
        texts: list[str] = []
        for file in files:
            if len(texts) >= MOST:
                break
            path = hf_hub_download(name, file, repo_type="dataset", revision=about.sha)
            texts += [t for t in pd.read_parquet(path, columns=[COLUMN])[COLUMN] if isinstance(t, str) and t.strip()]
    except (OSError, ValueError, HTTPError) as error:
        raise InputError(
            f"Cannot read the dataset '{name}' from the hub: {str(error).splitlines()[0]} "
            "(A local file or folder of this name does not exist either.)"
        ) from error
    if not texts:
        raise InputError(f"The dataset '{name}' has no parquet file with texts; expected a column {COLUMN!r}.")
    return HubText(texts[:MOST], about.sha or "unknown")
