"""Truths of tokenizers, sentencepiece and transformers for tests/text.

Texts are stored as hexadecimal lines, so that any bytes survive; ids as lines of
decimal numbers. Nothing here comes from a data set except where ../shared/data is.

Run as a program, `text.py check FOLDER LINES IDS`, it compares what AutoTokenizer
makes of a saved folder with stored ids.
"""

import json
import random
import sys
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / ".." / "shared" / "data"
SMOLLM2 = ROOT / "models" / "smollm2.gguf"

LINES = 20_000
SPLIT_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT_QWEN2 = SPLIT_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# ---------------------------------------------------------------------------- lines

WORDS = """the of and to in is that for it as was with be by on not he his but at are this have
from or had an they which one you were all her she there would their we him been has when who
will no more if out so up said what its about than into them can only other time new some could
these two may first then do any like my now over such our man me even most made after also did
many off before must well back through years where much your way down should because long each
tensor network bond core contraction singular value decomposition entanglement entropy compress
naïve façade Zürich Übergröße déjà señor Łódź İstanbul straße œuvre coöperate žluťoučký кот
программа Ελλάδα ψυχή Հայաստան საქართველო antidisestablishmentarianism I'm you'll they've WE'RE
don't DON'T he'd it's IT'S 'tis o'clock rock'n'roll""".split()
CODE = [
    "def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {", "\tif (a != b) break;\n",
    "x->y[0] = *p++;", "std::vector<std::string> v{\"a\", \"b\"};", "print(f\"{x:>10.3f}\")",
    "SELECT * FROM t WHERE a >= 10;", "<div class=\"a\">&nbsp;</div>", "#include <cstdio>\r\n",
    "}\n\n\n", "        # comment", "\\begin{equation}", "https://example.org/a?b=c&d=%20#e",
    "/* ... */", "a&&b||!c", "0xDEADBEEF", "import numpy as np\n", "```json\n{\"k\": [1, 2.5e-3]}\n```",
    "$HOME/.config", "C:\\temp\\x.txt", "user@example.org", "__init__", "camelCaseName", "SNAKE_CASE",
]
EMOJI = [
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "🧑🏿‍🚀", "❤️", "☃", "✅", "🤷‍♂️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©", "™", "🫠",
]
MARKS = ["e\u0301", "a\u0323\u0302", "o\u0302\u0323", "Z͑ͫ̓ͪ̂ͫ", "क्षि", "நி", "กำ", "ȩ̣", "\u0315x", "가", "각", "Å", "Ω",
         "ﬁ", "²", "½", "Ⅷ", "①", "ﷺ", "ｱﾞ", "\u0958", "\u2126", "\u0344", "\u1e9b\u0323"]
CJK = ["中文分詞", "日本語のテキスト。", "한국어 문장", "漢字かな交じり文", "，。！？", "「引用」", "𠮷野家", "㍿", "𪜀", "々〆", "１２３", "ㄅㄆㄇ"]
RIGHT_TO_LEFT = ["שלום עולם", "مرحبا بالعالم", "بِسْمِ", "فارسی‌زبان", "\u200fאב\u200e", "١٢٣٤", "۱۲۳", "ܫܠܡܐ", "𞤀𞤁"]
SPACES = [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", "\u00a0", "\u2028", "\u2029", "\u3000", "\u200b",
          "\u2009", "\u202f", "\u1680", "\u180e", "\ufeff", "\u0085", "\x0b", "\x0c", "\u2060", " \n ", "     ",
          " " * 17, "\x1c", "\x00", "\u200d"]
NUMBERS = ["0", "1", "42", "007", "3.14159", "1,000,000", "12345678901234567890", "-17", "1e-5", "½", "٣", "Ⅻ", "x2", "2x",
           "1st", "١٢", "5️", "¹²³", "৪৫", "𝟙𝟚", "2026-11-22", "12:34:56", "100%", "$9.99"]
SPECIAL = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<pad>",
           "<|begin_of_text|>", "<|eot_id|>", "[INST]", "<|strip|>", "<|word|>", "ＮＯＲＭ", "tool_call"]
