"""Model families on the hub, described without a download: names, shapes, checkpoints.

Pythia: Biderman et al. 2023, Table 1, and van der Wal et al. 2025 for the seeds; toy models: TransformerLens' table of
models. Both agree with Table 1 of Brown et al. 2023 (tested).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

STEPS = (0, *(2**power for power in range(10)), *range(1000, 144_000, 1000))  # Pythia's 154 checkpoints
DIGITS, PILE = 48_262, 50_278  # vocabulary sizes of the toy models


@dataclass(frozen=True)
class HubModel:
    """A causal model on the hub.

    Attributes
    ----------
    name
        Name in the catalogue.
    repository
        Hub id.
    family
        Model family.
    n_layers, d_model, n_heads, d_head
        Shape; the MLP is four times as wide as the model.
    vocabulary
        Rows of the embedding; the unembedding is not tied to it.
    activation
        Activation of the MLP; None without an MLP.
    n_ctx
        Number of learned positions; 0 for rotary positions.
    rotary_dim
        Leading dimensions of each head that rotate; None for learned positions.
    stored
        Bytes per parameter and per value of a block's causal mask in its safetensors; None if unknown.
    checkpoints
        Names of the revisions.
    """

    name: str
    repository: str
    family: str
    n_layers: int
    d_model: int
    n_heads: int
    d_head: int
    vocabulary: int
    activation: str | None
    n_ctx: int = 0
    rotary_dim: int | None = None
    stored: tuple[int, int] | None = None
    checkpoints: tuple[str, ...] = ()

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases; for toy models without the output bias, which only some files have."""
        width, inner, mlp = self.d_model, self.n_heads * self.d_head, 4 * self.d_model
        block = 4 * width * inner + 3 * inner + width + 2 * width  # attention and its norm
        if self.activation:
            block += 2 * width * mlp + mlp + width + 2 * width  # MLP and its norm
        if self.activation == "solu_ln":
            block += 2 * mlp
        return (2 * self.vocabulary + self.n_ctx) * width + self.n_layers * block + 2 * width

    @property
    def bytes(self) -> int | None:
        """Size of the weights on the hub, without headers; None if unknown."""
        if self.stored is None:
            return None
        parameter, mask = self.stored
        return parameter * self.n_parameters + mask * self.n_layers * 2048**2


def _pythia(size: str, n_layers: int, d_model: int, n_heads: int, vocabulary: int = 50_304) -> list[HubModel]:
    suffixes = [""]
    if size not in ("14m", "31m"):
        suffixes.append("-deduped")
    if size in ("14m", "31m", "70m", "160m", "410m"):
        suffixes += [f"-seed{seed}" for seed in range(1, 10)]
    d_head = d_model // n_heads
    return [
        HubModel(
            name=f"EleutherAI/pythia-{size}{suffix}",
            repository=f"EleutherAI/pythia-{size}{suffix}",
            family="pythia",
            n_layers=n_layers,
            d_model=d_model,
            n_heads=n_heads,
            d_head=d_head,
            vocabulary=vocabulary,
            activation="gelu",
            rotary_dim=d_head // 4,
            stored=None if "seed" in suffix else (2, 1),  # float16, and a byte per value of the mask
            checkpoints=tuple(f"step{step}" for step in STEPS),
        )
        for suffix in suffixes
    ]


PYTHIA = [
    *_pythia("14m", 6, 128, 4),
    *_pythia("31m", 6, 256, 8),
    *_pythia("70m", 6, 512, 8),
    *_pythia("160m", 12, 768, 12),
    *_pythia("410m", 24, 1024, 16),
    *_pythia("1b", 16, 2048, 8),
    *_pythia("1.4b", 24, 2048, 16),
    *_pythia("2.8b", 32, 2560, 32),
    *_pythia("6.9b", 32, 4096, 32, 50_432),
    *_pythia("12b", 36, 5120, 40, 50_688),
]


ACTIVATIONS = {"gelu": "gelu", "solu": "solu_ln"}


def _toy(name: str, repository: str, d_model: int = 512, vocabulary: int = DIGITS) -> HubModel:
    family, depth = re.fullmatch(r"(.*?)-(\d+)l.*", name).groups()  # type: ignore[union-attr]
    return HubModel(
        name=name,
        repository=f"NeelNanda/{repository}",
        family=family,
        n_layers=int(depth),
        d_model=d_model,
        n_heads=d_model // 64,
        d_head=64,
        vocabulary=vocabulary,
        activation=ACTIVATIONS.get(family),
        n_ctx=1024,
    )


SOLU_WIDTHS = {1: 512, 2: 512, 3: 512, 4: 512, 6: 768, 8: 1024, 10: 1280, 12: 1536}
PILE_MODELS = {  # layers -> run number in the repository name, and width
    1: (9, 1024),
    2: (10, 736),
    4: (11, 512),
    6: (13, 768),
    8: (21, 1024),
    10: (22, 1280),
    12: (23, 1536),
}
TOYS = [
    *(_toy(f"gelu-{n}l", f"GELU_{n}L512W_C4_Code") for n in range(1, 5)),
    *(_toy(f"solu-{n}l", f"SoLU_{n}L{width}W_C4_Code", width) for n, width in SOLU_WIDTHS.items()),
    *(_toy(f"solu-{n}l-pile", f"SoLU_{n}L_v{run}_old", width, PILE) for n, (run, width) in PILE_MODELS.items()),
    *(_toy(f"solu-{n}l-wiki", f"SoLU_{n}L512W_Wiki_Finetune") for n in (1, 4)),
    *(_toy(f"attn-only-{n}l", f"Attn_Only_{n}L512W_C4_Code") for n in range(1, 5)),
]
HUB_MODELS = [*TOYS, *PYTHIA]
ALIASES = {  # suffix of a toy model's name -> alternative suffixes
    "": ("-new", "-c4-code"),
    "-pile": ("-old",),
    "-wiki": ("-finetune", "-wiki-finetune"),
}


@cache
def repositories() -> dict[str, str]:
    """All names of these models, including TransformerLens' names, with their hub ids."""
    names = {known.name: known.repository for known in HUB_MODELS}
    names |= {known.repository: known.repository for known in HUB_MODELS}
    names |= {known.name.removeprefix("EleutherAI/"): known.repository for known in PYTHIA}
    for toy in TOYS:
        base, end = re.fullmatch(r"(.*?\d+l)(|-pile|-wiki)", toy.name).groups()  # type: ignore[union-attr]
        names |= {f"{base}{other}": toy.repository for other in ALIASES[end]}
    return names
