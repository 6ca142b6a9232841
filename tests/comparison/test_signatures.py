"""One question, asked one way: an option has one name and one default wherever it means something."""

import ast
import inspect
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

import pytest

import repsim_nb as rs
from repsim_nb.activations import Sampling
from repsim_nb.cli.command import parser
from repsim_nb.comparison import estimate_models
from repsim_nb.comparison.controls import Controls
from repsim_nb.depth import over_training
from repsim_nb.models import Packing
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

OBJECTS = (Sampling, Uncertainty, Controls, Resources)
OPTIONS = {field.name: field.default for each in OBJECTS for field in fields(each)}
WHICH_ROWS = ("rows", "n_rows", "rows_per_document", "packing")
HOW_SURE = ("null", "interval", "groups", "between_documents")
CONTROLS = tuple(field.name for field in fields(Controls))
MISSING = object()


def declared(function):
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


ENTRY_POINTS = {
    "compare": declared(rs.compare),
    "compare_all": declared(rs.compare_all),
    "compare_models": declared(rs.compare_models),
    "compare_family": declared(rs.compare_family),
    "estimate_models": declared(estimate_models),
    "over_training": declared(over_training),
    "stitch": declared(rs.stitch),
    "stitching_table": declared(rs.stitching_table),
    "estimate": declared(rs.estimate),
    "stream": declared(rs.stream),
    "extract": declared(rs.extract),
    "extract_aligned": declared(rs.extract_aligned),
    "Explorer": declared(rs.Explorer.__init__),
    "repsim-nb compare": vars(parser().parse_args(["compare", "a", "b", "--out", "x.nc"])),
    "repsim-nb stitch": vars(parser().parse_args(["stitch", "a", "--out", "x.nc"])),
}
STITCHING = ("stitch", "stitching_table", "repsim-nb stitch")
EXTRACTION = ("extract", "extract_aligned")

# Which entry points lack an option, or have another default, and why.
REASONS = {
    (entry, option): reason
    for entries, options, reason in [
        (("Explorer",), ("n_rows",), "The first map is to appear within seconds."),
        (("Explorer", "estimate", "estimate_models"), ("groups",), "Models know the document of each row."),
        (("repsim-nb compare",), ("groups",), "A shell has no arrays, which alone need them."),
        (("estimate", "estimate_models"), ("store",), "It is of a run that finds nothing stored."),
        (("compare_all",), ("corpus", "site", *WHICH_ROWS), "The rows of activations are chosen already."),
        (("compare_all",), ("store", "batch_tokens"), "It runs no models."),
        (
            ("compare_models", "estimate_models"),
            ("interval",),
            "Its unit is the model: groups has intervals over them.",
        ),
        (("compare_models", "estimate_models"), ("corpus",), "It takes several: corpora."),
        (("compare_family",), ("rows", "rows_per_document"), "Every position of a sequence is a row."),
        (("compare_family",), ("n_rows",), "Its n_sequences says how many."),
        (("compare_family",), ("packing",), "Sequences are always packed; length says how long they are."),
        (("compare_family",), HOW_SURE, "Tokens are compared within their sequence, of which only sums are kept."),
        (("compare_family",), CONTROLS, "They need all rows of a layer at once, and only some sequences are held."),
        (("compare_family",), ("store",), "Only Gram matrices are kept."),
        (("stream",), HOW_SURE, "They need all rows at once, and only sums are kept."),
        (("stream",), CONTROLS, "They need all rows at once, and only sums are kept."),
        (("stream",), ("store",), "Only sums are kept."),
        (EXTRACTION, HOW_SURE, "Nothing is compared yet."),
        (EXTRACTION, CONTROLS, "Controls are applied to what it returns."),
        (STITCHING, ("site",), "Stitching reads and writes the residual stream."),
        (STITCHING, WHICH_ROWS, "Whole windows of documents are run; n_fit and n_report say how many."),
        (STITCHING, HOW_SURE, "Every loss has a bootstrap over documents."),
        (STITCHING, CONTROLS, "The receiver goes on from activations as they are."),
        (STITCHING, ("store", "memory_limit", "batch_tokens"), "It chooses its batches and keeps no activations."),
        (("stitch", "extract"), ("executor",), "One stitch, or one model, is one unit of work."),
        (("estimate", "estimate_models"), ("executor",), "It is of one machine."),
        (("stitching_table",), ("measures",), "A penalty needs no measure; similarity is beside it where asked for."),
        (("Explorer",), ("executor",), "It keeps its models in memory to answer at once, and those cannot be sent."),
        (("extract_aligned",), ("layers",), "It has one entry for each model."),
    ]
    for entry in entries
    for option in options
}
# Private functions that take two options or more one by one, and why.
ONE_BY_ONE = {
    "comparison/sequences.py _resolve": "It finds the corpus and the length that the Sampling then holds.",
    "comparison/sequences.py _text_parts": "As compare_family has neither rows nor n_rows, no Sampling says it all.",
    "stitching/ground.py _split_corpus": "The seed is of the division of documents into those fitted and reported on.",
    "stitching/transfer.py _ground": "The same: the map is fitted on some documents, the transfer reported on others.",
}


