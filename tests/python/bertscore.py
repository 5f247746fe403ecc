"""BERTScore F1 from its definition, with numpy alone: its own tokenizer, its own network, nothing shared with the Rust implementation but
the published weights. Written to be compared with, not to be fast.

Reads one JSON object a line, {"answer": ..., "reference": ...}; writes one number a line.
Example: python bertscore.py ENCODER_FOLDER 5 < pairs.jsonl
"""

import json
import math
import pathlib
import sys
import unicodedata

import numpy

MOST_TOKENS = 512
CLS, SEP, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
LONGEST_WORD = 100

erf = numpy.vectorize(math.erf, otypes=[numpy.float64])


def read_tensors(path):
    """The format is a length, a JSON table of contents, and the numbers."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    tensors = {}
    for name, entry in table.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            tensors[name] = numpy.frombuffer(body[start:end], dtype="<f4").reshape(entry["shape"]).astype(numpy.float64)
    return tensors


class Tokenizer:
    """Lower case, no accents, words and punctuation, then the longest pieces that the vocabulary has."""

    def __init__(self, path):
        self.ids = {piece: index for index, piece in enumerate(path.read_text(encoding="utf-8").splitlines())}

    def encode(self, text):
        pieces = [piece for word in self.words(text) for piece in self.pieces(word)]
        kept = [CLS, *pieces[: MOST_TOKENS - 2], SEP]
        return [self.ids[piece] for piece in kept]

    def words(self, text):
        out = []
        for letter in text:
            kind = unicodedata.category(letter)
            if letter in "\t\n\r" or kind == "Zs":
                out.append(" ")
            elif letter in "\0\ufffd" or kind.startswith("C"):
                continue
            elif is_chinese(ord(letter)):
                out.append(f" {letter} ")
            else:
                out.append(letter)
        plain = "".join(letter for letter in unicodedata.normalize("NFD", "".join(out)) if unicodedata.category(letter) != "Mn")
        return "".join(f" {letter} " if is_punctuation(letter) else letter for letter in plain.lower()).split()

    def pieces(self, word):
        if len(word) > LONGEST_WORD:
            return [UNKNOWN]
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.ids:
                    found.append(piece)
                    start = end
                    break
            else:
                return [UNKNOWN]
        return found


def is_chinese(code):
    blocks = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF)]
    return any(first <= code <= last for first, last in [*blocks, (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)])


def is_punctuation(letter):
    code = ord(letter)
    ascii_marks = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_marks or unicodedata.category(letter).startswith("P")


class Encoder:
    def __init__(self, folder, layers):
        self.tensors = read_tensors(folder / "model.safetensors")
        self.config = json.loads((folder / "config.json").read_text())
        self.layers = layers

    def linear(self, name, x):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = numpy.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.config["layer_norm_eps"])
        return centred / deviation * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def states(self, ids):
        tensors = self.tensors
        x = tensors["embeddings.word_embeddings.weight"][ids] + tensors["embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm("embeddings.LayerNorm", x + tensors["embeddings.token_type_embeddings.weight"][0])
        for layer in range(self.layers):
            x = self.layer(f"encoder.layer.{layer}", x)
        return x

    def layer(self, name, x):
        heads = self.config["num_attention_heads"]
        split = lambda part: numpy.stack(numpy.split(self.linear(f"{name}.attention.self.{part}", x), heads, axis=-1))
        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        context = numpy.concatenate(list(shares @ value), axis=-1)
        x = self.norm(f"{name}.attention.output.LayerNorm", self.linear(f"{name}.attention.output.dense", context) + x)
        inner = self.linear(f"{name}.intermediate.dense", x)
        inner = inner * 0.5 * (1.0 + erf(inner / math.sqrt(2.0)))
        return self.norm(f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", inner) + x)


def f1(encoder, tokenizer, answer, reference):
    """Special tokens have no weight in the means, but others may be nearest to them; a text without other tokens scores 0."""
    (answer, answer_weights), (reference, reference_weights) = (embed(encoder, tokenizer, text) for text in (answer, reference))
    if not answer_weights.any() or not reference_weights.any():
        return 0.0
    similarity = answer @ reference.T
    precision = (similarity.max(axis=1) * answer_weights).sum() / answer_weights.sum()
    recall = (similarity.max(axis=0) * reference_weights).sum() / reference_weights.sum()
    return 2 * precision * recall / (precision + recall)


def embed(encoder, tokenizer, text):
    ids = tokenizer.encode(text)
    states = encoder.states(ids)
    special = {tokenizer.ids[CLS], tokenizer.ids[SEP]}
    weights = numpy.array([0.0 if token in special else 1.0 for token in ids])
    return states / numpy.linalg.norm(states, axis=1, keepdims=True), weights


def main():
    folder, layers = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    encoder, tokenizer = Encoder(folder, layers), Tokenizer(folder / "vocab.txt")
    for line in sys.stdin:
        pair = json.loads(line)
        print(repr(float(f1(encoder, tokenizer, pair["answer"], pair["reference"]))), flush=True)


if __name__ == "__main__":
    main()
