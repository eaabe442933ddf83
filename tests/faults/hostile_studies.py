"""Studies of somebody else's making, and studies whose data is."""

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np

from tests.faults.hostile_checkpoints import Evil
from tests.faults.wave_study import WAVES

GOOD = """
title = "t"
seed = 1
[problem]
kind = "deconvolution"
[optimizer]
kind = "adam"
learning_rate = 0.05
[[blocks]]
iterations = 4
"""


def text(content):
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def top(line):
    """The good study with a line before its tables."""
    return text(line + "\n" + GOOD)


def instead(old, new):
    assert old in GOOD
    return text(GOOD.replace(old, new))


def many(line, count, before=GOOD):
    return lambda path: path.write_text(before + "".join(line.format(k) for k in range(count)))


def pickled(path):
    import pickle

    path.write_bytes(pickle.dumps(Evil()))


def device(path):
    path.symlink_to("/dev/zero")


CASES = {
    "a pickle": pickled,
    "empty": text(""),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": device,
    "a link to itself": lambda path: path.symlink_to(path),
    "two byte order marks": text(b"\xef\xbb\xbf" * 2 + GOOD.encode()),
    "UTF-16": text(GOOD.encode("utf-16")),
    "invalid UTF-8": text(GOOD.encode() + b'[x]\na = "\xff"'),
    "a null": text(GOOD + "# \0"),
    "a lone surrogate": top('description = "\\uD800"'),
    "other line breaks": text(GOOD.replace("\n", "\r")),
    "a key twice": top("seed = 2"),
    "a table twice": text(GOOD + "[problem]\n"),
    "a table that is a value": text(GOOD + "[seed.x]\n"),
    "a date for the seed": instead("seed = 1", "seed = 1979-05-27"),
    "a time for the title": instead('title = "t"', "title = 07:32:00"),
    "a date for the iterations": instead("iterations = 4", "iterations = 1979-05-27T07:32:00Z"),
    "a date for the kind": instead('kind = "adam"', "kind = 1979-05-27"),
    "5,000 digits": instead("seed = 1", "seed = " + "7" * 5000),
    "5,000 hexadecimal digits": instead("iterations = 4", "iterations = -0x" + "f" * 5000),
    "50,000 hexadecimal digits": instead("learning_rate = 0.05", "learning_rate = 0x" + "f" * 50_000),
    "a million digits": instead("seed = 1", "seed = " + "7" * 1_000_000),
    "a float of 90,000 digits": instead("learning_rate = 0.05", "learning_rate = -0." + "7" * 90_000),
    "2**64 iterations": instead("iterations = 4", "iterations = 18446744073709551616.0"),
    "inf": instead("learning_rate = 0.05", "learning_rate = inf"),
    "nan": instead("learning_rate = 0.05", "learning_rate = nan"),
    "1e999": instead("learning_rate = 0.05", "learning_rate = 1e999"),
    "minus nan iterations": instead("iterations = 4", "iterations = -nan"),
    "deep lists": top("description = " + "[" * 300_000),
    "deep lists, closed": top("description = " + "[" * 200 + "]" * 200),
    "deep tables": top("description = " + "{a=" * 100_000),
    "a dotted key of 100,000 parts": top("a" + ".a" * 100_000 + " = 1"),
    "a quoted dotted key": top('"="' + '."="' * 100_000 + " = 1"),
    "many dotted keys": many("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t{} = 1\n", 10_000),
    "as many dotted keys as may be": many("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t{} = 1\n", 3_900),
    "a dotted header": text("[" + "a." * 100_000 + "a]\n" + GOOD),
    "many headers": many("[a.b.c.d.e.f.g.h.i.j{}]\n", 30_000),
    "as many headers as may be": many("[a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w{}]\n", 4_900),
    "many keys": many("k{} = 1\n", 40_000),
    "more keys": many("k{} = 1\n", 60_000),
    "many unknown keys": many("k{} = 1\n", 900, before=GOOD.replace("[[blocks]]", "[[blocks]]\n")),
    "many keys of the optimizer": lambda path: path.write_text(
        GOOD.replace("[[blocks]]", "".join(f"k{k} = 1\n" for k in range(40_000)) + "[[blocks]]")
    ),
    "many keys like one": lambda path: path.write_text(
        GOOD.replace("[[blocks]]", "".join(f"{'learning_rate' * 30}{k} = 1\n" for k in range(900)) + "[[blocks]]")
    ),
    "many blocks": many("[[blocks]]\n", 40_000),
    "many wrong blocks": many("[[blocks]]\na = 1\nb = 1\nc = 1\n", 9_000),
    "many transforms": instead("learning_rate = 0.05", "process_grad = [" + "{}," * 24_000 + "]"),
    "a million values": top("description = [" + "0," * 500_000 + "]"),
    "an open text": text(GOOD + "a = '''" + "x" * 500_000),
    "many quotes": text(GOOD + '"' * 500_000),
    "many escapes": top('description = [ "' + "\\u0041" * 80_000 + '" ]'),
    "half a mebibyte of remarks": text(GOOD + "#\n" * 250_000 + "x"),
    "100 MB": text(b'title = "' + b"x" * 100_000_000 + b'"'),
    "100 MB of holes": lambda path: (path.write_text(GOOD), os.truncate(path, 100_000_000)),
    "a title of 500,000 characters and nothing else": text('title = "' + "x" * 500_000 + '"'),
    "a key of 90,000 characters": top("k" * 90_000 + " = 1"),
    "a key in letters that look alike": instead("seed = 1", '"ѕeed" = 1'),
    "a key with a space of no width": instead("seed = 1", '"seed\\u200b" = 1'),
    "a key from right to left": instead("seed = 1", '"\\u202edees" = 1'),
    "full-width digits": instead("seed = 1", "seed = １"),
    "a kind in other letters": instead('kind = "adam"', 'kind = "аdam"'),
    "a key with a line break": top('"a\\nb" = 1'),
    "a key that formats": top('"{0.__class__.__mro__}" = 1'),
    "a value that formats": instead("iterations = 4", 'iterations = "{ctx.__class__} %(x)s {0}"'),
    "Python's own names": top("__class__ = 1"),
    "a name of a method": instead('kind = "adam"', 'kind = "__init__"'),
    "a module for the kind": instead('kind = "deconvolution"', 'kind = "os:system"'),
    "a class for the kind": instead('kind = "deconvolution"', 'kind = "thalweg.problems.waves:WaveProblem"'),
    "a path for the kind": instead('kind = "deconvolution"', 'kind = "../../evil"'),
    "a list for the kind": instead('kind = "deconvolution"', 'kind = ["deconvolution"]'),
    "an import for a transform": instead("learning_rate = 0.05", "process_grad = { kind = '__import__' }"),
    "a lambda for a schedule": instead("learning_rate = 0.05", "learning_rate = { kind = 'lambda', code = '1' }"),
    "a reduce for a schedule": instead("learning_rate = 0.05", "learning_rate = { kind = 'exp', __reduce__ = 'x' }"),
    "wrong types everywhere": text("title = 1\nseed = 'x'\nproblem = []\noptimizer = 1.5\nblocks = {}\noutput = 7\n"),
    "blocks that are no tables": text("blocks = [1, 'a', []]\n" + GOOD[: GOOD.index("[[blocks]]")]),
    "a folder with a null": text(GOOD + '[output]\nfolder = "a\\u0000b"\nfigures = 1\n'),
    "no threads": text(GOOD + "[runtime]\nthreads = -1\n"),
    "an address that is a command": text(GOOD + '[runtime]\nkind = "dask"\nscheduler = ["sh", "-c", "x"]\n'),
}


