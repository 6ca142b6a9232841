"""What stitching classifiers as they are costs beyond the forward passes that cannot be avoided.

    python -m tests.benchmarks.bench_identity [models] [pairs]

All ordered pairs of untrained classifiers (6 layers, width 48, 3 heads), a model into itself included, at all 7
positions. The floor is the same batches through transformers' own blocks: every sender once from bottom to top, every
receiver from each position up for every sender. One thread, process CPU seconds.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import sys
import time

import torch
import xarray as xr
from transformers import BertConfig, BertForSequenceClassification

import repsim_nb as rs
from repsim_nb.corpora import nli_heuristics
from repsim_nb.models import Batch, Model
from repsim_nb.stitching.joined import common_ground
from repsim_nb.stitching.stitched import N_FIT
from repsim_nb.zoo.vocabulary import word_tokenizer

LAYERS = 6


def classifiers(count: int) -> list[Model]:
    tokenizer = word_tokenizer(nli_heuristics.VOCABULARY, 64)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=3,
        intermediate_size=192,
        max_position_embeddings=64,
        id2label=dict(enumerate(nli_heuristics.LABELS)),
    )
    models = []
    for seed in range(count):
        torch.manual_seed(seed)
        models.append(rs.load_model(BertForSequenceClassification(config), tokenizer=tokenizer))
        models[-1].name = f"untrained-{seed}"
    return models


@torch.no_grad()
def floor(models: list[Model], batches: list[Batch]) -> float:
    inputs = [{"token_type_ids": b.types, "attention_mask": b.mask.long()} for b in batches]
    start = time.process_time()
    for sender in models:
        trunk = sender.module.bert
        for batch, given in zip(batches, inputs, strict=True):
            hidden = trunk.embeddings(input_ids=batch.ids, token_type_ids=given["token_type_ids"])
            mask, _ = trunk._create_attention_masks(given["attention_mask"], None, hidden, None, None)
            kept = [hidden]
            for block in trunk.encoder.layer:
                kept.append(block(kept[-1], mask))
            for receiver in models:
                for layer, hidden in enumerate(kept):
                    upper = hidden
                    for block in receiver.module.bert.encoder.layer[layer:]:
                        upper = block(upper, mask)
                    receiver.module.classifier(receiver.module.bert.pooler(upper))
    return time.process_time() - start


def main(count: int, pairs: int) -> None:
    torch.set_num_threads(1)
    models = classifiers(count)
    corpus = rs.load_corpus("nli-heuristics", "ood").take(range(0, 6000, 6000 // pairs))
    for model in models:
        _ = model.weights_sha256
    ground = common_ground(models, corpus, N_FIT, None, 0, fits=False)
    batches = ground.batches_of(models[0])["report"]
    tokens = sum(b.ids.numel() for b in batches)
    floor(models[:1], batches)  # warm
    least = floor(models, batches)
    start = time.process_time()
    table: xr.Dataset = rs.stitching_table(models, models, corpus=corpus, map="identity")
    taken = time.process_time() - start
    print(
        f"{count} models, {table.sizes['document']} pairs, {tokens} tokens in {len(batches)} batches, "
        f"{table.penalty.size} stitches: floor {least:.1f} s, table {taken:.1f} s, ratio {taken / least:.3f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, int(sys.argv[2]) if len(sys.argv) > 2 else 500)