LOOK_ALIKES = ["<|im_start|", "|im_end|>", "< s>", "<s", "s>", "</ s>", "<S>", "<0x0A>", "<0xFF>", "▁", "▁▁the", "Ġthe", "Ċ",
               "<|im_start|><|im_start|", "<<s>>", "<|im_start|>user\n", "<unk><unk>", "<s></s>", " <s> ", "<|endoftext|>.",
               "a<|word|>b", " <|word|> ", "  <|strip|>  ", "<|endof<|endoftext|>text|>", "norm", "NORM", "<file_sep>"]
BANKS = [CODE, EMOJI, MARKS, CJK, RIGHT_TO_LEFT, SPACES, NUMBERS, SPECIAL, LOOK_ALIKES]


def random_character(rng: random.Random) -> str:
    while True:
        top = rng.choice([0x80, 0x250, 0x3000, 0xFFFF, 0x1FFFF, 0x323FF, 0x10FFFF])
        code = rng.randrange(top + 1)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def make_text(rng: random.Random) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return " ".join(rng.choices(WORDS, k=rng.randrange(1, 16)))
    if kind == 1:
        return "".join(rng.choices(rng.choice(BANKS), k=rng.randrange(1, 6)))
    if kind == 2:
        return "".join(random_character(rng) for _ in range(rng.randrange(1, 16)))
    if kind == 3:  # one alphabet of digits, quotes, letters and spaces, thoroughly mixed
        return "".join(rng.choices("ab'sS tT9 0\n\r.-ſß é", k=rng.randrange(1, 24)))
    parts = []
    for _ in range(rng.randrange(1, 9)):
        parts.append(rng.choice(rng.choice(BANKS)) if rng.random() < 0.6 else rng.choice(WORDS))
        if rng.random() < 0.5:
            parts.append(rng.choice(SPACES) if rng.random() < 0.3 else " ")
    return "".join(parts)


def damage(rng: random.Random, text: bytes) -> bytes:
    data = bytearray(text)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.5 and at < len(data):
            data[at] = rng.randrange(256)
        elif rng.random() < 0.5:
            del data[at:]
        else:
            data[at:at] = bytes(rng.choices([0xC0, 0xE2, 0xED, 0xA0, 0xF0, 0x9F, 0xF5, 0xFF, 0x80], k=2))
    return bytes(data)


def make_lines() -> list[bytes]:
    rng = random.Random(2026)
    lines = [b"", b" ", b"\x00", b"a", b"a" * 3000, b" " * 2000, b"\n" * 500, "é".encode() * 700]
    for path, count in [("text/wiki.test.raw", 2500), ("chat/valid.jsonl", 1500)]:
        if (DATA / path).exists():
            found = (DATA / path).read_bytes().splitlines(keepends=True)
            lines += rng.sample(found, min(count, len(found)))
    while len(lines) < LINES:
        text = make_text(rng).encode()
        lines.append(damage(rng, text) if rng.random() < 0.12 else text)
    return [line[:4000] for line in lines]


# ----------------------------------------------------------------------- tokenizers