def plain(value):
    return Packing.of(value) if value == "documents" else value


def differing():
    """Every (entry point, option) that is missing or has another default than the object it travels in."""
    return {
        (entry, option)
        for entry, given in ENTRY_POINTS.items()
        for option, default in OPTIONS.items()
        if plain(given.get(option, MISSING)) != plain(default)
    }


def of_two_defaults():
    """Every (entry point, parameter) whose default is another than that of most entry points that have it."""
    found = defaultdict(list)
    for entry, given in ENTRY_POINTS.items():
        for name, default in given.items():
            if name not in OPTIONS and default is not inspect.Parameter.empty and not entry.startswith("repsim-nb"):
                found[name].append((entry, default))
    for name, of in found.items():
        defaults = [default for _, default in of]
        usual = max(defaults, key=defaults.count)
        yield from ((entry, name) for entry, default in of if default != usual)


def test_options_have_one_name_and_one_default_or_a_reason():
    assert differing() | {*of_two_defaults()} == set(REASONS)


def test_reasons_are_sentences():
    for reason in {*REASONS.values(), *ONE_BY_ONE.values()}:
        assert reason[0].isupper()
        assert reason.endswith(".")


@pytest.mark.parametrize("entry", ["estimate", "stream", "Explorer", "compare_models", "over_training"])
def test_entry_points_have_no_option_that_compare_lacks(entry):
    own = {
        *("self", "trial", "models", "measures", "corpora", "layers", "model", "revisions"),
        *("model_a", "models_b", "split"),  # what is compared, and of a corpus that has splits
        *("against", "maps"),  # what checkpoints are compared with, and what is kept
        "over",  # whether the explorer compares at every checkpoint
    }
    assert set(ENTRY_POINTS[entry]) - own <= set(ENTRY_POINTS["compare"])


def private(path):
    """Names and arguments of private functions and of methods of private classes."""

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                hidden = inside or (child.name.startswith("_") and not child.name.startswith("__"))
                if hidden and isinstance(child, ast.FunctionDef):
                    of = child.args
                    yield child.name, {argument.arg for argument in [*of.posonlyargs, *of.args, *of.kwonlyargs]}
                yield from walk(child, hidden)
            else:
                yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def test_options_travel_together_below_the_public_boundary():
    top = Path(rs.__file__).parent
    own = [{field.name for field in fields(each)} for each in OBJECTS]
    found = {
        f"{path.relative_to(top).as_posix()} {name}"
        for path in top.rglob("*.py")
        for name, arguments in private(path)
        if any(len(arguments & names) > 1 for names in own)
    }
    assert found == set(ONE_BY_ONE)
