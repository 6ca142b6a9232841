"""Build every architecture of transformers as a small random model from its config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

LAYERS = 6  # enough for behaviour that depends on a block's index, and for most patterns of block types
CONTEXT = 64
WINDOW = 8  # local attention window, shorter than the texts
KINDS = {  # auto class -> the mapping of transformers that lists its architectures
    "AutoModelForCausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "AutoModelForMaskedLM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "AutoModelForSequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "AutoModel": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",  # without a head, as sentence embeddings are published
    "AutoModelForTextEncoding": "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES",  # likewise; of T5 and CLIP the encoder alone
}
SIZES = (  # config entries with these names are set to these sizes; all others keep their defaults
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers depth "
        "num_encoder_layers",
    ),
    (
        32,
        "hidden_size d_model n_embd dim emb_dim embed_dim word_embed_proj_dim lru_width hidden_size_global "
        "backbone_hidden_size d_latents attention_hidden_size pooler_hidden_size cross_attention_hidden_size "
        "out_hidden_size",
    ),
    (
        16,
        "embedding_size kv_lora_rank q_lora_rank o_lora_rank mamba_d_state state_size ssm_state_size d_rel "
        "router_hidden_size mamba_d_head mamba_head_dim mamba_headdim laurel_rank hidden_size_per_layer_input "
        "embedding_rank index_head_dim intra_bottleneck_size adapter_rank gated_norm_rank",
    ),
    (
        64,
        "intermediate_size ffn_dim d_ff n_inner d_inner dff dim_ff hidden_dim ffn_hidden_size encoder_ffn_dim "
        "decoder_ffn_dim intermediate_size_mlp dense_intermediate_size feed_forward_size expert_ffn_hidden_size "
        "mlp_dim moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size "
        "shared_intermediate_size shared_experts_intermediate_size intermediate_multiple_size mamba_d_ssm",
    ),
    (
        4,
        "num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads decoder_attention_heads "
        "linear_num_value_heads num_experts n_routed_experts num_local_experts moe_num_experts index_n_heads "
        "swa_num_attention_heads mamba_n_heads mamba_num_heads n_mamba_heads linear_num_heads num_landmarks "
        "num_decoder_attention_heads num_encoder_attention_heads num_self_attention_heads num_cross_attention_heads",
    ),
    (
        2,
        "num_key_value_heads num_experts_per_tok num_experts_per_token moe_topk moe_top_k moe_k num_kv_heads "
        "kv_n_heads linear_num_key_heads swa_num_key_value_heads mamba_n_groups n_groups mamba_ngroups "
        "num_query_groups",
    ),
    (
        1,
        "n_group topk_group num_expert_group first_k_dense_replace num_dense_layers n_shared_experts "
        "num_shared_experts moe_num_shared_experts moe_layer_start_index pretraining_tp num_nextn_predict_layers",
    ),
    (
        8,
        "head_dim d_kv d_head dim_head v_head_dim qk_nope_head_dim qk_rope_head_dim linear_key_head_dim kv_channels "
        "linear_value_head_dim linear_head_dim attention_head_dim attention_head_size swa_head_dim rotary_dim",
    ),
    (
        WINDOW,
        "sliding_window window_size attention_window local_attention attention_chunk_size sliding_window_size "
        "attention_window_size chunk_size mamba_chunk_size block_size index_topk local_attn_chunk_length "
        "lsh_attn_chunk_length index_block_size",
    ),
    (
        2 * CONTEXT,
        "max_position_embeddings n_positions n_ctx max_seq_len context_length max_target_positions "
        "max_source_positions model_max_length",
    ),
)
SIZE_OF = {name: size for size, names in SIZES for name in names.split()}
SAME = {"num_key_value_heads": "num_attention_heads", "embedding_size": "hidden_size"}  # if equal by default
DOUBLE_WIDTH = {"attention_hidden_size": 64, "attention_head_dim": 16}  # attention over two concatenated streams
SETTINGS: dict[str, dict[str, Any]] = {  # by model type, where defaults and sizes above do not work
    "bamba": {"attn_layer_indices": [1, 4], "mamba_d_head": 16},
    "big_bird": {"block_size": 4, "num_random_blocks": 2},  # so that long texts use sparse attention
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "funnel": {"block_sizes": [2, 2, 2]},
    "gemma3n_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 3},
    "gemma4_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 3},
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * (LAYERS // 2)},
    "hunyuan_v1_dense": {"head_dim": 8, "num_key_value_heads": 2},
    "hunyuan_v1_moe": {"head_dim": 8, "num_key_value_heads": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * (LAYERS // 2)},
    "mamba2": {"head_dim": 16},
    "luke": {"entity_vocab_size": 100, "entity_emb_size": 16},
    "ministral": {"head_dim": 8},
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "neomme": {"head_dim": 16},
    "nystromformer": {"segment_means_seq_len": CONTEXT, "num_landmarks": CONTEXT},
    "qwen4_exp_text": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"axial_pos_shape": [8, 16], "axial_pos_embds_dim": [8, 24], "num_buckets": 4, "hash_seed": 0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["mamba", "hybrid"] * (LAYERS // 2), **DOUBLE_WIDTH},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * (LAYERS // 2), "num_mem_blocks": 2, **DOUBLE_WIDTH},
    "zaya": {"num_experts_per_tok": 1},
}


def architectures() -> list[tuple[str, str, str]]:
    """What transformers' auto classes offer, each class and model type once: (auto class, model type, architecture)."""
    from transformers.models.auto import modeling_auto as auto

    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for kind, mapping in KINDS.items():
        offered = getattr(auto, mapping)
        classes = auto.MODEL_MAPPING_NAMES if kind == "AutoModel" else offered
        for model_type in filter(classes.get, offered):
            names = classes[model_type]
            architecture = names if isinstance(names, str) else names[0]
            found.setdefault((model_type, architecture), (kind, model_type, architecture))
    return sorted(found.values())


