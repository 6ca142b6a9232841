"""Compare every model of a population with every other, under several measures and in several texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations, Sampling, Store
from repsim_nb.activations.in_turn import InTurn, in_turn
from repsim_nb.activations.store import as_store
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.population.budget import CHEAP, check_room, chosen_measures, expected
from repsim_nb.comparison.population.chosen_layers import LayerChoice
from repsim_nb.comparison.population.exchanged import Exchange
from repsim_nb.comparison.population.found_again import find_again, keep, key_of
from repsim_nb.comparison.population.labels import Text, labelled_pairs, units_of
from repsim_nb.comparison.population.members import (
    Member,
    check_equal_rows,
    check_names,
    matched,
    with_controls,
)
from repsim_nb.comparison.population.roster import Roster
from repsim_nb.comparison.population.squares import Found, Unit, finished
from repsim_nb.comparison.rows import Rows, check_sampled
from repsim_nb.errors import InputError, check_effect, named_arguments
from repsim_nb.measures import Measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Packing
from repsim_nb.system.executor import mapped
from repsim_nb.system.memory import readable_size
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Documents, Uncertainty

if TYPE_CHECKING:
    import xarray as xr

    from repsim_nb.corpora import Corpus

SCRATCH_LIMIT = 10**15  # bytes: a temporary store evicts nothing


@named_arguments(as_parameter)
def compare_models(
    models: Sequence[Any] | Mapping[str, Any],
    measures: str | Measure | Sequence[str | Measure] = CHEAP,
    corpora: Corpus | str | Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    layers: str | int | Sequence[int] = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    null: str | int | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    between_documents: bool = False,
    leave_out_first: int = 0,
    leave_out_norms: float | None = None,
    standardize: bool = False,
    remove_components: int = 0,
    store: Store | str | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
    executor: Executor | None = None,
) -> xr.Dataset:
    """Compute the dissimilarity of all pairs of models under several measures, on the same rows.

    One model is in memory at a time, and its activations go to disk. They are read back layer by layer.

    Parameters
    ----------
    models
        At least two, as a list or by name. Each is a model or its name (anything that `load_model` takes, of any depth,
        width, kind and tokenizer); activations, which `extract` returned; or arrays, a mapping layer -> (n_rows, d)
        or a single one, which becomes layer 0. Arrays can stand beside models if rows are documents (rows="mean",
        "last" or "cls") and each array has one row per document of the corpus, in its order: embeddings from an API,
        for example. With several corpora, by name, these are given as {corpus: array}. Activations can stand beside
        models if their rows are the same.
    measures
        One or more names from `list_measures()` or configured measures. The default is the ten of `CHEAP`.
    corpora
        What `load_corpus` takes, or several of that: a mapping of names, or a list of corpora, paths or names from
        `list_corpora()`. A list of other strings is the documents of one corpus. None is the corpus that the first
        model was made for.
    layers
        "all", one layer or a list: these of every model, each with the same of the other, which needs equal depths.
        "last": the last of each model. "relative": those nearest to the relative depths 0, 1/4, 1/2, 3/4 and 1 of each
        model. "best": for each pair its most similar pair of layers.
    site, rows, n_rows, rows_per_document, seed, packing
        Place in the model and sampling of rows; see `Sampling`. Not allowed for activations and arrays alone, except
        that `seed` also seeds the null.
    null
        None, "permutation" or a number of permutations, as in `compare`, but of each pair by itself.
    groups, between_documents
        As in `compare`. With between_documents=True every measure must have a parameter `groups`.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`. Rows left out for one model are left out for all.
    store, memory_limit, batch_tokens, executor
        Resources; see `system.resources.Resources`. Activations go to `store`, and so do finished squares of pairs (a
        measure of a layer in a corpus), so that an interrupted call resumes with what is missing, and the result, so
        that an equal call loads no model. Without a store they go to a temporary folder. Units of work are the
        extraction of a model in a corpus, which needs its name, and one measure of a layer, or of a pair for
        layers="best".

    Returns
    -------
    xarray.Dataset
        One variable per measure. Dims ("layer", "model_a", "model_b"); "depth" instead of "layer" for
        layers="relative", and neither for "last" and "best"; "corpus" comes first if there are several. 0 means equal
        up to the measure's invariances (`Measure.dissimilarity`); larger means less similar. The diagonal compares a
        model with itself. Asymmetric measures take x from model_a and y from model_b. The coordinates `layer_a` and
        `layer_b` are the layers behind "last" and "relative".

        Further coordinates belong to one measure and begin with its name; `comparison.of_measure` gives one measure
        with its own. For layers="best" `cka_layer_a` and `cka_layer_b` are the layers that were most similar. A null
        adds `cka_null_mean`, `cka_null_high` (what 5% of exchanges of documents reach or fall below), `cka_p_value`
        and `cka_calibrated`, a similarity in [0, 1]: 1 - value / null_high, at least 0. `comparison.calibrated_map`
        makes a table of it. attrs["provenance"] is one JSON string.

    Raises
    ------
    InputError
        If there are fewer than two models, two have the same name, depths differ for layers="all", rows cannot be
        matched, work exceeds memory_limit, or an argument would have no effect; also whatever `extract` and the
        measures raise.

    Notes
    -----
    With different tokenizers only places at which all of them end a token are rows: "coverage" in the provenance is
    their share, and every further tokenizer lowers it. All pairs share the same rows and every model appears in many
    pairs, so values of different pairs are not independent: tests must use the model as the unit (see `groups`).
    Values of different measures have different scales and cannot be compared with each other; calibrated scores have
    one scale.

    The most similar of many pairs of layers is similar by chance, the more so the deeper the models are, and the
    similarity of unrelated representations rises with their width where rows are few. The null of layers="best" is
    that of the maximum: each exchange of documents has its own most similar layers. p-values are of each pair by
    itself; with 66 pairs three are expected to be at most 0.05 by chance.

    `estimate_models` says beforehand what memory and disk space are needed.

    References
    ----------
    Klabunde et al. 2023, arXiv 2312.02730; Groeger, Wen and Brbic 2026, arXiv 2602.14486, on calibration.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> compare_models({"one": x, "double": 2 * x}, "cka").cka.values.round(6)[0]
    array([[0., 0.],
           [0., 0.]])
    >>> found = compare_models(["tiny-neox-w32-d2", "tiny-neox-w64-d4"], "cka", layers="last", n_rows=200)
    >>> found.cka.dims, found.layer_a.values
    (('model_a', 'model_b'), array([2, 4]))
    """
    chosen, choice = chosen_measures(measures), LayerChoice(layers)
    uncertainty = Uncertainty(null, None, groups, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    resources = Resources(store, memory_limit, batch_tokens, executor)
    if uncertainty.in_closed_form:
        raise InputError(f'null={null!r} is not available for many models; expected "permutation" or a number.')
    for measure in chosen:
        check_sampled(measure, uncertainty)
    population = Roster.of(
        models, corpora, choice, Sampling(None, site, rows, n_rows, rows_per_document, seed, packing)
    )
    if not population.shapes:
        extracted: dict[str, Any] = {"corpora": corpora, "site": site, "rows": rows, "n_rows": n_rows}
        extracted |= {"packing": packing, "rows_per_document": rows_per_document, "store": store}
        extracted |= {"batch_tokens": batch_tokens} | ({} if uncertainty.resampled else {"seed": seed})
        check_effect(compare_models, extracted, "activations already have their rows. Pass it to extract instead.")
    about = expected(population, chosen, uncertainty, resources)
    check_room(about, population, chosen, uncertainty)
    resources = replace(resources, store=as_store(store))
    if resources.store is not None and about.stored > resources.store.limit:
        raise InputError(
            f"The activations need {readable_size(about.stored)}, and {resources.store!r} may not grow so large. Give "
            "store= a Store with a larger limit."
        )
    key = None if resources.store is None else key_of(population, chosen, uncertainty, controls)
    if key is not None and (again := find_again(resources.store, key)) is not None:
        return again
    with TemporaryDirectory(prefix="repsim-nb-", ignore_cleanup_errors=True) as folder:
        texts = _members(population, resources, Store(folder, SCRATCH_LIMIT))
        texts = [replace(text, members=tuple(with_controls(text.members, controls))) for text in texts]
        found = _found(texts, chosen, choice, uncertainty, resources)
    result = labelled_pairs(texts, chosen, choice, found, uncertainty)
    if key is not None:
        keep(resources.store, key, result)
    return result


def _members(population: Roster, resources: Resources, scratch: Store) -> list[Text]:
    """Every text with all members at its rows."""
    samplings, places = list(population.texts.values()), list(population.shapes)
    models = tuple(population.given[place].what for place in places)
    layers = tuple(sorted(set(population.layers[place])) for place in places)
    of_models: dict[tuple[int, int], Activations] = {}
    if models:
        for text, number, acts in in_turn(InTurn(models, layers, tuple(samplings), resources), scratch):
            of_models[text, places[number]] = acts
            check_names([_name(population, place, acts) for (t, place), acts in of_models.items() if t == 0])
    texts = []
    for number, name in enumerate(population.texts):
        members = []
        for place, own in enumerate(population.layers):
            if place in population.shapes:
                acts = of_models[number, place]
                members.append(Member(_name(population, place, acts), acts, tuple(own)))
            else:
                array = population.array(place, name)
                members.append(matched(array, of_models[number, places[0]], samplings[number]) if models else array)
        check_names([member.name for member in members])
        check_equal_rows(members)
        texts.append(Text(name if population.several else None, tuple(members)))
    return texts


def _name(population: Roster, place: int, acts: Activations) -> str:
    return population.given[place].name or acts.provenance["model"]["model"]


def _found(
    texts: Sequence[Text],
    measures: Sequence[Measure],
    choice: LayerChoice,
    uncertainty: Uncertainty,
    resources: Resources,
) -> dict[tuple[int, str], list[Found]]:
    """What the units of each text and measure found, in order."""
    units: list[tuple[tuple[int, str], Unit]] = []  # all measures of a place in a row, so that it is read once
    for number, text in enumerate(texts):
        rows = Rows([], _documents(text.members, uncertainty), text.members[0].kept)
        exchange = None
        if uncertainty.permutations:
            rows.documents.check_exchangeable()
            exchange = Exchange(rows.documents, uncertainty.permutations, uncertainty.seed)
        own = []
        for given in measures:
            measure = rows.measure(given, uncertainty.between_documents)
            own += [((number, given.name), unit) for unit in units_of(text, measure, choice, exchange)]
        first: dict[str, int] = {}
        units += sorted(own, key=lambda each: first.setdefault(each[1].where, len(first)))
    work = _sent([unit for _, unit in units], resources)
    made = mapped(
        finished, resources.store, work, resources.executor, what="comparing", unit="square", name=str, total=len(units)
    )
    found: dict[tuple[int, str], list[Found]] = {}
    for (key, _), values in zip(units, made, strict=True):
        found.setdefault(key, []).append(values)
    return found


def _documents(members: Sequence[Member], uncertainty: Uncertainty) -> Documents:
    """The document of each row that the controls left."""
    kept, groups = members[0].kept, uncertainty.groups
    if groups is None:
        extracted = next((member.acts for member in members if isinstance(member.acts, Activations)), None)
        groups = None if extracted is None else extracted.rows["document"].to_numpy()
    n = check_equal_rows(members)
    if kept is None:
        return Documents(groups, n)
    return Documents(None if groups is None else np.asarray(groups)[kept], int(kept.sum()))


def _sent(units: Sequence[Unit], resources: Resources) -> Iterator[Unit]:
    """The units as they travel: to other machines with their layers, unless those can read them from the store."""
    for unit in units:
        if resources.executor is None:
            yield unit
        else:
            there = {member.name: member.held(layers) for member, layers in unit.parts if not member.stored}
            yield unit.with_members({member.name: member for member in unit.members} | there)
