"""Models of every family, and what transformers computes with them.

Tiny models have random weights and lie in families/<name>: config.json and
model.safetensors as transformers saves them, and truth.safetensors with ids,
logits, loss and the gradients of all parameters, and the logits of pieces of the ids.
smollm2/ holds logits and greedy continuations of models/smollm2.gguf, where that is present.
"""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

SMOLLM2 = Path(__file__).resolve().parents[2] / "models" / "smollm2.gguf"

SIZES = dict(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.2,
)

LLAMA3_ROPE = dict(
    rope_type="llama3",
    rope_theta=500.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)

# The tests' sequences are shorter and longer than the original context of 16.
YARN_ROPE = dict(
    rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16
)

# Ids within the vocabulary; an embedding would take no gradient at a token of padding.
TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)

# Of heads of 8 values 6 turn.
LONG_ROPE = dict(
    rope_type="longrope",
    rope_theta=500.0,
    partial_rotary_factor=0.75,
    short_factor=[1.0, 1.5, 2.0],
    long_factor=[1.0, 4.0, 9.0],
)

# Everything is small enough to count: scores and logits reach their caps, texts the windows.
GEMMA = dict(SIZES, **TOKENS, head_dim=14, query_pre_attn_scalar=20, sliding_window=5)

MLP = ("gate_proj", "up_proj", "down_proj")
EXPERTS = dict(num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24)

FAMILIES = {
    "llama2": LlamaConfig(**{**SIZES, "num_key_value_heads": 6}),
    "llama3": LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE),
    "llama_linear": LlamaConfig(
        **SIZES, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)
    ),
    "llama_yarn": LlamaConfig(
        **SIZES,
        head_dim=16,
        rope_parameters=dict(
            YARN_ROPE, beta_fast=3.0, beta_slow=0.1, mscale=1.5, mscale_all_dim=0.5, truncate=False
        ),
    ),
    "llama_dynamic": LlamaConfig(
        **{**SIZES, "max_position_embeddings": 16},
        rope_parameters=dict(rope_type="dynamic", rope_theta=100.0, factor=4.0),
    ),
    "llama_bias": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "smollm2": LlamaConfig(**SIZES, tie_word_embeddings=True, rms_norm_eps=1e-5),
    "mistral": MistralConfig(**SIZES, sliding_window=7),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen2_window": Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
    "qwen2_yarn": Qwen2Config(**SIZES, rope_parameters=YARN_ROPE),
    "qwen3": Qwen3Config(**SIZES, head_dim=14),
    "qwen3_yarn": Qwen3Config(
        **SIZES,
        head_dim=14,
        rope_parameters=dict(
            rope_type="yarn", rope_theta=100.0, factor=2.0, beta_fast=8.0, attention_factor=1.3
        ),
    ),
    "granite": GraniteConfig(
        **SIZES,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        embedding_multiplier=6.0,
        attention_multiplier=0.2,
        residual_multiplier=0.5,
        logits_scaling=3.0,
    ),
    "olmo2": Olmo2Config(**SIZES, **TOKENS),
    "phi3": Phi3Config(**SIZES, **TOKENS, sliding_window=7),
    "phi3_partial": Phi3Config(
        **SIZES, **TOKENS, original_max_position_embeddings=32, rope_parameters=LONG_ROPE
    ),
    "phi3_long": Phi3Config(
        **SIZES,
        **TOKENS,
        original_max_position_embeddings=1,
        rope_parameters=dict(LONG_ROPE, attention_factor=1.2),
    ),
    "phi3_longrope": Phi3Config(
        **SIZES, **TOKENS, original_max_position_embeddings=16, rope_parameters=LONG_ROPE
    ),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=5, num_experts_per_tok=2),
    "qwen2_moe": Qwen2MoeConfig(**SIZES, **EXPERTS, shared_expert_intermediate_size=28),
    # Block 0 has a single MLP.
    "qwen3_moe": Qwen3MoeConfig(
        **SIZES, **EXPERTS, head_dim=14, decoder_sparse_step=2, norm_topk_prob=True
    ),
    "gemma2": Gemma2Config(**GEMMA, attn_logit_softcapping=2.0, final_logit_softcapping=4.0),
    "gemma3": Gemma3TextConfig(
        **GEMMA,
        sliding_window_pattern=2,
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=1000.0, factor=4.0),
            sliding_attention=dict(rope_type="default", rope_theta=100.0),
        ),
    ),
}

