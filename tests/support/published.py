"""Stand-ins for what the paper presets download: names, architectures, files and columns as published, tiny widths.

Rows beyond the tokenizer, types of weights, formats of files and columns of datasets are those of the real ones, as far
as they are known without them; so are the numbers of layers, except of BERT and of Pythia from 410m on, which have
fewer. The weights are random, and the texts are from this package or made up.
"""

import json
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

import repsim_nb as rs
from repsim_nb.models.published import PYTHIA, repositories
from repsim_nb.system.shipped import data_dir
from tests.support.native_checkpoints import older, older_weights, write

NEOX = data_dir() / "tiny-neox-w32-d2"  # its tokenizer
WIDTH, CONTEXT = 16, 128
DEEPEST, BERT_LAYERS = 12, 6
STRING = {"dtype": "string", "_type": "Value"}
LABELS = ["entailment", "neutral", "contradiction"]
FEATHERS = (99, 8, 37, 6, 95, 10, 39, 31, 67, 98, 44, 73, 89, 48, 26, 70, 42, 15, 63, 25)
QWEN = tuple(f"Qwen/Qwen2.5-{name}" for name in ("1.5B", "Math-1.5B", "1.5B-Instruct", "Coder-1.5B"))
NOUNS = ("doctor", "lawyer", "judge", "actor", "senator", "student")
VERBS = ("saw", "helped", "paid", "met", "called")


def copy_tokenizer(folder: Path, **config: object) -> None:
    """Put the tokenizer of the embedded GPT-NeoX models there, as the published ones have theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    own = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    (folder / "tokenizer.json").write_bytes((NEOX / "tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": False} | own | config))
    (folder / "special_tokens_map.json").write_text(json.dumps(own))


def write_pythia(hub: Path, size: str, suffix: str = "", steps: tuple[str, ...] = (), pickled: bool = False) -> None:
    """EleutherAI/pythia-SIZE: float16 with the masks of its blocks, beside the same as a pickle; its checkpoints.

    With `pickled` the checkpoints have the pickle only.
    """
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    name = f"EleutherAI/pythia-{size}{suffix}"
    published = next(known for known in PYTHIA if known.name == name)
    layers = published.n_layers if published.n_layers <= DEEPEST else 6
    config = GPTNeoXConfig(
        architectures=["GPTNeoXForCausalLM"],
        vocab_size=2048 + published.vocabulary - 50_277,  # as many rows beyond the tokenizer as the real one
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        initializer_range=0.2,
        max_position_embeddings=CONTEXT,
        rotary_pct=0.25,
    )
    torch.manual_seed(len(name) + published.n_layers)
    final, start = (GPTNeoXForCausalLM(config).state_dict() for _ in range(2))
    for revision in ("main", *steps):
        folder = hub / (name if revision == "main" else f"{name}@{revision}")
        copy_tokenizer(folder, tokenizer_class="GPTNeoXTokenizer")
        (folder / "config.json").write_text(json.dumps(config.to_dict() | {"torch_dtype": "float16", "dtype": None}))
        done = 1.0 if revision == "main" else (1 + steps.index(revision)) / (1 + len(steps))
        weights = {key: torch.lerp(start[key].float(), final[key].float(), done).half() for key in final}
        for layer in range(layers):
            mask = f"gpt_neox.layers.{layer}.attention."
            weights |= {
                mask + "bias": torch.ones(1, 1, 16, 16, dtype=torch.bool).tril(),
                mask + "masked_bias": torch.tensor(-1e9),
            }
        if revision == "main" or not pickled:
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if revision == "main":
            (folder / "pytorch_model.bin").write_bytes(b"not needed where there are safetensors")
        elif pickled:
            torch.save(weights, folder / "pytorch_model.bin")


def write_qwen(hub: Path) -> None:
    """Qwen2.5-1.5B and three of its descendants: bfloat16, tied embeddings, queries that share keys and values."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        architectures=["Qwen2ForCausalLM"],
        vocab_size=2048 + 271,  # as many rows beyond the tokenizer as the real one
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    torch.manual_seed(25)
    start, change = (Qwen2ForCausalLM(config).state_dict() for _ in range(2))
    for step, name in enumerate(QWEN):
        folder = hub / name
        copy_tokenizer(folder, tokenizer_class="PreTrainedTokenizerFast")
        (folder / "config.json").write_text(json.dumps(config.to_dict() | {"torch_dtype": "bfloat16", "dtype": None}))
        weights = {key: torch.lerp(start[key], change[key], 0.1 * step).bfloat16() for key in start}
        weights.pop("lm_head.weight", None)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_toys(hub: Path) -> None:
    """The GeLU and SoLU models of 3 and 4 layers: TransformerLens' older format, a pickle, the tokenizer elsewhere."""
    tokenizer = "NeelNanda/gpt-neox-tokenizer-digits"
    copy_tokenizer(hub / tokenizer, tokenizer_class="GPTNeoXTokenizer")
    for depth in (3, 4):
        for number, (name, act_fn) in enumerate({"gelu": "gelu", "solu": "solu_ln"}.items()):
            config = older(act_fn) | {"n_layers": depth, "tokenizer_name": tokenizer}
            folder = hub / repositories()[f"{name}-{depth}l"]
            write(
                folder,
                config,
                older_weights(act_fn, seed=10 * depth + number, layers=depth),
                f"{name}_{depth}L_final.pth",
            )
            (folder / "checkpoints").mkdir()
            (folder / "checkpoints" / f"{name}_{depth}L_000000.pth").write_bytes(b"not needed")