def small(kind: str, model_type: str, architecture: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """An architecture at a few thousand random weights, ready for the tokenizer's tokens."""
    import transformers

    config = shrunk(transformers.CONFIG_MAPPING[model_type], special_tokens(tokenizer))
    if kind == "AutoModelForCausalLM" and hasattr(config, "is_decoder"):
        config.is_decoder = True  # encoders that may also be trained to go on with a text
    torch.manual_seed(0)
    network = getattr(transformers, architecture)
    if not isinstance(config, network.config_class):  # of several networks, this one's is a part of it
        config = next((part for part in vars(config).values() if isinstance(part, network.config_class)), config)
    module: PreTrainedModel = network._from_config(config)
    return perturbed(module.float().eval())


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Config entries that describe the tokenizer."""
    names = {"pad": tokenizer.pad_token_id, "bos": tokenizer.cls_token_id, "cls": tokenizer.cls_token_id}
    names |= {"eos": tokenizer.sep_token_id, "sep": tokenizer.sep_token_id, "mask": tokenizer.mask_token_id}
    names |= {"unk": tokenizer.unk_token_id, "decoder_start": tokenizer.cls_token_id}
    return {f"{name}_token_id": int(number) for name, number in names.items()} | {"vocab_size": len(tokenizer)}


def shrunk(kind: type[PreTrainedConfig], tokens: dict[str, int]) -> PreTrainedConfig:
    """The config of a small model of that type."""
    given = _smaller(kind(), tokens)
    config = kind(**given)
    return kind(**given | dict(_kinds_of_blocks(kind(), config)))


def _smaller(config: PreTrainedConfig, tokens: dict[str, int]) -> dict[str, Any]:
    """Config entries to change."""
    from transformers import PreTrainedConfig

    given: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            given[name] = _smaller(value, tokens) | ({"model_type": value.model_type} if value.model_type else {})
        elif name in tokens:
            given[name] = tokens[name]
        elif name in SIZE_OF and value is not None and not isinstance(value, bool):
            same = name in SAME and value == getattr(config, SAME[name], None)
            size = SIZE_OF[SAME[name] if same else name]
            given[name] = [size] * LAYERS if isinstance(value, list) else size
    if getattr(config, "is_encoder_decoder", False):
        given["decoder_start_token_id"] = tokens["decoder_start_token_id"]
    return given | SETTINGS.get(config.model_type, {})


def _kinds_of_blocks(default: Any, config: Any) -> Iterator[tuple[str, list[Any]]]:
    """Lists with one entry per block, such as layer_types, that contain every type of block."""
    depth = default.get_text_config().num_hidden_layers if hasattr(default, "num_hidden_layers") else 0
    for name, value in vars(default).items():
        if isinstance(value, list) and len(value) == depth and name not in SIZE_OF:
            now = getattr(config, name, None)
            kinds = list(dict.fromkeys(value))
            if not isinstance(now, list) or len(now) != LAYERS or set(now) != set(kinds):
                yield name, [kinds[i % len(kinds)] for i in range(LAYERS)]


@torch.no_grad()
def perturbed(module: PreTrainedModel) -> PreTrainedModel:
    """Add noise to the weights, so that every part of a block matters: at initialisation many add almost nothing."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            wide = parameter.dim() > 1 and float(parameter.std()) < 0.1
            parameter.add_(torch.randn_like(parameter), alpha=parameter.shape[-1] ** -0.5 if wide else 0.1)
    return module
