"""Writes the two parts of a tiny model beside this file, with torch 1.13 (Debian 12: apt-get install python3-torch).

Weight i of tensor k is ((37 i + 11 k) mod 61 - 30) / 64, k the place among `shapes`, i that in the whole tensor. Norms are
views of one storage, embeddings bfloat16, all else float16. The first part is a dictionary, the second what the
state_dict of a module is: an OrderedDict with an attribute.
"""

import collections
import pathlib

import torch

DIM, FFN, VOCAB, PARTS = 16, 32, 24, 2

shapes = {
    "tok_embeddings.weight": (VOCAB, DIM, 1),
    "layers.0.attention.wq.weight": (DIM, DIM, 0),
    "layers.0.attention.wk.weight": (DIM, DIM, 0),
    "layers.0.attention.wv.weight": (DIM, DIM, 0),
    "layers.0.attention.wo.weight": (DIM, DIM, 1),
    "layers.0.feed_forward.w1.weight": (FFN, DIM, 0),
    "layers.0.feed_forward.w3.weight": (FFN, DIM, 0),
    "layers.0.feed_forward.w2.weight": (DIM, FFN, 1),
    "output.weight": (VOCAB, DIM, 0),
}
norms = ["layers.0.attention_norm.weight", "layers.0.ffn_norm.weight", "norm.weight"]


def weights(count, k):
    return ((37 * torch.arange(count) + 11 * k) % 61 - 30) / 64


def part(number, tensors):
    for k, (name, (rows, cols, axis)) in enumerate(shapes.items()):
        whole = weights(rows * cols, k).reshape(rows, cols)
        dtype = torch.bfloat16 if k == 0 else torch.float16
        tensors[name] = whole.chunk(PARTS, axis)[number].to(dtype).contiguous()
    stacked = weights(len(norms) * DIM, len(shapes)).reshape(len(norms), DIM)
    for name, norm in zip(norms, stacked):
        tensors[name] = norm
    tensors["rope.freqs"] = torch.ones(4)
    torch.save(tensors, pathlib.Path(__file__).parent / f"consolidated.{number:02}.pth")


state = collections.OrderedDict()
state._metadata = collections.OrderedDict({"": {"version": 1}})
part(0, {})
part(1, state)
