"""What a notebook downloads is looked for first, so that a missing repository is known before gigabytes are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from repsim_nb.errors import InputError


def check_sources(
    models: Mapping[str, str | Sequence[str]] | None = None, corpora: Mapping[str, str | Sequence[str]] | None = None
) -> None:
    """Check that the models and corpora of a notebook exist, with little more than their names downloaded.

    Call this in the cell that settles the parameters.

    Parameters
    ----------
    models
        Parameter of the notebook -> the models that it names: for those on the hub, config.json is downloaded.
    corpora
        Parameter of the notebook -> the corpora that it names: for those on the hub, nothing is downloaded.

    Raises
    ------
    InputError
        If one does not exist, has been renamed or cannot be reached. The message names it and the parameter to change.

    Examples
    --------
    >>> check_sources(models={"model_a": "tiny-neox-w32-d2"}, corpora={"corpus": "python-docs"})
    >>> check_sources(corpora={"corpus": "python-doc"})
    Traceback (most recent call last):
        ...
    repsim_nb.errors.InputError: Unknown corpus 'python-doc'. Did you mean 'python-docs'? Or pass the path of a text \
file or folder. To use another, set the parameter corpus of this notebook.
    """
    from repsim_nb.models.loading import find_model

    wanted: list[tuple[Mapping[str, str | Sequence[str]], Callable[[str], None]]]
    wanted = [(models or {}, find_model), (corpora or {}, _find_corpus)]
    for given, find in wanted:
        for parameter, names in given.items():
            for name in _each(names):
                try:
                    find(name)
                except (InputError, FileNotFoundError) as error:
                    advice = f"To use another, set the parameter {parameter} of this notebook."
                    raise InputError(f"{error} {advice}") from None


def _find_corpus(name: str) -> None:
    from repsim_nb.corpora import load_corpus
    from repsim_nb.corpora.datasets import find_commit
    from repsim_nb.corpora.named import NAMED
    from repsim_nb.corpora.opening import hub_id

    if name in NAMED:  # always there, but making it takes long
        return
    if hub := hub_id(name):
        repository, _, revision = hub.partition("@")
        find_commit(repository, revision or None)
    else:
        load_corpus(name, limit=1)


def _each(names: str | Sequence[str]) -> Iterator[str]:
    yield from [names] if isinstance(names, str) else names