def data(make, path="data.npz"):
    """A wave study whose starting model is in a file."""

    def do(study):
        study.write_text(WAVES.format(path=path))
        make(study.parent / "data.npz")

    return do


def npy(header, content=b""):
    head = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + content


def archive(members, compression=zipfile.ZIP_STORED):
    def make(path):
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, content in members.items():
                file.writestr(name, content)

    return make


def one(header, content=b""):
    return archive({"vp.npy": npy(header, content)})


def objects(path):
    np.savez(path, vp=np.array([[Evil()]], object))


def plain_objects(path):
    with open(path, "wb") as file:
        np.save(file, np.array([Evil()], object))


def bomb(path):
    """Zeros, packed a thousand times smaller, of a shape that is not asked for."""
    stream = io.BytesIO()
    np.save(stream, np.zeros((1 << 8, 1 << 10)))
    archive({"vp.npy": stream.getvalue()}, zipfile.ZIP_DEFLATED)(path)


DATA = {
    "an absolute path": data(lambda path: None, "/etc/passwd"),
    "a path to the parent": data(lambda path: None, "../../../../../../../../etc/passwd"),
    "a path to the home folder": data(lambda path: None, "~/.profile"),
    "a path of the kernel": data(lambda path: None, "/proc/self/environ"),
    "a path that is a folder": data(lambda path: None, "."),
    "a path that is a device": data(lambda path: None, "/dev/zero"),
    "a pipe": data(os.mkfifo),
    "a link to a device": data(device),
    "objects": data(objects),
    "objects in a plain file": data(plain_objects),
    "a pickle": data(pickled),
    "an empty file": data(Path.touch),
    "an archive that ends": data(lambda path: path.write_bytes(b"PK\3\4" + b"\0" * 100)),
    "a header that is code": data(one("__import__('os').mkdir('thalweg-was-here')")),
    "a header that is deep": data(one("(" * 9000)),
    "a header that calls": data(one("{'descr': '<f8', 'fortran_order': False, 'shape': (print('x'),)}")),
    "a dtype of objects": data(one("{'descr': '|O', 'fortran_order': False, 'shape': (40, 40)}")),
    "a dtype with fields": data(one("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (2,)}")),
    "a terabyte": data(one("{'descr': '<f8', 'fortran_order': False, 'shape': (137438953472,)}")),
    "a shape that overflows": data(one("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}")),
    "a negative shape": data(one("{'descr': '<f8', 'fortran_order': False, 'shape': (-40, -40)}", b"\0" * 12800)),
    "a shape of floats": data(one("{'descr': '<f8', 'fortran_order': False, 'shape': (40.0, 40)}")),
    "texts": data(lambda path: np.savez(path, vp=np.array(["x"]))),
    "NaN": data(lambda path: np.savez(path, vp=np.full((40, 40), np.nan))),
    "another shape": data(lambda path: np.savez(path, vp=np.full((4, 40), 1500.0))),
    "members that lead elsewhere": data(archive({"../../vp.npy": npy("{}")})),
    "an unknown compression": data(lambda path: _method(path, 99)),
    "an encrypted member": data(lambda path: _flag(path, 1)),
    "two megabytes in two kilobytes": data(bomb),
}


def _method(path, number):
    archive({"vp.npy": npy("{}")})(path)
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        place = content.index(magic) + offset
        content[place : place + 2] = struct.pack("<H", number)
    path.write_bytes(content)


def _flag(path, bits):
    archive({"vp.npy": npy("{}")})(path)
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.index(magic) + offset
        content[place] |= bits
    path.write_bytes(content)
