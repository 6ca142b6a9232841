"""What a `Population` asks: the arguments of `compare_models`, as text to save, as code and as a command."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field, fields, replace
from typing import Any

from repsim_nb.activations import Sampling
from repsim_nb.comparison import estimate_models
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.population.chosen_layers import WORDS, LayerChoice
from repsim_nb.errors import InputError, unknown
from repsim_nb.measures import Measure, get_measure
from repsim_nb.runs.command_options import POPULATION, written
from repsim_nb.system.memory import readable_size
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.model_picker import needs_download
from repsim_nb.widgets.population.over_steps import SPANS
from repsim_nb.widgets.question import changed, settings
from repsim_nb.widgets.reproduce import Code, called
from repsim_nb.widgets.state import EXPECTED, all_of, as_plain, checked, either, one_of, taken

OWN = ("models", "measures", "corpora", "layers")
SHOWN = ("measure", "place", "text", "colour", "step", "span", "pair")  # what else a saved state holds
NAMES = (all_of(str), "a list of names")
EXPECTED_HERE = EXPECTED | {
    "models": NAMES,
    "measures": (one_of(dict), "measures by name, each with its parameters"),
    "corpora": (either(all_of(str), one_of(tuple, type(None))), "a list of names or null"),
    "layers": (one_of(str), f"one of {', '.join(WORDS)}"),
    "place": (one_of(int, float, type(None)), "a layer, a relative depth or null"),
    "text": (one_of(str, type(None)), "a corpus or null"),
    "colour": (one_of(str, type(None)), "a column or null"),
    "span": (lambda value: value in SPANS.values(), f"one of {', '.join(SPANS.values())}"),
    "pair": (lambda value: value is None or (all_of(str)(value) and len(value) == 2), "two models or null"),
}


@dataclass(frozen=True)
class Asked:
    """Models, measures, texts and layers as in the pickers, and the objects that carry options.

    Attributes
    ----------
    models
        Names, at least two.
    measures
        Name -> parameters that differ from their defaults.
    corpora
        Names, paths or hub ids; empty for the corpus that the first model was made for.
    layers
        "all", "last", "relative" or "best".
    sampling, uncertainty, controls
        Options; `sampling` has no corpus, and only the null counts of `uncertainty`.
    """

    models: tuple[str, ...]
    measures: dict[str, dict[str, Any]] = field(default_factory=lambda: {"cka": {}})
    corpora: tuple[str, ...] = ()
    layers: str = "last"
    sampling: Sampling = field(default_factory=Sampling)
    uncertainty: Uncertainty = field(default_factory=Uncertainty)
    controls: Controls = field(default_factory=Controls)

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise InputError(f"A population has at least two models; got {len(self.models)}. Choose more.")
        if not self.measures:
            raise InputError("No measure is chosen. Choose at least one.")
        LayerChoice(self.layers)
        object.__setattr__(self, "uncertainty", replace(self.uncertainty, seed=self.sampling.seed))

    @property
    def configured(self) -> list[Measure]:
        """The measures with their parameters."""
        return [get_measure(name, **params) for name, params in self.measures.items()]

    @property
    def texts(self) -> Any:
        """The argument `corpora`: one name, a list of several, or None."""
        return list(self.corpora) if len(self.corpora) > 1 else next(iter(self.corpora), None)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `compare_models` that differ from its defaults, except models, measures and corpora."""
        layers = {} if self.layers == "all" else {"layers": self.layers}
        return layers | changed(self.sampling, self.uncertainty, self.controls)

    def cost(self, memory_limit: int | None) -> str:
        """What a run will take in words, as far as it is known without loading a model."""
        count = f"{len(self.models)} models"
        downloads = [name for name in self.models if needs_download(name)]
        if downloads:
            return f"{count} · downloads {', '.join(downloads)}"
        how = self.options | {"memory_limit": memory_limit}
        about = estimate_models(list(self.models), self.configured, self.texts, **how)
        rows = " and ".join(f"{n:,}" for n in about.rows)
        stored, peak = readable_size(about.stored), readable_size(about.peak)
        return f"{count}, {about.pairs:,} pairs · {rows} rows · {stored} on disk · about {peak} of memory"

    # Saved, as code, as a command.

    def to_json(self, **shown: Any) -> str:
        """One line of JSON, with what is shown."""
        own = {name: getattr(self, name) for name in OWN}
        options = settings(self.sampling, self.uncertainty, self.controls)
        options.pop("interval")
        return json.dumps(own | options | shown, ensure_ascii=False, default=as_plain)

    @classmethod
    def from_json(cls, text: str) -> tuple[Asked, dict[str, Any]]:
        """Read what `to_json` wrote: what was asked and what was shown.

        Raises
        ------
        InputError
            The text was not written by `to_json`, or a value is out of range.
        """
        saved = checked(text, EXPECTED_HERE, {"models"}, "a population")
        sampling, uncertainty, controls = (taken(of, saved) for of in (Sampling, Uncertainty, Controls))
        own = {f.name: saved.pop(f.name) for f in fields(cls) if f.name in saved}
        own["corpora"] = own.get("corpora") or ()
        if set(saved) - set(SHOWN):
            raise unknown("entry of a saved population", min(set(saved) - set(SHOWN)), [*OWN, *SHOWN])
        return cls(**own, sampling=sampling, uncertainty=uncertainty, controls=controls), saved

    def as_python(
        self, pair: tuple[str, str] | None, measure: str, select: dict[str, Any], shown: list[str] | None = None
    ) -> str:
        """Python code for the result, the map of models and, for a pair, the map of its layers.

        `shown` are the models of a training step, for their part of the table; None shows all.
        """
        given = [
            Code(called("rs.get_measure", name, **params)) if params else name for name, params in self.measures.items()
        ]
        texts = {} if self.texts is None else {"corpora": self.texts}
        table = Code(f"result[{measure!r}]" + (f".{called('sel', **select)}" if select else ""))
        lines = [
            "import repsim_nb as rs",
            "",
            f"models = {list(self.models)!r}",
            f"result = {called('rs.compare_models', Code('models'), given, **texts, **self.options)}",
            f"ax = {called('rs.figures.model_map', table)}",
        ]
        if shown is not None and len(shown) < len(self.models):
            lines += ["", f"shown = {shown!r}", f"at_step = {table}.sel(model_a=shown, model_b=shown)"]
        if pair is not None:
            how = {"measure": measure} | changed(self.sampling, self.controls)
            text = {} if not self.corpora else {"corpus": select.get("corpus", self.corpora[0])}
            lines += ["", f"layers = {called('rs.compare', *pair, **text, **how)}", "ax = rs.figures.heatmap(layers)"]
        return "\n".join(lines) + "\n"

    def as_command(self) -> str:
        """The same comparison as a shell command."""
        measures = ",".join(self.measures)
        words = ["repsim-nb", "population", *self.models, "--measures", measures, "--layers", self.layers]
        for name, params in self.measures.items():
            for parameter, value in params.items():
                words += ["-p", f"{name}.{parameter}", written(value)]
        for corpus in self.corpora:
            words += ["--corpus", corpus]
        for name, value in changed(self.sampling, self.uncertainty, self.controls).items():
            words += (
                POPULATION[name].words(value) if name in POPULATION else [f"--{name.replace('_', '-')}", written(value)]
            )
        return shlex.join([*words, "--out", "population.nc"]) + "\n"
