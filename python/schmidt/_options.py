"""Options of the verbs, written by scripts/python_options.py: what the command line takes."""

import os
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch
from typing_extensions import Required

StrPath = str | os.PathLike[str]


class CompressOptions(TypedDict, total=False):
    #: Replace the checkpoint that schmidt wrote there
    force: bool
    #: Share of the whole model's parameters that stays, (0, 1]
    keep: float | None
    #: Instead of --keep: bytes of the weights' file, 80MB or 1.5GB, spent on the forms of each
    #: layer that are predicted to lose the least
    size: str | float | None
    #: The same as a share: bits of the file over the original's parameters
    bits_per_weight: float | None
    #: Instead of --keep: how many times as fast as its original the model shall be on this
    #: machine, by the measured time of every form
    speedup: float | None
    #: --speedup: of decode, a token at a time, or of prefill, reading a prompt (decode)
    speed_of: Literal["decode", "prefill"] | None
    #: --speedup: sequences computed at once (1)
    batch: int | None
    #: --speedup: tokens of a prompt that is read (512)
    n_prompt: int | None
    #: --size: weights of a row that share a scale (0: 32, 64 and 128 compete) (0)
    group: int | None
    #: --size: integers with zero points, or symmetric about zero without (asymmetric)
    scheme: Literal["asymmetric", "symmetric"] | None
    #: --size: forms that compete: integers, low-rank (factors in integers), sums (both), factors
    #: (as they are); auto: integers, and for bytes those with ranks where they are predicted to
    #: lose far less, for time factors (auto)
    forms: (Literal["auto", "integers", "low-rank", "sums", "factors"] | Sequence[Literal["auto",
        "integers", "low-rank", "sums", "factors"]] | None)
    #: learned: steps of each block (100)
    steps: int | None
    #: Instead of --keep: one bond dimension for every cut
    bond: int | None
    #: Instead of --keep: a plan made by schmidt plan
    plan: StrPath | None
    #: A compressed checkpoint, whose recipe is followed again
    recipe: StrPath | None
    #: Sites of each MPO (2)
    sites: int | None
    #: How indices are split: balanced, or low-rank, (m,1)x(1,n); fisher and whitened know low-
    #: rank only
    shape: Literal["balanced", "low-rank"] | None
    #: Sites by hand: row sub-dimensions, a,b,..
    out_dims: int | Sequence[int] | None
    #: Sites by hand: column sub-dimensions, a,b,..
    in_dims: int | Sequence[int] | None
    #: How cores are found; auto takes for each layer what loses the least (default: fisher with
    #: --keep, learned with --size, tt-svd with --bond)
    method: (Literal["tt-svd", "whitened", "als", "gauss-newton", "fisher", "sum", "auto",
        "nearest", "searched", "gptq", "yaqa", "learned"] | None)
    #: fisher, auto: give more to layers that lose more (sensitivity), or the same share to all
    #: (uniform), as the other methods do
    allocation: Literal["sensitivity", "uniform"] | None
    #: --keep, --size, --speedup: neurons: MLPs may lose neurons, the down projection fitted anew
    #: to those that are kept; low-rank: all layers stay of full size, but for their ranks
    #: (low-rank)
    mlp: Literal["low-rank", "neurons"] | None
    #: Use one basis for layers that read the same input: q, k, v; gate, up
    share_inputs: bool
    #: Store the fixed gauge, without redundant numbers, or the full gauge (fixed)
    gauge: Literal["fixed", "full"] | None
    #: Text, .jsonl and .json files in equal parts; "self": sampled from the model (self)
    calibration: StrPath | Sequence[StrPath] | None
    #: Tokens of the calibration text to use (49152)
    calibration_tokens: int | None
    #: Tokens in a window of the calibration text (512)
    calibration_context: int | None
    #: Leave out broken lines of .jsonl and .json files
    skip_bad: bool
    #: Folder in which the statistics of calibration are kept for another run
    statistics: StrPath | None
    #: How far a layer's target follows the activation mismatch of its inputs, 0 to 1 (0.5)
    drift: float | None
    #: Added to the gradient's moments, relative to their mean (0.05)
    damping: float | None
    #: Added to the inputs' moments, relative to their mean (0.0001)
    ridge: float | None
    #: als: at most so many sweeps over the sites, each there and back (4)
    sweeps: int | None
    #: gauss-newton, sum, auto: at most so many rounds, each on all cores at once (6)
    rounds: int | None
    #: tt-svd, als, gauss-newton: take a smaller bond where the relative error of the first
    #: truncation stays below this
    tolerance: float | None
    #: Layers to take: names, ends of names, L1..L7, patterns, re:EXPRESSION
    layers: str | float | Sequence[str | float] | None
    #: Layers to leave alone, "none" for nothing (default: L7 unless calibrated)
    ignore: str | float | Sequence[str | float] | None
    #: Where to compute
    device: Literal["cpu", "cuda"] | torch.device | None
    #: Number format of the computation
    dtype: Literal["float32", "bfloat16"] | torch.dtype | None
    #: CPU threads (0: one for each core)
    threads: int | None
    #: Seed of everything that is random
    seed: int | None