def smollm2() -> Tokenizer:
    """The GGUF's vocabulary and merges under Digits and ByteLevel."""
    import gguf

    fields = gguf.GGUFReader(SMOLLM2).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = fields["tokenizer.ggml.token_type"].contents()
    tokenizer.add_special_tokens([t for t, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def corpus() -> list[str]:
    rng = random.Random(7)
    return [make_text(rng) for _ in range(6000)]


def trained(pre_tokenizer, normalizer=None, byte_level=True, **model) -> Tokenizer:
    """A byte-pair vocabulary of 2,000 tokens."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel() if byte_level else decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, show_progress=False, special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if byte_level else [],
        limit_alphabet=300,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens(
        [
            AddedToken("<|strip|>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("<|word|>", single_word=True, normalized=False),
            AddedToken("tool_call", normalized=False),
            AddedToken("ＮＯＲＭ", normalized=True),
        ]
    )
    return tokenizer


def split_and_bytes(pattern: str):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )


def llama3_style() -> Tokenizer:
    tokenizer = trained(split_and_bytes(SPLIT_LLAMA3), ignore_merges=True)
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
            ),
        ]
    )
    return tokenizer


def byte_fallback_style() -> Tokenizer:
    """Mistral's newer form: Metaspace on the first piece only, bytes for the rest."""
    tokenizer = trained(
        pre_tokenizers.Metaspace(prepend_scheme="always", split=True), byte_level=False, unk_token="<unk>"
    )
    data = json.loads(tokenizer.to_str())
    vocab = data["model"]["vocab"]
    for entry in data["added_tokens"]:
        vocab.setdefault(entry["content"], entry["id"])
    for byte in range(256):  # the look-alikes may have made some of them tokens already
        vocab.setdefault(f"<0x{byte:02X}>", max(vocab.values()) + 1)
    data["model"] |= {"byte_fallback": True, "fuse_unk": True}
    data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    data["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    return Tokenizer.from_str(json.dumps(data))


TRAINED = {
    "gpt2_style": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "gpt2_prefix_style": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "llama3_style": llama3_style,
    "qwen2_style": lambda: trained(split_and_bytes(SPLIT_QWEN2), normalizers.NFC()),
    "nfkc_style": lambda: trained(
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()]),
    ),
    "byte_fallback_style": byte_fallback_style,
    "unknown_style": lambda: trained(
        pre_tokenizers.Metaspace(), byte_level=False, unk_token="<unk>", fuse_unk=False
    ),
    "fused_unknown_style": lambda: trained(
        pre_tokenizers.Metaspace(split=False), byte_level=False, unk_token="<unk>", fuse_unk=True
    ),
}


# The words of llama.cpp's pre-tokenizers (src/llama-vocab.cpp): expressions that cut one after
# the other, and the normal form of the models that use them.
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-\u1f15\u1f18-\u1f1d"
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc"
    "\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    "𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
PRE_TOKENIZERS = {
    "gpt-2": ([GPT2_WORDS], None),
    "mpt": ([GPT2_WORDS], "NFC"),
    "smollm": ([r"\p{N}", GPT2_WORDS], None),
    "starcoder": ([r"\p{N}", GPT2_WORDS], None),
    "refact": ([r"\p{N}", GPT2_WORDS], None),
    "command-r": ([r"\p{N}", GPT2_WORDS], "NFC"),
    "llama-bpe": ([SPLIT_LLAMA3], None),
    "qwen2": ([SPLIT_QWEN2], "NFC"),
    "deepseek-r1-qwen": ([SPLIT_QWEN2], "NFC"),
    "qwen35": (
        [
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
            r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ],
        "NFC",
    ),
    "deepseek-llm": (
        ["[\r\n]", rf"\s?[{CASED}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}+"],
        None,
    ),
    "deepseek-coder": (["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"], None),
    "deepseek-v3": (
        [
            r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        None,
    ),
    "falcon": ([r"[\p{P}\$\+<=>\^~\|`]+", GPT2_WORDS, "[0-9][0-9][0-9]"], None),
    "default": ([r"[\p{P}\$\+<=>\^~\|]+", GPT2_WORDS, r"\p{N}+", "[0-9][0-9][0-9]"], None),
}


def write_pre_tokenizers(out: Path, texts: list[str]) -> None:
    """Ids of one vocabulary whose merges heed no border, so that every cut shows."""
    tokenizer = trained(pre_tokenizers.ByteLevel(False, use_regex=False))
    (out / "uncut").mkdir()
    tokenizer.save(str(out / "uncut" / "tokenizer.json"))
    plain = json.loads(tokenizer.to_str()) | {"added_tokens": []}
    for name, (patterns, form) in PRE_TOKENIZERS.items():
        cutter = Tokenizer.from_str(json.dumps(plain))
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
        cutter.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(False, use_regex=False)])
        if form is not None:
            cutter.normalizer = getattr(normalizers, form)()
        encoded = cutter.encode_batch(texts, add_special_tokens=False)
        write_ids(out / f"pre_{name}.ids", [e.ids for e in encoded])