def write_feathers(hub: Path, numbers: tuple[int, ...] = FEATHERS) -> None:
    """connectivity/feather_berts_N: a pickle, no tokenizer, nameless classes. And where the tokenizer is."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForSequenceClassification

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", ".", *NOUNS, *VERBS]
    words += [start + letter for start in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz"]
    base = hub / "google-bert" / "bert-base-uncased"
    base.mkdir(parents=True)
    (base / "vocab.txt").write_text("\n".join(words))
    BertWordPieceTokenizer(str(base / "vocab.txt"), lowercase=True).save(str(base / "tokenizer.json"))
    (base / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "model_max_length": 512}))
    config = BertConfig(
        architectures=["BertForSequenceClassification"],
        vocab_size=len(words),
        hidden_size=24,
        num_hidden_layers=BERT_LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.3,
        num_labels=3,
    )
    (base / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["BertForMaskedLM"]}))
    torch.manual_seed(0)
    encoder = BertForSequenceClassification(config).state_dict()
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        own = {key: value + 0.05 * torch.randn(value.shape, generator=generator) for key, value in encoder.items()}
        folder = hub / "connectivity" / f"feather_berts_{number}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        (folder / f"hans_eval_bert_{number}.json").write_text("{}")
        torch.save(own | {"bert.embeddings.position_ids": torch.arange(512)[None]}, folder / "pytorch_model.bin")


def write_rows(file: Path, columns: dict[str, list[object]], **features: object) -> None:
    """A parquet file that declares its columns as the hub's do; text unless `features` says something else."""
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {"info": {"features": {name: features.get(name, STRING) for name in columns}}}
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(about).encode()}), file)


def write_pile(hub: Path, documents: int = 80) -> None:
    """NeelNanda/pile-10k: one split, a column of texts and one of where they come from."""
    texts = [text[:400] for text in rs.load_corpus("python-docs", "train", limit=documents).texts]
    source = {"pile_set_name": STRING}
    rows = {"text": texts, "meta": [{"pile_set_name": "Pile-CC"}] * len(texts)}
    write_rows(
        hub / "datasets" / "NeelNanda" / "pile-10k" / "data" / "train-00000-of-00001-4746b8785c874cc7.parquet",
        rows,
        meta=source,
    )