PROMPTS = [
    "The lighthouse keeper wrote in her diary that the storm",
    "To boil an egg, you first",
    "def add(a, b):\n    return",
    "In the year when the bridge was finished,",
    "Three reasons to walk to work are",
    "Water freezes at",
    "The committee could not agree on a colour, so",
    "List of fruits: apple, pear,",
    "A triangle has three sides and",
    "Once the train had left the station, nobody",
    "Dear neighbour, thank you for",
    "The square of 12 is",
    "Old maps show a river where today",
    "import os\n\nfor name in os.listdir('.'):\n",
    "My favourite season is autumn because",
    "The doctor asked the patient whether",
    "If it rains tomorrow, we will",
    "Der Zug nach Hamburg",
    "Question: What is the capital of France?\nAnswer:",
    "She opened the letter slowly and",
]

TEXT = (
    "The harbour town of Velden grew around a single quay. Fishing boats came in at dawn, "
    "and by eight the market was over. People who visit today see cranes and containers, but "
    "the oldest houses still face the water, with narrow doors and wide cellars. In the cellars "
    "salt was kept, because salt was money: a barrel of herring could travel for a year. When "
    "the railway arrived in 1871 the trade moved inland, and for two generations the town was "
    "quiet. A school, a small hospital and a brickworks kept it alive. The brickworks burned "
    "12,000 bricks a day and used the clay of the river bank until the bank gave way in a wet "
    "spring. Nobody was hurt, although the foreman lost his hat and, as he liked to tell, his "
    "trust in geology. After the war engineers built a dam two miles upstream. The river became "
    "a lake with sailing clubs, and the town learned to live from visitors. What remains of the "
    "quay is now a row of restaurants. If you ask for herring you will get it, but it comes from "
    "Norway, frozen, in boxes of plastic. Old people laugh about it. Young people have moved to "
    "the city, an hour away by train, and return at weekends with laundry and opinions. Every "
    "August there is a race of home-made rafts. The rules are simple: no engine, no sail, no "
    "more than four people, and everything that floats at the start must be brought home again. "
    "Last year the winning raft was made of 240 milk bottles and a door. "
)


