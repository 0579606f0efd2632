"""Byte-level BPE: learning the merges, encoding, and the parts that a GGUF file stores.

The split into pre-tokens is the one that GGUF files call "qwen2": every digit stands alone, so a number is a row of
digits. Python's `re` knows no \\p{L} and \\p{N}; on the ASCII text of our corpus [A-Za-z] and [0-9] mean the same.
Bytes are spelt with GPT-2's printable alphabet (space is "\u0120", newline "\u010a"). Token ids: 256 bytes, then the
merges in order, then the control tokens.
"""

import collections
import json
import os
import re

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer.json")
VOCAB_SIZE = 768
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PRE_TOKEN = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]"
                       r"| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPLIT_CONTROL = re.compile("(" + "|".join(re.escape(c) for c in CONTROL) + ")")


def byte_alphabet():
    """GPT-2's map of the 256 bytes to printable characters."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet, extra = {b: chr(b) for b in plain}, 0
    for b in range(256):
        if b not in alphabet:
            alphabet[b], extra = chr(256 + extra), extra + 1
    return alphabet


ALPHABET = byte_alphabet()


def spell(text):
    return "".join(ALPHABET[b] for b in text.encode())


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.tokens = [ALPHABET[b] for b in range(256)] + [a + b for a, b in self.merges] + CONTROL
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.cache = {}

    @staticmethod
    def load():
        with open(PATH) as f:
            return Tokenizer(m.split(" ") for m in json.load(f)["merges"])

    def save(self):
        with open(PATH, "w") as f:
            json.dump({"merges": [f"{a} {b}" for a, b in self.merges]}, f, indent=0, ensure_ascii=False)
            f.write("\n")

    def encode_word(self, word):
        parts = list(spell(word))
        while len(parts) > 1:
            rank, i = min((self.rank.get(pair, 1 << 30), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == 1 << 30:
                break
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        return [self.ids[p] for p in parts]

    def encode(self, text):
        """Control tokens in `text` become themselves: for our own templates, never for a user's words."""
        ids = []
        for piece in SPLIT_CONTROL.split(text):
            if piece in CONTROL:
                ids.append(self.ids[piece])
                continue
            for word in PRE_TOKEN.findall(piece):
                known = self.cache.get(word)
                if known is None:
                    known = self.cache[word] = self.encode_word(word)
                ids += known
        return ids

    def decode(self, ids):
        back = {c: b for b, c in ALPHABET.items()}
        return b"".join(t.encode() if t in CONTROL else bytes(back[c] for c in t)
                        for t in (self.tokens[i] for i in ids)).decode(errors="replace")


def train(texts):
    """Learns merges from an iterable of texts: always the most frequent pair, ties by spelling."""
    words = collections.Counter()
    for text in texts:
        for piece in SPLIT_CONTROL.split(text):
            if piece not in CONTROL:
                words.update(PRE_TOKEN.findall(piece))
    spelt = {tuple(spell(w)): n for w, n in words.items()}
    merges = []
    while len(merges) < VOCAB_SIZE - 256 - len(CONTROL):
        pairs = collections.Counter()
        for parts, n in spelt.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        merged = {}
        for parts, n in spelt.items():
            out, i = [], 0
            while i < len(parts):
                if parts[i:i + 2] == best:
                    out.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    out.append(parts[i])
                    i += 1
            merged[tuple(out)] = merged.get(tuple(out), 0) + n
        spelt = merged
    print(f"{len(words)} different words, {len(merges)} merges, the last with {pairs[best]} uses")
    return Tokenizer(merges)
