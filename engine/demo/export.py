#!/usr/bin/env python3
"""Writes a GGUF file from a checkpoint of train.c: export.py CHECKPOINT OUT.gguf NAME

GGUF v3 as llama.cpp reads it: the `llama` architecture with tied embeddings (no output.weight), matrices in Q8_0,
norms in F32, the byte-level BPE with its merges, and the ChatML template. Tensor names, shapes and keys are those of
llama.cpp's converter. Q8_0: per 32 weights of a row one half-precision scale (largest magnitude / 127) and 32 bytes.
"""

import array
import os
import struct
import sys

import bpe

HEAD_DIM, ALIGNMENT = 32, 32
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
GGML_F32, GGML_Q8_0, FILE_TYPE_Q8_0 = 0, 8, 7
TOKEN_NORMAL, TOKEN_CONTROL = 1, 3
CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
                 "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
                 "{{ '<|im_start|>assistant\\n' }}{% endif %}")


def read_checkpoint(path):
    with open(path, "rb") as f:
        assert f.read(8) == b"DEMOCKPT", f"{path}: not a checkpoint"
        shape = dict(zip("vocab dim layers heads kv_heads ff context".split(), struct.unpack("<7i", f.read(28))))
        f.read(8)  # step
        weights = array.array("f")
        weights.frombytes(f.read())
    return shape, weights


def tensors(shape, weights):
    """Yields (name, rows, columns, floats) in the order of net_init(); norms have no rows."""
    at = 0

    def part(name, columns, rows=0):
        nonlocal at
        size = columns * max(rows, 1)
        at += size
        return name, rows, columns, weights[at - size:at]

    d, f = shape["dim"], shape["ff"]
    q, kv = shape["heads"] * HEAD_DIM, shape["kv_heads"] * HEAD_DIM
    yield part("token_embd.weight", d, shape["vocab"])
    for layer in range(shape["layers"]):
        blk = f"blk.{layer}."
        yield part(blk + "attn_norm.weight", d)
        yield part(blk + "attn_q.weight", d, q)
        yield part(blk + "attn_k.weight", d, kv)
        yield part(blk + "attn_v.weight", d, kv)
        yield part(blk + "attn_output.weight", q, d)
        yield part(blk + "ffn_norm.weight", d)
        yield part(blk + "ffn_gate.weight", d, f)
        yield part(blk + "ffn_up.weight", d, f)
        yield part(blk + "ffn_down.weight", f, d)
    yield part("output_norm.weight", d)


def q8_0(values):
    out = bytearray()
    for i in range(0, len(values), 32):
        block = values[i:i + 32]
        scale = max(map(abs, block)) / 127
        inverse = 1 / scale if scale else 0
        out += struct.pack("<e32b", scale, *(round(v * inverse) for v in block))
    return bytes(out)


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if isinstance(v, list):
        return struct.pack("<IQ", kind, len(v)) + b"".join(value(kind, x) for x in v)
    if kind == STRING:
        return string(v)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def metadata(name, shape):
    tokenizer = bpe.Tokenizer.load()
    ids = tokenizer.ids
    kinds = [TOKEN_CONTROL if t in bpe.CONTROL else TOKEN_NORMAL for t in tokenizer.tokens]
    return [
        ("general.architecture", STRING, "llama"),
        ("general.type", STRING, "model"),
        ("general.name", STRING, name),
        ("general.author", STRING, "the inferd project"),
        ("general.license", STRING, "Apache-2.0"),
        ("general.description", STRING, "A small chat model to try inferd with; made from text the project generates."),
        ("general.languages", STRING, ["en"]),
        ("general.file_type", U32, FILE_TYPE_Q8_0),
        ("general.quantization_version", U32, 2),
        ("general.alignment", U32, ALIGNMENT),
        ("llama.vocab_size", U32, shape["vocab"]),
        ("llama.context_length", U32, shape["context"]),
        ("llama.embedding_length", U32, shape["dim"]),
        ("llama.block_count", U32, shape["layers"]),
        ("llama.feed_forward_length", U32, shape["ff"]),
        ("llama.attention.head_count", U32, shape["heads"]),
        ("llama.attention.head_count_kv", U32, shape["kv_heads"]),
        ("llama.attention.key_length", U32, HEAD_DIM),
        ("llama.attention.value_length", U32, HEAD_DIM),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.rope.dimension_count", U32, HEAD_DIM),
        ("llama.rope.freq_base", F32, 10000.0),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "qwen2"),
        ("tokenizer.ggml.tokens", STRING, tokenizer.tokens),
        ("tokenizer.ggml.token_type", I32, kinds),
        ("tokenizer.ggml.merges", STRING, [f"{a} {b}" for a, b in tokenizer.merges]),
        ("tokenizer.ggml.eos_token_id", U32, ids["<|im_end|>"]),
        ("tokenizer.ggml.padding_token_id", U32, ids["<|endoftext|>"]),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]


def aligned(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    shape, weights = read_checkpoint(sys.argv[1])
    keys = metadata(sys.argv[3], shape)
    head, entries, data = bytearray(), bytearray(), bytearray()
    for key, kind, v in keys:
        head += string(key) + struct.pack("<I", ARRAY if isinstance(v, list) else kind) + value(kind, v)
    count = 0
    for name, rows, columns, values in tensors(shape, weights):
        dims = (columns, rows) if rows else (columns,)  # GGUF counts from the innermost dimension
        entries += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims,
                                              GGML_Q8_0 if rows else GGML_F32, len(data))
        data += aligned(q8_0(values) if rows else values.tobytes())
        count += 1
    begin = b"GGUF" + struct.pack("<IQQ", 3, count, len(keys))
    with open(sys.argv[2] + ".partial", "wb") as f:
        f.write(aligned(begin + bytes(head) + bytes(entries)) + data)
    os.replace(sys.argv[2] + ".partial", sys.argv[2])
    print(f"{sys.argv[2]}: {count} tensors, {os.path.getsize(sys.argv[2])} bytes")


if __name__ == "__main__":
    main()