def write_winogrande(hub: Path, rows: int = 60) -> None:
    """allenai/winogrande: a configuration of one size, its split for validation, sentences with a gap."""
    folder = hub / "datasets" / "allenai" / "winogrande"
    texts = [f"The {NOUNS[i % 6]} {VERBS[i % 5]} the {NOUNS[i % 4]} because _ had {i} letters." for i in range(rows)]
    columns = {"sentence": texts, "option1": ["one"] * rows, "option2": ["two"] * rows, "answer": ["1"] * rows}
    write_rows(folder / "winogrande_xl" / "validation-00000-of-00001.parquet", columns)
    configs = (
        "- config_name: winogrande_xl\n  data_files:\n  - split: validation\n    path: winogrande_xl/validation-*\n"
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


def write_humaneval(hub: Path, rows: int = 40) -> None:
    """openai/openai_humaneval: one configuration, a split for tests, prompts that end in a docstring."""
    folder = hub / "datasets" / "openai" / "openai_humaneval"
    prompts = [f'def f{i}(x: int) -> int:\n    """Return x times {i * i}."""\n' for i in range(rows)]
    columns = {"task_id": [f"HumanEval/{i}" for i in range(rows)], "prompt": prompts}
    write_rows(folder / "openai_humaneval" / "test-00000-of-00001.parquet", columns)
    configs = "- config_name: openai_humaneval\n  data_files:\n  - split: test\n    path: openai_humaneval/test-*\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


def sentence(draw: random.Random) -> str:
    first, second = draw.sample(NOUNS, 2)
    return f"The {first} {draw.choice(VERBS)} the {second}."


def write_mnli(hub: Path, rows: int = 60) -> None:
    """nyu-mll/multi_nli: three splits, labels as numbers with names."""
    draw = random.Random(0)
    folder = hub / "datasets" / "nyu-mll" / "multi_nli"
    splits = ("train", "validation_matched", "validation_mismatched")
    for split in splits:
        premises, hypotheses = ([sentence(draw) for _ in range(rows)] for _ in range(2))
        columns = {"promptID": [*range(rows)], "pairID": [f"{i}n" for i in range(rows)], "premise": premises}
        columns |= {f"premise_{parse}": premises for parse in ("binary_parse", "parse")} | {"hypothesis": hypotheses}
        columns |= {f"hypothesis_{parse}": hypotheses for parse in ("binary_parse", "parse")}
        columns |= {"genre": ["fiction"] * rows, "label": [i % 3 for i in range(rows)]}
        label = {"names": LABELS, "_type": "ClassLabel"}
        number = {"dtype": "int32", "_type": "Value"}
        write_rows(folder / "data" / f"{split}-00000-of-00001.parquet", columns, label=label, promptID=number)
    files = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")


def write_hans(hub: Path, rows: int = 120) -> None:
    """jhu-cogsci/hans: a script, which nobody runs, and the parquet that the hub made of it on a branch of its own."""
    draw = random.Random(1)
    main = hub / "datasets" / "jhu-cogsci" / "hans"
    main.mkdir(parents=True)
    (main / "hans.py").write_text("raise SystemExit('run')")
    for split in ("train", "validation"):
        premises, hypotheses = ([sentence(draw) for _ in range(rows)] for _ in range(2))
        kinds = [("lexical_overlap", "ln_preposition"), ("subsequence", "sn_NP/S"), ("constituent", "cn_adverb")]
        parses = ("parse_premise", "parse_hypothesis", "binary_parse_premise", "binary_parse_hypothesis")
        columns = {"premise": premises, "hypothesis": hypotheses, "label": [i // 3 % 2 for i in range(rows)]}
        columns |= dict.fromkeys(parses, premises) | {"heuristic": [kinds[i % 3][0] for i in range(rows)]}
        columns |= {"subcase": [kinds[i % 3][1] for i in range(rows)], "template": ["temp1"] * rows}
        label = {"names": ["entailment", "non-entailment"], "_type": "ClassLabel"}
        folder = main.parent / "hans@refs%2Fconvert%2Fparquet"
        write_rows(folder / "plain_text" / split / "0000.parquet", columns, label=label)


def write_sentence_encoder(hub: Path, name: str, seed: int, prompts: dict[str, str] | None = None) -> None:
    """A BERT in the layout of sentence-transformers, with mean pooling."""
    from transformers import BertConfig, BertModel

    folder = hub / name
    copy_tokenizer(folder, model_max_length=CONTEXT, tokenizer_class="PreTrainedTokenizerFast")
    torch.manual_seed(seed)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH}
    config = BertConfig(vocab_size=2064, max_position_embeddings=CONTEXT, initializer_range=0.2, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts or {}}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": CONTEXT}))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def write_beir(hub: Path, name: str, pairs: int = 40) -> None:
    """BeIR/NAME: passages and queries in two configurations, judgements in a dataset of their own."""
    from repsim_nb.retrieval import queries_of

    corpus = rs.load_corpus("docstrings", "test", limit=pairs)
    asked = queries_of(corpus)
    folder, judged = hub / "datasets" / "BeIR" / name, hub / "datasets" / "BeIR" / f"{name}-qrels"
    for table, texts in (("corpus", corpus), ("queries", asked)):
        columns = {"_id": list(texts.documents), "title": [""] * len(texts), "text": list(texts.texts)}
        write_rows(folder / table / f"{table}-00000-of-00001.parquet", columns)
    tables = "".join(
        f"- config_name: {table}\n  data_files:\n  - split: {table}\n    path: {table}/{table}-*\n"
        for table in ("corpus", "queries")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{tables}---\n")
    judged.mkdir(parents=True)
    lines = [f"{query}\t{passage}\t1" for query, of in corpus.judgements.items() for passage in of]
    (judged / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