class QuantizeOptions(TypedDict, total=False):
    #: Replace the checkpoint that schmidt wrote there
    force: bool
    #: Bits of a weight: 8, 6, 5, 4, 3 or 2
    bits: Required[Literal[8, 6, 5, 4, 3, 2]]
    #: Weights of a row that share a scale (0: the whole row) (64)
    group: int | None
    #: With zero points, symmetric about zero without, or NF4 of bitsandbytes (4 bits)
    #: (asymmetric)
    scheme: Literal["asymmetric", "symmetric", "nf4"] | None
    #: Bits of embedding and output layer (16: as they are) (8)
    embedding_bits: Literal[16, 8, 6, 5, 4, 3, 2] | None
    #: How weights are rounded (default: nearest with 8 bits and NF4, else learned)
    method: Literal["nearest", "searched", "gptq", "yaqa", "learned"] | None
    #: learned: steps of each block (100)
    steps: int | None
    #: Layers to take: dense (the default: all that are), all (low ranks of compress too), names,
    #: ends of names, L1..L7, patterns, re:EXPRESSION
    layers: str | float | Sequence[str | float] | None
    #: Text, .jsonl and .json files in equal parts; "self": sampled from the model (self)
    calibration: StrPath | Sequence[StrPath] | None
    #: Tokens of the calibration text to use (49152)
    calibration_tokens: int | None
    #: Tokens in a window of the calibration text (512)
    calibration_context: int | None
    #: Leave out broken lines of .jsonl and .json files
    skip_bad: bool
    #: Folder in which the statistics of calibration are kept for another run
    statistics: StrPath | None
    #: Where to compute
    device: Literal["cpu", "cuda"] | torch.device | None
    #: Number format of the computation
    dtype: Literal["float32", "bfloat16"] | torch.dtype | None
    #: CPU threads (0: one for each core)
    threads: int | None
    #: Seed of everything that is random
    seed: int | None


class HealOptions(TypedDict, total=False):
    #: The original model
    teacher: StrPath | None
    #: Conversations (.jsonl) and plain text files
    data: Required[StrPath | Sequence[StrPath]]
    #: Continue unfinished work, if there is any
    resume: bool
    #: Replace the checkpoint that schmidt wrote there, and drop unfinished work
    force: bool
    #: Training tokens in all: 200000, 200k, 1M (1M)
    tokens: str | float | None
    #: Share of the tokens for each file (default: equal shares)
    mix: float | Sequence[float] | None
    #: Tokens of a sequence (512)
    context: int | None
    #: Which tokens of conversations count in the loss (all)
    loss_on: Literal["all", "assistant"] | None
    #: Sequences kept for measuring, never trained on (16)
    held_out: int | None
    #: Leave out broken lines of .jsonl files
    skip_bad: bool
    #: What is trained: factors (cores and scales), codes (of integers of few bits), zeros (their
    #: zero points), dense, norms, embedding (where it is dense)
    train: (Literal["factors", "codes", "zeros", "dense", "norms", "embedding"] |
        Sequence[Literal["factors", "codes", "zeros", "dense", "norms", "embedding"]] | None)
    #: Weight of the next token's cross entropy (0.3)
    cross_entropy: float | None
    #: Weight of the KL divergence from the teacher (0.7)
    kl: float | None
    #: First store the teacher's K likeliest tokens of every position, then train without it in
    #: memory
    top_k: int | None
    #: Sequences of a step (4)
    batch: int | None
    #: Sequences of one pass, whose gradients add up (default: all of a step)
    micro_batch: int | None
    #: Run every block twice instead of keeping what it computes
    checkpointing: bool
    #: Peak learning rate of the model level (0.0002)
    learning_rate: float | None
    #: Share of the steps in which the learning rate rises (0.1)
    warmup: float | None
    #: Share of the peak learning rate that is left at the end (0)
    final_share: float | None
    #: Decay of AdamW's second moment (0.95)
    beta2: float | None
    #: Weight decay of matrices and cores (0)
    weight_decay: float | None
    #: Largest norm of the gradient (0: no limit) (1)
    clip: float | None
    #: Tokens spent on the block level, which comes before the model level (0)
    block_tokens: str | float | None
    #: Passes of a block over its tokens (1)
    block_epochs: int | None
    #: Peak learning rate of the block level (0.0001)
    block_learning_rate: float | None
    #: Steps between evaluations of the held-out sequences (25)
    evaluate_every: int | None
    #: End the run after so many evaluations without a better loss
    patience: int | None
    #: Minutes between saved states (10)
    save_minutes: float | None
    #: Spread the model's blocks over so many ranks; the others share the sequences (1)
    stages: int | None
    #: End where another rank does not answer for so many seconds (600)
    deadline: float | None
    #: Where to compute
    device: Literal["cpu", "cuda"] | torch.device | None
    #: Number format of the computation
    dtype: Literal["float32", "bfloat16"] | torch.dtype | None
    #: CPU threads (0: one for each core)
    threads: int | None
    #: Seed of everything that is random
    seed: int | None