def old_spelling(config) -> dict:
    """The config in the spelling of transformers 4: theta beside rope_scaling."""
    old = dict(config)
    rope = old.pop("rope_parameters")
    if "full_attention" in rope:
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    old["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        old["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    kind = rope.pop("rope_type")
    old["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    old["torch_dtype"] = old.pop("dtype")
    return old


def lengths_truth(model, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Logits of what a model computes piece by piece, as one that has seen nothing before.

    prefix_logits [b, t, vocab]: at the end of the first 1, 2, .. t tokens, without a cache;
    step_logits [b, t - 10 + 1, vocab]: after 10 tokens at once and then one by one.
    """

    def last(fresh, tokens, **cache):
        result = fresh(tokens, **cache)
        return result.logits[:, -1], result

    with torch.no_grad():
        prefixes = [last(copy.deepcopy(model), ids[:, : n + 1])[0] for n in range(ids.shape[1])]
        stepped = copy.deepcopy(model)
        logits, result = last(stepped, ids[:, :10], use_cache=True)
        steps = [logits]
        for i in range(10, ids.shape[1]):
            logits, result = last(
                stepped, ids[:, i : i + 1], past_key_values=result.past_key_values, use_cache=True
            )
            steps.append(logits)
    return {"prefix_logits": torch.stack(prefixes, 1), "step_logits": torch.stack(steps, 1)}


def by_layer(config, name: str, gradient: torch.Tensor) -> dict[str, torch.Tensor]:
    """A parameter's gradient under the names of the layers that it holds the rows of."""
    if config.model_type == "mixtral":
        name = name.replace(".mlp.", ".block_sparse_moe.")
    if ".experts." in name:  # [experts, m, n] of all of them
        leaves = ("w1", "w3", "w2") if config.model_type == "mixtral" else MLP
        parent, _, leaf = name.rpartition(".")
        return {
            f"{parent}.{expert}.{own}.weight": part.clone()
            for expert, weight in enumerate(gradient)
            for own, part in (
                zip(leaves, weight.chunk(2)) if leaf == "gate_up_proj" else [(leaves[2], weight)]
            )
        }
    head_dim = config.hidden_size // config.num_attention_heads
    q, kv = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    fused = {
        ".qkv_proj.": dict(q_proj=q, k_proj=kv, v_proj=kv),
        ".gate_up_proj.": dict(
            gate_proj=config.intermediate_size, up_proj=config.intermediate_size
        ),
    }
    for leaf, rows in fused.items():
        if leaf in name:
            parts = gradient.split(list(rows.values()))
            return {name.replace(leaf, f".{own}."): p.clone() for own, p in zip(rows, parts)}
    return {name: gradient.clone()}


def random_model(config, seed: int):
    """A model in which norms and biases count too."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # Gemma's weights are distances from 1
                shift = 1.0 if config.model_type.startswith("gemma") else 0.0
                parameter.uniform_(0.5 - shift, 1.5 - shift)
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    return model


def make_family(config, out: Path) -> None:
    config._attn_implementation = "eager"
    model = random_model(config, len(out.name))
    model.save_pretrained(out)
    saved = json.loads((out / "config.json").read_text())
    (out / "config_v4.json").write_text(json.dumps(old_spelling(saved)))

    ids = torch.randint(0, config.vocab_size, (2, 24))
    pieces = lengths_truth(model, ids)
    result = model(ids)
    loss = torch.nn.functional.cross_entropy(
        result.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    loss.backward()
    truth = {"ids": ids, "logits": result.logits.detach(), "loss": loss.detach(), **pieces}
    for name, parameter in model.named_parameters():
        for layer, gradient in by_layer(config, name, parameter.grad).items():
            truth["grad." + layer] = gradient

    # A batch of unequal lengths, padded on the right: truth row by row.
    lengths = [5, 24, 1, 13]
    padded = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    last = []
    for row, length in enumerate(lengths):
        sequence = torch.randint(0, config.vocab_size, (1, length))
        padded[row, :length] = sequence[0]
        with torch.no_grad():
            last.append(model(sequence).logits[0, -1])
    truth |= {
        "padded": padded,
        "lengths": torch.tensor(lengths),
        "last_logits": torch.stack(last),
    }
    with torch.no_grad():
        half = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16).eval()
        truth["logits_bfloat16"] = half(ids).logits.float()
    save_file(truth, out / "truth.safetensors")


def load_smollm2() -> LlamaForCausalLM:
    """from_pretrained(gguf_file=...) without its need of the accelerate package."""
    config = AutoConfig.from_pretrained(SMOLLM2.parent, gguf_file=SMOLLM2.name)
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).float().eval()
    stored = load_gguf_checkpoint(str(SMOLLM2), return_tensors=True, model_to_load=model)
    missing = model.load_state_dict(stored["tensors"], strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, missing
    model.tie_weights()
    return model


def make_smollm2(out: Path) -> None:
    out.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2.parent, gguf_file=SMOLLM2.name)
    model = load_smollm2()
    text = tokenizer(TEXT * 3)["input_ids"][:512]
    assert len(text) == 512
    truth = {"text_ids": torch.tensor([text])}
    with torch.no_grad():
        truth["text_logits"] = model(truth["text_ids"]).logits[0, ::8].clone()
        prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
        width = max(map(len, prompts))
        # Left padding, as generation in batches wants it.
        padded = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        model.generation_config.eos_token_id = None
        answers = model.generate(
            input_ids=padded,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=64,
            pad_token_id=0,
        )
    truth["prompts"] = padded
    truth["prompt_lengths"] = mask.sum(1)
    truth["answers"] = answers[:, width:].contiguous()
    save_file(truth, out / "truth.safetensors")


def make(out: Path) -> None:
    for name, config in FAMILIES.items():
        make_family(config, out / "families" / name)
    if SMOLLM2.exists():
        make_smollm2(out / "smollm2")
