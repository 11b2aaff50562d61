"""Mutations of files: of any bytes, of trees of values (JSON, YAML), of PNG chunks, of checkpoints, of arrays.

Each function takes a random stream and the content of a whole file, and returns the mutated content and, in a few
words, what was done.
"""

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import timm

Mutant = tuple[bytes, str]
NESTED: Any = []
for _ in range(200):
    NESTED = [NESTED]
VALUES: tuple[Any, ...] = (  # in the place of any value of a tree
    None, True, -1, 0, 3, 1.5, 1e308, float("nan"), float("inf"), 10**9, 2**63, -(2**63), 10**400, "", "x", "****x",
    "../../../etc/passwd", "1e-2", "\n\x00\u2028", "a" * 100_000, [], {}, [[]], [10**6] * 4, [1] * 2000, NESTED,
    {"a": {"b": [None]}}, ["x"], [["x", 1]], "se", "small_cnn:width=1e6", "small_cnn:extra_blocks=1000000000",
    "small_cnn:widths=(1000000,1000000,1000000)", "vit_giant_patch14_224", "hf-hub:a/b", "digits", "folder:nowhere",
)  # fmt: skip
OPTIONS: dict[str, tuple[Any, ...]] = {  # of networks, with values that are large, wrong, or both
    "layers": ([10**6] * 4, [2, 2, 2, 2], [[2]], 3, [1.5] * 4), "depth": (10**9, 16_000, "x"),
    "depths": ([10**9], [2, 2]), "extra_blocks": (1e9, 10**9, 3, -1), "width": (1e6, 10**6, 16_000, 1.5, -1, "x"),
    "widths": ([10**6] * 3, [8] * 900, [], [8, 8, 8]), "num_classes": (10**9, 0, -1, 2.5, 10),
    "in_chans": (10**9, 0, 1, "3"), "img_size": (16_384, 10**6, 0, [224, 224]), "patch_size": (1, 0, 10**5),
    "embed_dim": (16_384, 0, 7), "num_heads": (16_384, 0), "window_size": (10_000, 0), "stem_width": (16_384,),
    "drop_path_rate": (1e300, -1), "features_only": (True,), "checkpoint_path": ("/etc/passwd",),
}  # fmt: skip
EDGES = (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x40\x00", b"\x80\x00\x00\x00")


def mutate_bytes(random: Random, data: bytes) -> Mutant:
    """Flip, cut, insert, delete, repeat or swap bytes, or set some to extreme integers."""
    place, other = sorted(random.choices(range(len(data) + 1), k=2))
    near = min(len(data), place + random.randint(1, 64))
    kind = random.choice(("flips", "flips", "cut", "insert", "delete", "repeat", "swap", "edge", "zeros", "tail"))
    if kind == "flips":
        flipped = bytearray(data)
        count = random.choice((1, 1, 2, 8, 64)) if data else 0
        for index in random.choices(range(len(data) or 1), k=count):
            flipped[index] ^= 1 << random.randrange(8)
        return bytes(flipped), f"{count} bits flipped"
    changed = {
        "cut": data[:place],
        "insert": data[:place] + random.randbytes(random.randint(1, 64)) + data[place:],
        "delete": data[:place] + data[near:],
        "repeat": data[:near] + data[place:near] * random.choice((1, 100)) + data[near:],
        "swap": data[other:] + data[place:other] + data[:place],
        "edge": data[:place] + random.choice(EDGES) + data[place + 4 :],
        "zeros": data[:place] + bytes(near - place) + data[near:],
        "tail": data + random.randbytes(1000),
    }[kind]
    return changed, f"{kind} at byte {place} of {len(data)}"


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths to all values of a tree, the tree itself first."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(each for key, value in inner for each in places(value, (*path, key)))]


def mutate_tree(random: Random, tree: Any, values: Sequence[Any] = VALUES) -> tuple[Any, str]:
    """Replace, delete, rename, repeat or add one value of a tree of lists and dictionaries; the tree is copied."""
    path = random.choice(places(tree))
    if not path:
        value = random.choice(values)
        return value, f"the whole becomes {value!r:.40}"
    changed = json.loads(json.dumps(tree))
    owner = changed
    for key in path[:-1]:
        owner = owner[key]
    key, kind = path[-1], random.choice(("replace", "replace", "replace", "delete", "rename", "repeat", "add"))
    value = random.choice(values)
    if kind == "delete":
        del owner[key]
    elif kind == "rename" and isinstance(owner, dict):
        owner[random.choice((f"{key}s", str(key)[:-1], ""))] = owner.pop(key)
    elif kind == "repeat":
        owner[key] = owner[key] * 1000 if isinstance(owner[key], list | str) else [owner[key]] * 1000
    elif kind == "add" and isinstance(owner, dict):
        owner[random.choice(("x", *OPTIONS))] = value
    else:
        owner[key] = value
    return changed, f"{kind} {'.'.join(map(str, path))} ({value!r:.40})"


def mutate_json(random: Random, data: bytes) -> Mutant:
    """Mutate the values of a JSON text, or its bytes."""
    if random.random() < 0.3:
        return mutate_bytes(random, data)
    tree, what = mutate_tree(random, json.loads(data))
    return json.dumps(tree).encode(), what


def mutate_lines(random: Random, data: bytes) -> Mutant:
    """Mutate one line of a text, as JSON where it is JSON, or the order of the lines."""
    lines = data.splitlines()
    index = random.randrange(len(lines))
    if random.random() < 0.3:
        random.shuffle(lines)
        return b"\n".join(lines * random.choice((1, 2))), "lines shuffled"
    mutate = mutate_json if lines[index].startswith(b"{") else mutate_bytes
    lines[index], what = mutate(random, lines[index])
    return b"\n".join(lines), f"line {index + 1}: {what}"


def mutate_yaml(random: Random, data: bytes) -> Mutant:
    """Mutate the values of a YAML text, the spelling of one, or its bytes."""
    if random.random() < 0.3:
        return mutate_bytes(random, data)
    lines = data.decode().splitlines()
    index = random.randrange(len(lines))
    name = lines[index].partition(":")[0]
    spellings = ("1e-2", ".inf", ".nan", "0x" + "f" * 5000, "2020-13-45", "!!int ''", "&a [*a]", "[" * 3000, "{a: 1}",
                 "!!python/object:os.system x", "'", "|", "0b_", "1:2:3", "~", "yes", "? [1, 2]", "<<: 3")  # fmt: skip
    value = random.choice((json.dumps(random.choice(VALUES)), random.choice(spellings)))
    lines[index] = f"{name}: {value}"
    return "\n".join(lines).encode(), f"{name}: {value:.40}"


def chunks_of(png: bytes) -> list[tuple[bytes, bytes]]:
    """List the chunks of a PNG, name and data."""
    found, place = [], 8
    while place + 8 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def as_png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write chunks as a PNG, with correct check sums."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def mutate_png(random: Random, data: bytes) -> Mutant:
    """Mutate the bytes of a PNG, or of one of its chunks with a correct check sum, or the order of its chunks."""
    if random.random() < 0.3:
        return mutate_bytes(random, data)
    chunks = chunks_of(data)
    kind, index = random.choice(("data", "data", "pixels", "order", "repeat", "delete")), random.randrange(len(chunks))
    name, inner = chunks[index]
    what = f"{kind} of chunk {name.decode()}"
    if kind == "data":
        inner, how = mutate_bytes(random, inner)
        chunks[index], what = (name, inner), f"{what}: {how}"
    elif kind == "pixels":
        rows = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
        packed = zlib.compress(mutate_bytes(random, rows)[0])
        chunks = [*((n, d) for n, d in chunks[:-1] if n != b"IDAT"), (b"IDAT", packed), chunks[-1]]
    elif kind == "order":
        random.shuffle(chunks)
    else:
        chunks[index : index + 1] = [(name, inner)] * (50 if kind == "repeat" else 0)
    return as_png(chunks), what


def split_checkpoint(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a safetensors file into its header, with the facts of the network as values, and its numbers."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["foveal"] = json.loads(header["__metadata__"]["foveal"])
    return header, data[8 + length :]


def join_checkpoint(header: Any, numbers: bytes) -> bytes:
    """Write a header and numbers as a safetensors file; the opposite of `split_checkpoint`."""
    meta = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(meta, dict) and not isinstance(meta.get("foveal", ""), str):
        header = {**header, "__metadata__": {**meta, "foveal": json.dumps(meta["foveal"])}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def mutate_facts(random: Random, data: bytes) -> Mutant:
    """Mutate the facts of a checkpoint about its network and its run."""
    header, numbers = split_checkpoint(data)
    facts = header["__metadata__"]["foveal"]
    kind = random.choice(("tree", "tree", "tree", "option", "option", "attachments", "place", "backbone"))
    what = kind
    if kind == "tree":
        facts, what = mutate_tree(random, facts)
    elif kind == "option":
        name = random.choice([*OPTIONS])
        value = random.choice(OPTIONS[name])
        facts["options"][name], what = value, f"option {name}={value!r:.40}"
    elif kind == "attachments":
        count = random.choice((0, 2, 9, 1000))
        facts["attachments"], what = facts["attachments"] * count, f"{count} times the attachments"
    elif kind == "place":
        places = (["****x"], ["features.0"] * 1000, ["**"], [""], ["features.0", "features.0.conv"], ["residual"])
        facts["attachments"][0]["at"] = random.choice(places)
        what = f"attached at {facts['attachments'][0]['at']!r:.40}"
    else:
        facts["backbone"], what = random.choice(timm.list_models()), "another backbone"
        facts["options"] = random.choice((facts["options"], {}, {"img_size": 16_384, "in_chans": 1}))
        what = f"backbone {facts['backbone']}, {facts['options']!r:.60}"
    header["__metadata__"]["foveal"] = facts
    return join_checkpoint(header, numbers), what


def mutate_header(random: Random, data: bytes) -> Mutant:
    """Mutate the header of a safetensors file: its length, its values, its bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    kind = random.choice(("length", "tree", "tree", "type", "bytes"))
    if kind == "length":
        number = random.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", number) + data[8:], f"header of {number} bytes"
    if kind == "bytes":
        header, what = mutate_bytes(random, data[8 : 8 + length])
        return struct.pack("<Q", len(header)) + header + data[8 + length :], f"header: {what}"
    header, numbers = split_checkpoint(data)
    if kind == "type":
        name = random.choice([name for name in header if name != "__metadata__"])
        kinds = ("I32", "U32", "F64", "BF16", "F16", "F8_E4M3", "F8_E5M2", "BOOL", "C64", "U64", "F4", "x")
        header[name]["dtype"] = random.choice(kinds)
        return join_checkpoint(header, numbers), f"{name} of type {header[name]['dtype']}"
    tensors = {name: value for name, value in header.items() if name != "__metadata__"}
    changed, what = mutate_tree(random, tensors)
    if isinstance(changed, dict):
        changed = {"__metadata__": header["__metadata__"], **changed}
    return join_checkpoint(changed, numbers), what


def mutate_archive(random: Random, data: bytes) -> Mutant:
    """Mutate a NumPy archive: its bytes, those of an array, or an array's shape, type or values."""
    if random.random() < 0.3:
        return mutate_bytes(random, data)
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive}
    name = random.choice([*arrays])
    packed = io.BytesIO()
    np.save(packed, arrays[name])
    whole, start = packed.getvalue(), 10 + struct.unpack("<H", packed.getvalue()[8:10])[0]
    changes: dict[str, Callable[[], bytes]] = {
        "bytes": lambda: mutate_bytes(random, whole)[0],
        "header": lambda: mutate_bytes(random, whole[:start])[0] + whole[start:],
        "shape": lambda: header_of((random.choice((0, 1, 2**31, 2**62)), *arrays[name].shape[1:])) + whole[start:],
        "type": lambda: saved(arrays[name].astype(random.choice((np.float32, np.int64, np.str_, np.complex64, bool)))),
        "values": lambda: saved(arrays[name].astype(np.int64) * random.choice((-1, 0, 10**15))),
        "axes": lambda: saved(arrays[name][random.choice((None, 0, slice(0), slice(1)))]),
        "objects": lambda: saved(arrays[name].astype(object)),
        "zeros": lambda: header_of((2**30,)) + bytes(2**22),
    }
    kind = random.choice([*changes])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for each, array in arrays.items():
            archive.writestr(f"{each}.npy", changes[kind]() if each == name else saved(array))
    return out.getvalue(), f"{kind} of {name}"


def saved(array: Any) -> bytes:
    """Return an array as the bytes of a .npy file."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def header_of(shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file of bytes."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()


def mutate_idx(random: Random, data: bytes) -> Mutant:
    """Mutate the bytes of an IDX file, or one of the numbers in its header."""
    if random.random() < 0.5:
        return mutate_bytes(random, data)
    place, edge = 4 * random.randrange(4), random.choice(EDGES)
    return data[:place] + edge + data[place + 4 :], f"{edge.hex()} at byte {place}"


def mutate_gzip(random: Random, data: bytes) -> Mutant:
    """Mutate a gzipped IDX file, packed or unpacked; or let it unpack to very much."""
    kind = random.choice(("packed", "unpacked", "much"))
    if kind == "packed":
        return mutate_bytes(random, data)
    if kind == "unpacked":
        content, what = mutate_idx(random, gzip.decompress(data))
        return gzip.compress(content), f"unpacked: {what}"
    shape = random.choice(((2**31, 4), (2**20, 200), (60, 9)))
    head = struct.pack(">4I", 0x803, *shape, 8)
    return gzip.compress(head + bytes(20_000_000), 1), f"20 MB of zeros, of the shape {(*shape, 8)}"