# Folders of vocab.json and merges.txt: class, tokenizer_config.json and other files.
VOCABULARY_FOLDERS = {
    "gpt2_files": ("GPT2Tokenizer", {"tokenizer_class": "GPT2Tokenizer"}, {}),
    "gpt2_prefix_files": (
        "GPT2Tokenizer",
        {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True},
        {"special_tokens_map.json": {"bos_token": "<s>", "eos_token": {
            "content": "</s>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}}},
    ),
    "qwen2_files": (
        "Qwen2Tokenizer",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "added_tokens_decoder": {
                str(2000 + i): {"content": token, "special": i < 3, "lstrip": False, "rstrip": False,
                                "normalized": False, "single_word": i == 3}
                for i, token in enumerate(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|word|>", "tool_call"])
            },
        },
        {},
    ),
    "qwen2_old_files": (
        "Qwen2Tokenizer",
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "eos_token": "<|im_end|>"},
        {
            "config.json": {"model_type": "qwen2"},
            "added_tokens.json": {"<|endoftext|>": 2000, "<|im_start|>": 2001, "<|im_end|>": 2002, "tool_call": 2003},
        },
    ),
    "qwen35_files": ("Qwen3_5Tokenizer", {"tokenizer_class": "Qwen3_5Tokenizer"}, {}),
    "gpt_neox_files": ("GPTNeoXTokenizer", {"tokenizer_class": "GPTNeoXTokenizer"}, {}),
}


def write_vocabulary_folders(out: Path, texts: list[str]) -> None:
    """Ids of transformers' classes of tokenizers without a tokenizer.json."""
    import transformers

    model = json.loads((out / "uncut" / "tokenizer.json").read_text())["model"]
    # Special tokens lie beside the vocabulary: none comes out of merges.
    vocabulary: dict[str, int] = {}
    for token in model["vocab"]:
        if len(token) == 1:
            vocabulary[token] = len(vocabulary)
    merges = []
    for left, right in model["merges"]:
        token = left + right
        if left in vocabulary and right in vocabulary and token not in SPECIAL:
            vocabulary.setdefault(token, len(vocabulary))
            merges.append((left, right))
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    for name, (class_name, config, others) in VOCABULARY_FOLDERS.items():
        folder = out / name
        folder.mkdir()
        size = len(vocabulary)
        shifted = json.loads(json.dumps([config, others]))
        decoder = shifted[0].get("added_tokens_decoder", {})
        if decoder:
            shifted[0]["added_tokens_decoder"] = {str(size + int(i) - 2000): t for i, t in decoder.items()}
        added = shifted[1].get("added_tokens.json", {})
        for token in added:
            added[token] += size - 2000
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n" + lines)
        (folder / "tokenizer_config.json").write_text(json.dumps(shifted[0]))
        for file, content in shifted[1].items():
            (folder / file).write_text(json.dumps(content))
        build = getattr(transformers, class_name)
        # transformers 5.23 does not find the files of the newest class.
        loads = class_name != "Qwen3_5Tokenizer"
        tokenizer = build.from_pretrained(folder) if loads else build(vocab=vocabulary, merges=merges)
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        write_ids(out / f"{name}.ids", encoded)


def real_tokenizers() -> dict[str, Tokenizer]:
    found = {}
    for name, folder in [("tinyllama", "tinyllama-1.1b-3T"), ("mistral", "mistral-7b-v0.1")]:
        path = DATA / "tokenizers" / folder / "tokenizer.json"
        if path.exists():
            found[name] = Tokenizer.from_file(str(path))
    if SMOLLM2.exists():
        found["smollm2"] = smollm2()
    return found


def write_ids(path: Path, rows: list[list[int]]) -> None:
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def write_hex(path: Path, rows: list[bytes]) -> None:
    path.write_text("".join(row.hex() + "\n" for row in rows))


def id_rows(tokenizer: Tokenizer, encoded: list[list[int]], rng: random.Random) -> list[list[int]]:
    """Rows to decode: some that come from text, and rows that no text gives."""
    known = sorted(tokenizer.get_vocab().values())
    short = [i for i in known if len(tokenizer.id_to_token(i)) <= 2 or tokenizer.id_to_token(i).startswith("<0x")]
    rows = rng.sample(encoded, 3000)
    for _ in range(3000):
        bank = known if rng.random() < 0.5 else short
        rows.append(rng.choices(bank, k=rng.randrange(0, 30)))
    return rows


def write_truths(out: Path, name: str, tokenizer: Tokenizer, texts: list[str]) -> None:
    encoded = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    write_ids(out / f"{name}.ids", encoded)
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode_batch(texts[-4000:], add_special_tokens=False)
    tokenizer.encode_special_tokens = False
    write_ids(out / f"{name}.plain_ids", [e.ids for e in plain])
    framed = tokenizer.encode_batch(texts[:50], add_special_tokens=True)
    write_ids(out / f"{name}.framed_ids", [e.ids for e in framed])
    rows = id_rows(tokenizer, encoded, random.Random(5))
    write_ids(out / f"{name}.rows", rows)
    for skip in (False, True):
        decoded = tokenizer.decode_batch(rows, skip_special_tokens=skip)
        write_hex(out / f"{name}.decoded_{'skip' if skip else 'all'}", [d.encode() for d in decoded])


# ----------------------------------------------------------------------- components


def ranges(members: list[int]) -> list[list[int]]:
    result: list[list[int]] = []
    for code in members:
        if result and result[-1][1] == code - 1:
            result[-1][1] = code
        else:
            result.append([code, code])
    return result


def character_classes() -> dict[str, list[list[int]]]:
    """Which characters each regular expression of one character matches."""
    codes = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    classes = {}
    for pattern in [r"\s", r"\S", r"\w", r"\d", r"\p{L}", r"\p{N}", r"\p{M}", r"\p{Lu}", r"\p{Ll}", r"[^\s\p{L}\p{N}]",
                    r"[\S]", r"[^\w\s]", r"\P{L}"]:
        split = pre_tokenizers.Split(Regex(pattern), "removed")
        members = []
        for start in range(0, len(codes), 50_000):
            block = codes[start : start + 50_000]
            kept = set()
            for _, (begin, end) in split.pre_tokenize_str("".join(map(chr, block))):
                kept.update(range(begin, end))
            members += [c for i, c in enumerate(block) if i not in kept]
        classes[pattern] = ranges(members)
    return classes


def punctuation() -> list[list[int]]:
    """Which characters the Punctuation pre-tokenizer cuts out."""
    cutter = pre_tokenizers.Punctuation()
    codes = (c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000)
    return ranges([c for c in codes if len(cutter.pre_tokenize_str(f"a{chr(c)}a")) == 3])


def normal_forms(out: Path, texts: list[str]) -> None:
    """Every assigned character between marks that reorder and compose, and the lines."""
    codes = [c for c in range(1, 0x32400) if not 0xD800 <= c < 0xF900] + list(range(0xE0000, 0xE0200))
    inputs = texts[:6000]
    for start in range(0, len(codes), 40):
        block = codes[start : start + 40]
        inputs.append("".join(f"a\u05b0{chr(c)}\u0315e\u0327{chr(c)}\u0302" for c in block))
    write_hex(out / "normal.lines", [t.encode() for t in inputs])
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        normalizer = getattr(normalizers, form)()
        write_hex(out / f"normal.{form}", [normalizer.normalize_str(t).encode() for t in inputs])


def state(component) -> dict:
    return json.loads(component.__getstate__())


def components(texts: list[str]) -> dict:
    """Small pieces alone: configuration, inputs, outputs."""
    sample = texts[8:600:3] + ["", " ", "a", "-", "--", "-a", "a-", "a--b", "--a--", " a  b ", "a - b", "▁a", "12a34"]
    cutters = [
        pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(),
        pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        cutters.append(pre_tokenizers.Punctuation(behavior))
        for invert in (False, True):
            cutters.append(pre_tokenizers.Split("-", behavior, invert))
            cutters.append(pre_tokenizers.Split(Regex(r"\s+|\p{N}"), behavior, invert))
            cutters.append(pre_tokenizers.Split(Regex(r"a*|(?i:s)"), behavior, invert))
            cutters.append(pre_tokenizers.Split(Regex(r"\b(?=\w)|$"), behavior, invert))
    for scheme in ("always", "first", "never"):
        for split in (False, True):
            cutters.append(pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split))
    cut = []
    for cutter in cutters:
        outputs = [[piece for piece, _ in cutter.pre_tokenize_str(t)] for t in sample]
        cut.append({"config": state(cutter), "inputs": sample, "outputs": outputs})
    rewriters = [
        normalizers.Prepend("▁"), normalizers.Replace(" ", "▁"), normalizers.Replace(Regex(r"\s{2,}"), " "),
        normalizers.Strip(), normalizers.Strip(left=True, right=False), normalizers.Lowercase(),
        normalizers.Sequence([normalizers.NFKD(), normalizers.Replace("e", "")]), normalizers.ByteLevel(),
    ]
    rewritten = [
        {"config": state(r), "inputs": sample, "outputs": [r.normalize_str(t) for t in sample]} for r in rewriters
    ]
    tokens = [["▁Hello", "▁", "▁▁wor", "ld▁"], ["<0xE2>", "<0x82>", "<0xAC>", "a"], ["<0xE2>", "<0x82>", "a", "<0x41>"],
              [], [""], ["▁"], ["▁▁", "a"], ["Ġhi", "Ã©", "Ã", "x y", "Ċ"], ["<0xFF>", "<0x41>"], [" a", "  b ", "c  "],
              ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0x0A>"], ["aa", "aab", "ba"], ["<0xzz>", "<0x4>", "<0x041>"]]
    writers = [
        decoders.ByteLevel(), decoders.ByteFallback(), decoders.Fuse(), decoders.Metaspace(),
        decoders.Metaspace(prepend_scheme="never"), decoders.Replace("▁", " "), decoders.Replace(Regex("a+"), "A"),
        decoders.Strip(" ", 1, 0), decoders.Strip(" ", 1, 1), decoders.Strip("a", 2, 1),
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex("a ?b"), "X"), decoders.Strip("X", 0, 1)]),
        decoders.Sequence([decoders.ByteLevel(), decoders.Strip("h", 1, 0)]),
    ]
    written = []
    for writer in writers:
        inputs, outputs = [], []
        for row in tokens:
            try:
                outputs.append(writer.decode(row))
            except BaseException as error:  # Strip panics where the two ends overlap
                if type(error).__name__ != "PanicException":
                    raise
                continue
            inputs.append(row)
        written.append({"config": state(writer), "inputs": inputs, "outputs": outputs})
    return {"pre_tokenizers": cut, "normalizers": rewritten, "decoders": written}


