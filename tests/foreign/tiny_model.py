"""Writes a model of llama.cpp with random weights: `python tiny_model.py FILE`.

It has no sense and needs no download. Each token is a byte, so that a grammar can still make the
model write JSON.
"""

import sys

import gguf
import numpy as np

CONTEXT, WIDTH, INNER, HEADS, LAYERS = 2048, 32, 64, 4, 1
BYTES = 256


def write(path: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    size = _add_tokens(writer)
    random = np.random.default_rng(7)
    for name, shape in _shapes(size).items():
        weights = np.ones(shape) if "norm" in name else random.normal(0, 0.3, shape)
        writer.add_tensor(name, weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokens(writer: gguf.GGUFWriter) -> int:
    """Adds the vocabulary. Returns its size."""
    special = [("<unk>", gguf.TokenType.UNKNOWN)]
    special += [(name, gguf.TokenType.CONTROL) for name in ("<s>", "</s>")]
    tokens = [*special, *((f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(BYTES))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(tokens)


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Returns the tensors that the architecture `llama` has."""
    square, up, down = (WIDTH, WIDTH), (INNER, WIDTH), (WIDTH, INNER)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (vocabulary, WIDTH),
    }
    for layer in range(LAYERS):
        block = {
            **dict.fromkeys(("attn_norm", "ffn_norm"), (WIDTH,)),
            **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square),
            **dict.fromkeys(("ffn_gate", "ffn_up"), up),
            "ffn_down": down,
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes


if __name__ == "__main__":
    write(sys.argv[1])
