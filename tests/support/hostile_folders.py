"""What can be wrong with a model's folder: a good tiny one, and one change of it under each name.

Every change is a function of the folder. What `load_model` is to make of it is a pattern for its one error, or None
where the model loads as if nothing had changed.
"""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from repsim_nb.system.shipped import data_dir

Change = Callable[[Path], object]
GOOD = data_dir() / "tiny-neox-w32-d2"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CHANGES: dict[str, tuple[Change, str | None]] = {}
BLOCK = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"
SCALES = {"weight_scale": (32, 1), "scales": (32, 4), "qzeros": (4, 16), "SCB": (32,)}


def copied(folder: Path) -> Path:
    return shutil.copytree(GOOD, folder)


def config(**changed: object) -> Change:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return change


def without(*keys: str) -> Change:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        said = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in said.items() if key not in keys}))

    return change


def text(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def edited(name: str, edit: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / name).write_bytes(edit((folder / name).read_bytes()))


def gone(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def as_folder(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def outside(name: str) -> Change:
    """A link to a copy of the file beside the folder."""

    def change(folder: Path) -> None:
        there = folder.parent / f"outside-{name}"
        shutil.move(folder / name, there)
        (folder / name).symlink_to(there)

    return change


def circle(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / name)

    return change


def weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """The weights, edited in place."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        edit(tensors)
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})

    return change


def header(edit: Callable[[dict], object]) -> Change:
    """The header of the weights, edited in place, with the same bytes behind it."""

    def change(content: bytes) -> bytes:
        length = struct.unpack("<Q", content[:8])[0]
        said = json.loads(content[8 : 8 + length])
        new = json.dumps(edit(said) or said).encode()
        return struct.pack("<Q", len(new)) + new + content[8 + length :]

    return edited(WEIGHTS, change)


def first(said: dict, **changed: object) -> None:
    said[min(key for key in said if key != "__metadata__")].update(changed)


def in_shards(edit: Callable[[dict], object] = lambda index: None) -> Change:
    """Two shards with an index, which is edited."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = sorted(tensors)
        where = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
        for file in set(where.values()):
            save_file({n: tensors[n] for n in names if where[n] == file}, folder / file, {"format": "pt"})
        index = {"metadata": {"total_size": 1}, "weight_map": where}
        (folder / INDEX).write_text(json.dumps(edit(index) or index))

    return change


def mapped(name: object) -> Change:
    """An index that says one tensor is in the file `name`."""
    return in_shards(lambda index: index["weight_map"].update({BLOCK: name}))


def tokenizer(edit: Callable[[dict], object]) -> Change:
    def change(content: bytes) -> bytes:
        said = json.loads(content)
        return json.dumps(edit(said) or said).encode()

    return edited("tokenizer.json", change)


def tokenizer_config(**changed: object) -> Change:
    return edited("tokenizer_config.json", lambda content: json.dumps(json.loads(content) | changed).encode())


def quantised(scale: str, dtype: torch.dtype = torch.int8) -> Change:
    """Weights of one matrix as integers, beside the numbers that they are to be multiplied by."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        weight = tensors[BLOCK].float()
        by = weight.abs().amax(1, keepdim=True) / 127
        tensors[BLOCK] = (weight / by).round().to(dtype)
        tensors[BLOCK.replace("weight", scale)] = torch.ones(SCALES[scale])

    return weights(edit)


def module_list(*modules: object) -> Change:
    return text("modules.json", json.dumps(list(modules)))


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def add(name: str, change: Change, outcome: str | None) -> None:
    assert name not in CHANGES, name
    CHANGES[name] = (change, outcome)


TRANSFORMER = {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}
NOT_JSON = {"empty": b"", "cut": b'{"a": ', "no text": b"\x80\x81\xff", "BOM": b"\xef\xbb\xbf{}", "zeros": b"\0" * 64}
NOT_JSON |= {"nested": b"[" * 100_000, "prose": b"see README", "huge": b'{"a": ' + b"9" * 5000 + b"}"}
NOT_OBJECTS = {"list": "[]", "null": "null", "number": "3", "text": '"x"'}

# config.json
for kind, content in NOT_JSON.items():
    add(f"config of {kind}", text("config.json", content), r"config\.json' is not valid JSON")
for kind, content in NOT_OBJECTS.items():
    add(f"config is {kind}", text("config.json", content), r"config\.json' is a .*; expected names and values")
add("config empty object", text("config.json", "{}"), "names neither an architecture nor a model_type")
add("config absent", gone("config.json"), r"has no config\.json")
add("config a folder", as_folder("config.json"), r"has no config\.json")
add("config a circle", circle("config.json"), "cannot be followed|has no config")
add("config outside", outside("config.json"), "is a link to '.*', outside")
add(
    "config says two things",
    edited("config.json", lambda c: c.replace(b'"hidden_size": 32', b'"hidden_size": 64, "hidden_size": 32')),
    "has the key 'hidden_size' twice, with 64 and 32",
)
add(
    "config says one thing twice",
    edited("config.json", lambda c: c.replace(b'"hidden_size": 32', b'"hidden_size": 32, "hidden_size": 32')),
    None,
)
for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"):
    for value in (0, -1, "2", 2.5, True, [], {}, float("nan")):
        outcome = f"has {key}=.*expected a positive integer" if value != [] else "Cannot|has"
        add(f"{key} {value!r}", config(**{key: value}), outcome)
for key, value in {
    "num_hidden_layers": 10**9,
    "hidden_size": 10**12,
    "num_attention_heads": 10**9,
    "vocab_size": 10**12,
    "intermediate_size": 10**15,
    "max_position_embeddings": 10**12,
    "num_labels": 10**9,
}.items():
    add(f"{key} {value}", config(**{key: value}), f"has {key}={value}; no network has more than")
add("intermediate_size 10**8", config(intermediate_size=10**8), "have a shape that does not match its config")
add("one layer more", config(num_hidden_layers=3), r"lacks 12 of the weights .*layers\.2\.")
add("one layer fewer", config(num_hidden_layers=1), r"12 of its tensors have no place .*layers\.1\.")
add("half the words", config(vocab_size=1024), "have a shape that does not match its config")
add("more words", config(vocab_size=4096), "have a shape that does not match its config")
add("heads that do not divide", config(num_attention_heads=3), "Cannot load|cannot be run|tensors have a shape")
add("width as text_config", config(text_config={"hidden_size": -3}), "has hidden_size=-3")
add("activation unknown", config(hidden_act="gelu_of_mine"), "KeyError 'gelu_of_mine'|gelu_of_mine")
add("activation a number", config(hidden_act=3), "hidden_act|Cannot load")
add("eps of text", config(layer_norm_eps="small"), "layer_norm_eps|Cannot load")
add("eps NaN", config(layer_norm_eps=float("nan")), "not finite")
add("rope a list", config(rope_parameters=[1]), "Cannot load")
add("rope unknown", config(rope_parameters={"rope_type": "mine", "rope_theta": 1.0}), "Cannot load")
add("rope of text", config(rope_parameters={"rope_type": "default", "rope_theta": "x"}), "Cannot load")
add("dtype unknown", config(dtype="float12"), "float12|Cannot load")
add("dtype a list", config(dtype=[1]), "Cannot load")
add("model type unknown", config(model_type="no_such"), "no_such")
add("model type a list", config(model_type=["gpt_neox"]), "has model_type=.*expected a name")
add("model type of images", both(without("architectures"), config(model_type="vit")), "model of type 'vit'; expected a")
add("model type another", config(model_type="bert"), "Cannot load")
add("model type absent", without("model_type"), "Cannot load")
add("architectures absent", without("architectures"), None)
add("architectures empty", config(architectures=[]), None)
add("architectures a name", config(architectures="GPTNeoXForCausalLM"), "has architectures=.*expected a list")
add("architectures of numbers", config(architectures=[3]), "has architectures=.*expected a list")
add("architectures an object", config(architectures={"0": "x"}), "has architectures=.*expected a list")
add("architectures another", config(architectures=["ViTForImageClassification"]), "is a ViTForImageClassification")
add("architectures of code", config(architectures=["os.system"]), r"is a os\.system; expected a causal")
add("code of its own", config(auto_map={"AutoModelForCausalLM": "../../evil.Model"}), "its own code|^loads")
add("kernel", config(attn_implementation="some/kernel"), "has attn_implementation='some/kernel', code that")
add("kernel of the hub's", config(_attn_implementation="kernels-community/flash-attn3"), "code that transformers may")
add("kernel by revision", config(attn_implementation="a/b@main:f"), "transformers may download")
add("kernel by part", config(attn_implementation={"": "eager", "text": "a/b"}), "has attn_implementation='a/b'")
add("kernel inside", config(text_config={"_attn_implementation_internal": "a/b"}), "transformers may download")
add("kernel in a list", config(per_layer_config=[{"attn_implementation": "a/b"}]), "transformers may download")
add("kernel in place", config(attn_implementation="flash_attention_2"), "transformers may download")
add("kernel of paged attention", config(attn_implementation="paged|a/b"), "transformers may download")
add("kernel of experts", config(experts_implementation="a/b"), "transformers may download")
add("kernels for all", config(use_kernels=True), "has use_kernels=True, which replaces code")
add("kernels by name", config(kernel_config={"RMSNorm": "a/b"}), "has kernel_config=.* replaces code")
add("attention of PyTorch", config(attn_implementation="sdpa", use_kernels=False), None)
add("weights by another name", config(transformers_weights="../other.safetensors"), "has transformers_weights")
add("quantised by nobody knows", config(quantization_config={"quant_method": "mine"}), "quantised with 'mine'; transf")
add("quantised somehow", config(quantization_config={"bits": 4}), "quantised with None; transformers supports")
add("quantised as text", config(quantization_config="gptq"), "quantised with None; transformers supports")
add("quantised by gptq", config(quantization_config={"quant_method": "gptq", "bits": 4}), "with gptq: .*optimum")
add("quantised by awq", config(quantization_config={"quant_method": "awq", "bits": 4}), "with awq: .*gptqmodel")
add("quantised by bnb", config(quantization_config={"load_in_8bit": True}), "with bitsandbytes: .*bitsandbytes")
add("generation config broken", text("generation_config.json", "{"), "generation_config.json' is not valid")
add("generation config a list", text("generation_config.json", "[]"), "generation_config.json' is a list")

# weights
add("no weights", gone(WEIGHTS), "has no weights")
add("weights a folder", as_folder(WEIGHTS), "lacks 1 of the 1 files")
add("weights a circle", circle(WEIGHTS), "cannot be followed")
add("weights outside", outside(WEIGHTS), "is a link to '.*', outside")
add("weights by no known name", lambda f: (f / WEIGHTS).rename(f / "my.safetensors"), "my.safetensors")
add("weights empty", text(WEIGHTS, b""), "truncated or not a safetensors")
add("weights cut", edited(WEIGHTS, lambda c: c[:-1]), "truncated or not a safetensors")
add("weights longer", edited(WEIGHTS, lambda c: c + b"\0"), "truncated or not a safetensors")
add("header longer than the file", edited(WEIGHTS, lambda c: b"\xff" * 7 + b"\x7f" + c[8:]), "truncated or not a safet")
add("header of 0", edited(WEIGHTS, lambda c: b"\0" * 8 + c[8:]), "truncated or not a safetensors")
add("header a list", header(lambda said: [said]), "truncated or not a safetensors")
add("header nested", edited(WEIGHTS, lambda c: struct.pack("<Q", 90_000) + b"[" * 90_000), "truncated or not a safet")
add(
    "header of huge shapes", header(lambda said: first(said, shape=[10**12, 10**12])), "is not a safetensors file: it g"
)
add("header of negative shapes", header(lambda said: first(said, shape=[-32])), "the shape")
add("header of shapes in words", header(lambda said: first(said, shape=["32"])), "the shape")
add("header of unknown type", header(lambda said: first(said, dtype="F128")), "is not a safetensors file: it describes")
add(
    "header of lists for types",
    header(lambda said: first(said, dtype=["F32"])),
    "is not a safetensors file: it describes",
)
add("header that overlaps", header(lambda said: first(said, data_offsets=[8, 72])), "is not a safetensors file")
add("header that runs backwards", header(lambda said: first(said, data_offsets=[72, 8])), "is not a safetensors file")
add("header behind the end", header(lambda said: first(said, data_offsets=[10**9, 10**9 + 64])), "is not a safetensor")
add(
    "header without offsets", header(lambda said: said[BLOCK].pop("data_offsets") and None), "is not a safetensors file"
)
add("header of other metadata", header(lambda said: said.update(__metadata__={"a": 1})), "metadata is not a mapping")
add("header of metadata in a list", header(lambda said: said.update(__metadata__=[1])), "metadata is not a mapping")
add("a tensor less", weights(lambda w: w.pop(BLOCK)), "lacks 1 of the weights")
add("a tensor more", weights(lambda w: w.update({f"{BLOCK}_x": torch.ones(3)})), "1 of its tensors have no place")
add("a tensor of a head more", weights(lambda w: w.update({"v_head.weight": torch.ones(3)})), None)
add("a layer more", weights(lambda w: w.update({BLOCK.replace(".1.", ".2."): w[BLOCK] * 1})), "have no place")
add("in the head more", weights(lambda w: w.update({"embed_out.weight_scale": torch.ones(3)})), "have no place")
add("a bare layer more", weights(lambda w: w.update({"layers.7.x": torch.ones(3)})), "tensors have no place")
add("a tensor turned", weights(lambda w: w.update({BLOCK: w[BLOCK].T.contiguous()})), r"shape .*\(128, 32\) for")
add("NaN", weights(lambda w: w[BLOCK].fill_(float("nan"))), "not finite")
mask = torch.ones(1, 1, 256, 256).tril().to(torch.uint8)
add("masks of old", weights(lambda w: w.update({"gpt_neox.layers.0.attention.bias": mask})), None)
add("positions of old", weights(lambda w: w.update({"gpt_neox.position_ids": torch.arange(9)})), None)
add(
    "frequencies of old",
    weights(lambda w: w.update({"gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(2)})),
    None,
)
for scale in SCALES:
    add(f"integers and {scale}", quantised(scale), "quantization_config|have no place")
for dtype in ("int8", "uint8", "int32", "int64", "bool", "float8_e4m3fn", "float8_e5m2", "complex64"):

    def cast(tensors, dtype=dtype):
        tensors[BLOCK] = tensors[BLOCK].to(getattr(torch, dtype))

    add(f"a weight of {dtype}", weights(cast), "Cannot load .*(floating-point|have no place)|lacks")
add(
    "integers by a known name",
    both(
        weights(lambda w: w.update({BLOCK: w[BLOCK].to(torch.int8)})),
        config(quantization_config={"quant_method": "mxfp4"}),
    ),
    "1 of its quantised tensors have no scale",
)
add("a weight of float64", weights(lambda w: w.update({BLOCK: w[BLOCK].double()})), None)
add("adapter beside", text("adapter_config.json", '{"peft_type": "LORA"}'), "contains an adapter .*merge_and_unload")
add("adapter empty", text("adapter_config.json", ""), "contains an adapter")
add(
    "adapter alone",
    both(gone("config.json"), text("adapter_config.json", "{}")),
    "contains an adapter .*instead of a model",
)
add("distributed", text("shard-00001-model-00001-of-00001.safetensors", ""), "part of a distributed checkpoint")

# an index
add("shards", in_shards(), None)
add("shards beside the whole", text(INDEX, '{"weight_map": {"a": "b.safetensors"}, "metadata": {}}'), None)
for name in (
    "../model.safetensors",
    "../../etc/x.safetensors",
    "/etc/passwd",
    "a/../../x.safetensors",
    "..\\x.safetensors",
    "C:\\x.safetensors",
    "\\\\host\\x.safetensors",
):
    add(f"shard at {name}", mapped(name), "which lies outside")
for name in (None, 3, ["a"], {"a": 1}, True):
    add(f"shard named {name!r}", mapped(name), "is expected")
add("shard absent", mapped("none.safetensors"), "lacks 1 of the 3 files")
add("shard by an empty name", mapped(""), "is not a weight file by its name")
add("shard by a zero", mapped("a\0.safetensors"), "is expected")
add("shard of another kind", mapped("tokenizer.json"), "is not a weight file by its name")
add("shard a link", both(in_shards(), outside("model-00001-of-00002.safetensors")), "is a link to '.*', outside")
for kind, content in NOT_JSON.items():
    add(f"index of {kind}", both(in_shards(), text(INDEX, content)), "is not valid JSON|is not an index of weights")
for kind, index in {"list": [], "empty": {}, "map a list": {"weight_map": []}, "map empty": {"weight_map": {}}}.items():
    add(
        f"index is {kind}",
        in_shards(lambda _, index=index: [index][0] or {"weight_map": 0}),
        "is not an index of weights",
    )
add("index without metadata", in_shards(lambda index: {"weight_map": index["weight_map"]}), "Cannot load|^loads")
add(
    "shards that overlap",
    both(
        in_shards(),
        lambda f: shutil.copy(f / "model-00001-of-00002.safetensors", f / "model-00003.safetensors"),
        edited(INDEX, lambda c: c.replace(b'"weight_map": {', b'"weight_map": {"x": "model-00003.safetensors", ')),
    ),
    "so does another shard",
)

# a tokenizer
add("no tokenizer", gone("tokenizer.json", "tokenizer_config.json"), "has no tokenizer|tokenizer in")
add("no tokenizer but its config", gone("tokenizer.json"), "has no tokenizer|tokenizer in")
add("no config of the tokenizer", gone("tokenizer_config.json"), "^loads|out of range|beyond")
for kind, content in NOT_JSON.items():
    add(f"tokenizer of {kind}", text("tokenizer.json", content), "tokenizer")
    add(
        f"tokenizer's config of {kind}", text("tokenizer_config.json", content), r"tokenizer_config\.json' is not valid"
    )
for kind, content in NOT_OBJECTS.items():
    add(f"tokenizer is {kind}", text("tokenizer.json", content), "tokenizer")
    add(f"tokenizer's config is {kind}", text("tokenizer_config.json", content), r"tokenizer_config\.json' is a")
add("tokenizer a folder", as_folder("tokenizer.json"), "has no tokenizer|tokenizer in")
add("tokenizer outside", outside("tokenizer.json"), "is a link to '.*', outside")
add("tokenizer without a model", tokenizer(lambda t: t.update(model=None)), "tokenizer")
add("tokenizer without merges", tokenizer(lambda t: t["model"].pop("merges") and None), "tokenizer .* is broken")
add("tokenizer of an unknown model", tokenizer(lambda t: t["model"].update(type="Mine")), "tokenizer .* is broken")
add("tokenizer of words as numbers", tokenizer(lambda t: t["model"].update(vocab={"a": "b"})), "tokenizer .* broken")
add("tokenizer without words", tokenizer(lambda t: t["model"].update(vocab={}, merges=[])), "tokenizer")
add("tokenizer larger", tokenizer(lambda t: t["model"]["vocab"].update(zzzzz=2048)), "beyond its embedding of 2,048")
add("tokenizer far larger", tokenizer(lambda t: t["model"]["vocab"].update(zzzzz=10**9)), "beyond its embedding")
add("tokenizer of negative numbers", tokenizer(lambda t: t["model"]["vocab"].update(zzzzz=-1)), "tokenizer .* broken")
add("tokenizer's class unknown", tokenizer_config(tokenizer_class="NoSuchTokenizer"), "^loads|tokenizer")
add("tokenizer's class a number", tokenizer_config(tokenizer_class=3), "^loads|tokenizer")
add("tokenizer of code", tokenizer_config(auto_map={"AutoTokenizer": ["../../x.T", None]}), "^loads|its own code")
add("tokenizer's length of text", tokenizer_config(model_max_length="long"), "tokenizer|Cannot load")
for length in (0, -5, float("nan"), 1.5, [1]):
    add(f"tokenizer's length {length!r}", tokenizer_config(model_max_length=length), "has model_max_length|Cannot")
add("tokenizer's length huge", tokenizer_config(model_max_length=10**30), None)
add("tokenizer's files elsewhere", tokenizer_config(tokenizer_file="/etc/hostname"), "which lies outside")
add("tokenizer's files long ago", tokenizer_config(special_tokens_map_file="/root/.cache/none/map.json"), None)
add("tokenizer's files by version", tokenizer_config(fast_tokenizer_files=["../tokenizer.1.0.json"]), "lies outside")
add("tokenizer's added tokens a list", tokenizer_config(added_tokens_decoder=[1]), "tokenizer")
add("tokenizer's pad token a number", tokenizer_config(pad_token=3), "^loads|tokenizer")
add("special tokens broken", text("special_tokens_map.json", "{"), r"special_tokens_map\.json' is not valid JSON")
add("special tokens a list", text("special_tokens_map.json", "[]"), r"special_tokens_map\.json' is a list")
add(
    "special tokens a folder",
    lambda f: (f / "special_tokens_map.json").mkdir(),
    r"special_tokens_map\.json' is not a file",
)
add("added tokens a list", text("added_tokens.json", "[1]"), r"added_tokens\.json' is a list")
add("tokenizer's init", tokenizer_config(init_inputs=["../../x"]), "^loads|tokenizer")

# modules.json
for kind, content in NOT_JSON.items():
    add(f"modules of {kind}", text("modules.json", content), "modules.json' is")
for kind, content in {"object": "{}", "number": "3", "numbers": "[1]"}.items():
    add(f"modules are {kind}", text("modules.json", content), r"modules\.json' is not a list of modules")
add("modules empty", text("modules.json", "[]"), r"modules\.json' begins with")
add("modules without types", module_list({"path": ""}), "with type=None")
add("modules of another kind", module_list(TRANSFORMER | {"type": "os.system"}), "begins with")
add("modules named null", module_list(TRANSFORMER | {"path": None}), "names None where")
for path in ("..", "../elsewhere", "/etc", "a/../../b", "C:\\x"):
    add(f"modules at {path}", module_list(TRANSFORMER | {"path": path}), "which lies outside")
    add(f"pooling at {path}", module_list(TRANSFORMER, {"path": path, "type": "a.Pooling"}), "which lies outside")
add("modules at none", module_list(TRANSFORMER | {"path": "0_Transformer"}), r"has no config\.json")
POOLING = {"type": "sentence_transformers.models.Pooling"}
add("pooling nowhere", module_list(TRANSFORMER, POOLING), "has no folder for its Pooling")
add(
    "pooling at none",
    module_list(TRANSFORMER, POOLING | {"path": "1_Pooling"}),
    r"1_Pooling/config\.json' is not a file",
)