# ----------------------------------------------------------------------------- chat

ALTERNATE = (
    "{% if message['role'] == 'system' or (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
)
# Short forms of what the model cards publish: same output, same marks.
TEMPLATES = {
    # HuggingFaceH4/zephyr-7b-beta, TinyLlama/TinyLlama-1.1B-Chat-v1.0
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\\n' + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    # the form of many fine-tuned models
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    # Qwen/Qwen2-7B-Instruct
    "qwen2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    # Qwen/Qwen2.5-7B-Instruct, without tools
    "qwen2.5": "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] "
    "+ '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. "
    "You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}{%- for message in messages %}"
    "{%- if not (loop.first and message.role == 'system') %}{{- '<|im_start|>' + message.role + '\\n' "
    "+ message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
    # Qwen/Qwen3-8B, without tools
    "qwen3": "{%- set ns = namespace(found=false, last=messages|length - 1) %}{%- for message in messages[::-1] %}"
    "{%- if not ns.found and message.role == 'user' %}{%- set ns.found = true %}"
    "{%- set ns.last = messages|length - 1 - loop.index0 %}{%- endif %}{%- endfor %}{%- for message in messages %}"
    "{%- if message.role != 'assistant' %}{{- '<|im_start|>' + message.role + '\\n' + message.content "
    "+ '<|im_end|>\\n' }}{%- else %}{%- set content = message.content %}{%- set thought = '' %}"
    "{%- if '</think>' in content %}{%- set thought = content.split('</think>')[0].rstrip('\\n')"
    ".split('<think>')[-1].lstrip('\\n') %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}"
    "{%- endif %}{%- if loop.index0 > ns.last and (loop.last or thought) %}{{- '<|im_start|>assistant\\n<think>\\n' "
    "+ thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}{%- else %}"
    "{{- '<|im_start|>assistant\\n' + content }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}",
    # meta-llama/Llama-2-7b-chat-hf
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = "
    "'<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% else %}{% set rest = messages %}"
    "{% set system = '' %}{% endif %}{% for message in rest %}" + ALTERNATE + "{% if loop.first %}"
    "{% set content = system + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    # meta-llama/Meta-Llama-3-8B-Instruct
    "llama3": "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] "
    "+ '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    # meta-llama/Llama-3.1-8B-Instruct, without tools
    "llama3.1": "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}"
    "{%- set system = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}{%- else %}"
    "{%- set system = '' %}{%- endif %}{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}"
    "{{- 'Cutting Knowledge Date: December 2023\\n' }}{{- 'Today Date: 26 Jul 2024\\n\\n' }}{{- system }}"
    "{{- '<|eot_id|>' }}{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] "
    "+ '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}",
    # mistralai/Mistral-7B-Instruct-v0.1 and v0.2 as first published
    "mistral-v0.1": "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token + ' ' }}"
    "{% endif %}{% endfor %}",
    "mistral-v0.2": "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}"
    "{% endif %}{% endfor %}",
}
# What tunes of ChatML change, each a difference that plain ChatML does not have.
_TURN = "'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'"
_OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
_LOOP = "{% for message in messages %}{{ " + _TURN + " }}{% endfor %}"
TEMPLATES |= {
    "chatml-think": _LOOP + _OPEN.replace("assistant\\n", "assistant\\n<think>\\n"),
    "chatml-bos": "{{ bos_token }}" + _LOOP + _OPEN,
    "chatml-trim": _LOOP.replace("message['content']", "message['content'] | trim") + _OPEN,
    "chatml-lone-end": _LOOP.replace(" + '<|im_end|>' + '\\n'", " + '<|im_end|>'") + _OPEN,
    "chatml-default-in-variable": "{% set system = 'You are {kind}.' %}{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}{% endif %}"
    "{{ '<|im_start|>system\\n' ~ system ~ '<|im_end|>\\n' }}" + _LOOP + _OPEN,
    "chatml-spaces": "{%- for message in messages -%}\n    {# a turn #}\n    {%- if message.role != 'system' %}\n"
    "    <|im_start|>{{ message.role }}\n{{ message['content'] }}<|im_end|>\n    {% endif %}\n{% endfor %}\n"
    "{%+ if add_generation_prompt +%}\n<|im_start|>assistant\n{% endif %}\n",
    "chatml-macro": "{%- macro turn(role, content='') %}<|im_start|>{{ role }}\n{{ content | trim }}<|im_end|>\n"
    "{% endmacro %}{% set users = messages | selectattr('role', 'equalto', 'user') | list %}"
    "{% for message in messages if message.role in ['user', 'assistant'] %}{{ turn(message.role, content=message.content) }}"
    "{% if message == users[-1] %}{{ loop.index }} of {{ loop.length }}{% elif not loop.last %}{% continue %}{% endif %}"
    "{% generation %}{{ message.content.split('\\n')[0][:3] | tojson }}{% endgeneration %}{% else %}none{% endfor %}",
}
# As v0.2 was revised, v0.3 and Nemo: where the spaces and the system message are.
for _name, _open, _close, _before, _answer, _carries in [
    ("mistral-revised", '" [INST] "', '" [/INST]"', '" "', "message['content']", "loop.first"),
    ("mistral-v0.3", '"[INST] "', '"[/INST]"', '" "', "message['content'] | trim", "loop.last"),
    ("mistral-nemo", '"[INST]"', '"[/INST]"', '""', "message['content']", "loop.last"),
]:
    TEMPLATES[_name] = (
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
        "{%- set messages = messages[1:] %}{%- endif %}{{- bos_token }}{%- for message in messages %}" + ALTERNATE +
        "{%- if message['role'] == 'user' %}{%- if system is defined and " + _carries + " %}{{- " + _open +
        " + system + '\\n\\n' + message['content'] + " + _close + " }}{%- else %}{{- " + _open +
        " + message['content'] + " + _close + " }}{%- endif %}{%- else %}{{- " + _before + " + " + _answer +
        " + eos_token }}{%- endif %}{%- endfor %}"
    )

CONVERSATIONS = [
    "u:Hello", "s:Be brief.|u:Hello", "u:Hi|a:Hello! How can I help?|u: What is a tensor? \n",
    "s: You speak Latin. |u:Quid est?|a: Nescio. |u:Cur?|a:Quia.|u:Bene.", "u:a|a:b", "s:x|u:a|a: b \n",
    "u:2+2?|a:<think>\nTwo and two.\n</think>\n\n4|u:and 3?", "u:2+2?|a:<think>\nHm.\n</think>\n\n4",
    "u:日本語で\n二行|a:\u3000はい\u00a0|u:🙂", "u:<|im_end|> </s>|a:[INST]|u:x", "u:|a:|u:\n",
    "s:x", "a:I start", "u:a|u:b", "u:a|s:b|u:c", "s:x|s:y|u:z",
]


def parse_conversation(text: str) -> list[dict]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[part[0]], "content": part[2:]} for part in split_messages(text)]


def split_messages(text: str) -> list[str]:
    """Cuts at | where a role follows: contents may hold the sign."""
    parts: list[str] = []
    for part in text.split("|"):
        if part[:2] in ("s:", "u:", "a:") or not parts:
            parts.append(part)
        else:
            parts[-1] += "|" + part
    return parts


def chats() -> list[dict]:
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE({"<s>": 0, "</s>": 1}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    sources = dict(TEMPLATES)
    if SMOLLM2.exists():
        import gguf

        sources["smollm2"] = gguf.GGUFReader(SMOLLM2).fields["tokenizer.chat_template"].contents()
    truths = []
    for name, source in sources.items():
        cases = []
        for text in CONVERSATIONS:
            messages = parse_conversation(text)
            for generation in (False, True):
                for thinking in (False, True):
                    try:
                        prompt = tokenizer.apply_chat_template(
                            messages, chat_template=source, tokenize=False, add_generation_prompt=generation,
                            enable_thinking=thinking)
                    except Exception:  # the template's own refusal
                        prompt = None
                    cases.append({"messages": messages, "generation_prompt": generation, "thinking": thinking,
                                  "prompt": prompt})
        truths.append({"name": name, "source": source, "cases": cases})
    return truths


# ----------------------------------------------------------------------------------


def write_sentencepiece(out: Path, lines: list[bytes]) -> None:
    import sentencepiece

    for name, folder in [("tinyllama", "tinyllama-1.1b-3T"), ("mistral", "mistral-7b-v0.1")]:
        path = DATA / "tokenizers" / folder / "tokenizer.model"
        if path.exists():
            model = sentencepiece.SentencePieceProcessor(model_file=str(path))
            write_ids(out / f"{name}.sentencepiece_ids", model.encode([l.decode(errors="replace") for l in lines]))


def make(out: Path) -> None:
    lines = make_lines()
    texts = [line.decode(errors="replace") for line in lines]
    write_hex(out / "lines", lines)
    for name, build in TRAINED.items():
        tokenizer = build()
        (out / name).mkdir()
        tokenizer.save(str(out / name / "tokenizer.json"))
        write_truths(out, name, tokenizer, texts)
    for name, tokenizer in real_tokenizers().items():
        write_truths(out, name, tokenizer, texts)
    write_sentencepiece(out, lines)
    write_pre_tokenizers(out, texts[:6000] + texts[-3000:])
    write_vocabulary_folders(out, texts[:3000] + texts[-3000:])
    (out / "classes.json").write_text(json.dumps(character_classes()))
    (out / "punctuation.json").write_text(json.dumps(punctuation()))
    normal_forms(out, texts)
    (out / "components.json").write_text(json.dumps(components(texts)))
    (out / "chats.json").write_text(json.dumps(chats()))


def check(folder: str, lines: str, ids: str) -> int:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    different = 0
    for line, truth in zip(Path(lines).read_text().splitlines(), Path(ids).read_text().splitlines()):
        text = bytes.fromhex(line).decode(errors="replace")
        different += tokenizer.encode(text, add_special_tokens=False) != [int(i) for i in truth.split()]
    print(f"{different} different lines")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(check(*sys.argv[2:5]))
