"""A fitted pipeline written as an ONNX graph.

The preprocessing and the trees are written here, in doubles and rounded where scikit-learn rounds: skl2onnx casts to
float32 before it scales, which moves rows across splits, and takes seconds for a forest. It converts the other models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from driftloop.compiled import CATEGORICAL, NUMERIC, SCORE
from driftloop.encoding import Codes, Numbers, OneHot, blocks
from driftloop.facts import Facts
from driftloop.trees import KINDS, Trees, table, trees_by_class, trees_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10  # the first operators for trees in doubles came with 5
SKL2ONNX_ML_OPSET = 3  # the newest it knows
LOGISTIC = (LogisticRegression, LogisticRegressionCV, LinearDiscriminantAnalysis)
AT_MOST, MEMBER = 0, 6  # how a TreeEnsemble's nodes compare
ML_OPERATORS = ("LabelEncoder", "OneHotEncoder", "TreeEnsemble")
ENCODED = "model/encoded"  # skl2onnx's part of the graph has names of its own, below "model/"


@dataclass
class _Graph:
    """Nodes in the order in which they are computed, and the constants they read."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import AttributeProto, helper

        domain = "ai.onnx.ml" if op in ML_OPERATORS else ""
        made = helper.make_node(op, inputs, [output], domain=domain)
        for name, value in attributes.items():  # onnx would look at each of a forest's numbers to learn their type
            numbers = AttributeProto.INTS if isinstance(value, list) and isinstance(value[0], int) else None
            made.attribute.append(helper.make_attribute(name, value, attr_type=numbers))
        self.nodes.append(made)
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float64) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name


def graph(estimator: Pipeline, facts: Facts, *, exactly: bool = True, guarded: bool = False) -> bytes:
    """The graph of a fitted pipeline, of which nothing is known yet but that it could be written.

    ``exactly``: in doubles throughout; else the model, not the preprocessing, is skl2onnx's in float32. ``guarded``:
    NaN where a value does not fit into float32. Raises what skl2onnx raises.
    """
    from onnx import TensorProto, helper

    made, model, imports = _Graph(), estimator["model"], ML_OPSET if exactly else SKL2ONNX_ML_OPSET
    encoded, width = _encode(made, estimator["encode"], facts)
    binary, plain = facts.task == "binary", "plain"
    several = facts.labels if facts.task == "multiclass" else None
    if several:
        _add_classes(made, model, encoded, width, len(several), exactly=exactly)
    elif exactly and (trees := trees_of(model, binary=binary)) is not None:
        _add_trees(made, (trees,), encoded, "raw")
        made.node("Reshape", ["raw", made.constant("flat", [-1], np.int64)], "plain")
    elif isinstance(model, TransformedTargetRegressor):
        given = _add_converted(made, model.regressor_, width, exactly=exactly)
        made.node("Reshape", [given, made.constant("flat", [-1], np.int64)], "plain")
        plain = _add_scaled_back(made, model.transformer_)
    elif exactly and isinstance(model, LOGISTIC):
        _add_logistic(made, model, encoded)
    else:
        given = _add_converted(made, model, width, exactly=exactly)
        if binary:
            column = made.constant("event", list(model.classes_).index(1), np.int64)
            made.node("Gather", [given, column], "plain", axis=1)
        else:
            made.node("Reshape", [given, made.constant("flat", [-1], np.int64)], "plain")
    if facts.labels:  # a forest's shares may add up to a little more than 1
        made.node("Cast", [plain], "unbounded", to=TensorProto.DOUBLE)
        plain = made.node("Clip", ["unbounded", made.constant("none", 0), made.constant("all", 1)], "share")
    if guarded:
        made.node("Cast", [encoded], "rounded", to=TensorProto.FLOAT)
        made.node("IsInf", ["rounded"], "infinite")
        made.node("Cast", ["infinite"], "marks", to=TensorProto.DOUBLE)
        axis = made.constant("columns", [1], np.int64)
        made.node("ReduceSum", ["marks", axis], "marked", keepdims=int(bool(several)))
        made.node("Greater", ["marked", made.constant("zero", 0)], "any")
        made.node("Where", ["any", made.constant("nothing", np.nan), "zero"], "guard")
        made.node("Cast", [plain], "number", to=TensorProto.DOUBLE)
        made.node("Add", ["number", "guard"], SCORE)
    else:
        made.node("Cast", [plain], SCORE, to=TensorProto.DOUBLE)
    inputs = [
        helper.make_tensor_value_info(name, kind, [None, len(columns)])
        for name, kind, columns in (
            (NUMERIC, TensorProto.DOUBLE, facts.numeric),
            (CATEGORICAL, TensorProto.STRING, facts.categorical),
        )
        if columns
    ]
    shape = [None, len(several)] if several else [None]
    outputs = [helper.make_tensor_value_info(SCORE, TensorProto.DOUBLE, shape)]
    nodes = _needed(made.nodes)
    used = {name for node in nodes for name in {*node.input, *_read_inside(node)}}
    constants = [constant for constant in made.constants if constant.name in used]
    proto = helper.make_model(
        helper.make_graph(nodes, facts.loop, inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", imports)],
        ir_version=IR_VERSION,
    )
    return bytes(proto.SerializeToString())


def _needed(nodes: list[NodeProto]) -> list[NodeProto]:
    """Without those that only a classifier's label needs. A loop's body reads names of the graph around it."""
    wanted, kept = {SCORE}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input) | _read_inside(node)
            kept.append(node)
    return kept[::-1]


def _read_inside(node: NodeProto) -> set[str]:
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {name for body in bodies for n in body.node for name in {*n.input, *_read_inside(n)}}


def _encode(made: _Graph, encode: Any, facts: Facts) -> tuple[str, int]:
    """The preprocessing, in doubles as scikit-learn does it; returns the name and the width of what it gives."""
    parts, width = [], 0
    for i, block in enumerate(blocks(encode, facts.numeric, facts.categorical)):
        if isinstance(block, Numbers):
            parts.append(_add_numbers(made, block, facts, f"part{i}"))
        else:
            parts += _add_words(made, block, facts, f"part{i}")
        width += len(block.owners)
    made.node("Concat", parts, ENCODED, axis=1)
    return ENCODED, width


def _add_numbers(made: _Graph, block: Numbers, facts: Facts, prefix: str) -> str:
    found = NUMERIC
    if block.names != facts.numeric:
        places = made.constant(f"{prefix}/places", [facts.numeric.index(name) for name in block.names], np.int64)
        found = made.node("Gather", [found, places], f"{prefix}/numbers", axis=1)
    if block.fill is not None:
        made.node("IsNaN", [found], f"{prefix}/null")
        fill = made.constant(f"{prefix}/fill", block.fill)
        found = made.node("Where", [f"{prefix}/null", fill, found], f"{prefix}/known")
    if block.mean is not None:
        made.node("Sub", [found, made.constant(f"{prefix}/mean", block.mean)], f"{prefix}/centred")
        scale = made.constant(f"{prefix}/scale", block.scale)
        found = made.node("Div", [f"{prefix}/centred", scale], f"{prefix}/scaled")
    return found


def _add_words(made: _Graph, block: Codes | OneHot, facts: Facts, prefix: str) -> list[str]:
    from onnx import TensorProto

    found = []
    for i, name in enumerate(block.names):
        place, words = facts.categorical.index(name), f"{prefix}/words{i}"
        if isinstance(block, Codes):
            made.node("Gather", [CATEGORICAL, made.constant(f"{prefix}/place{i}", [place], np.int64)], words, axis=1)
            code = made.node(
                "LabelEncoder",
                [words],
                f"{prefix}/code{i}",
                keys_strings=list(block.codes[i]),
                values_floats=list(block.codes[i].values()),
                default_float=block.unknown,
            )
        else:
            made.node("Gather", [CATEGORICAL, made.constant(f"{prefix}/place{i}", place, np.int64)], words, axis=1)
            code = made.node("OneHotEncoder", [words], f"{prefix}/hot{i}", cats_strings=list(block.words[i]), zeros=1)
        found.append(made.node("Cast", [code], f"{prefix}/column{i}", to=TensorProto.DOUBLE))
    return found


def _add_logistic(made: _Graph, model: Any, encoded: str) -> None:
    """Fewer and cheaper nodes than skl2onnx's, which normalises two probabilities, and errs for a discriminant."""
    sign = 1.0 if list(model.classes_).index(1) == 1 else -1.0
    made.node("MatMul", [encoded, made.constant("coefficients", sign * model.coef_[0])], "product")
    made.node("Add", ["product", made.constant("intercept", sign * model.intercept_[0])], "logit")
    made.node("Sigmoid", ["logit"], "plain")


def _add_classes(made: _Graph, model: Any, encoded: str, width: int, labels: int, *, exactly: bool) -> None:
    """Name plain the probability of each label, shape (rows, labels): 0 of one that no training row had."""
    from onnx import TensorProto

    known = np.asarray(model.classes_, dtype=int)
    if exactly and (by_class := trees_by_class(model)) is not None:
        given = _add_trees(made, by_class, encoded, "by_class")
    elif exactly and isinstance(model, LOGISTIC) and len(known) == len(model.coef_):
        made.node("MatMul", [encoded, made.constant("coefficients", model.coef_.T)], "product")
        made.node("Add", ["product", made.constant("intercept", model.intercept_)], "logits")
        given = made.node("Softmax", ["logits"], "by_class", axis=1)
    else:
        given = _add_converted(made, model, width, exactly=exactly)
    made.node("Cast", [given], "double", to=TensorProto.DOUBLE)
    made.node("MatMul", ["double", made.constant("places", np.eye(labels)[known])], "plain")


def _add_scaled_back(made: _Graph, scaler: Any) -> str:
    """The prediction in the target's own unit; returns its name."""
    from onnx import TensorProto

    if not isinstance(scaler, StandardScaler):
        raise NotImplementedError(f"a target through {type(scaler).__name__}")
    made.node("Cast", ["plain"], "standard", to=TensorProto.DOUBLE)
    made.node("Mul", ["standard", made.constant("target/scale", scaler.scale_[0])], "spread")
    return made.node("Add", ["spread", made.constant("target/mean", scaler.mean_[0])], "shifted")


def _add_converted(made: _Graph, model: Any, width: int, *, exactly: bool) -> str:
    """The name of what skl2onnx's part gives: the prediction, or the probabilities of all classes."""
    from onnx import TensorProto, compose

    proto = compose.add_prefix(_skl2onnx(model, width, exactly=exactly), "model/")
    if not exactly:
        made.nodes[-1].output[0] = "exact"
        made.node("Cast", ["exact"], ENCODED, to=TensorProto.FLOAT)
    made.nodes += list(proto.graph.node)
    made.constants += list(proto.graph.initializer)
    return str(proto.graph.output[-1].name)  # a classifier's first is the label


def _skl2onnx(model: Any, width: int, *, exactly: bool) -> ModelProto:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    kinds = KINDS if exactly else ()
    shapes = {True: calculate_linear_classifier_output_shapes, False: calculate_linear_regressor_output_shapes}
    return convert_sklearn(
        model,
        name="model",
        initial_types=[("encoded", (DoubleTensorType if exactly else FloatTensorType)([None, width]))],
        options={id(model): {"zipmap": False}} if is_classifier(model) else None,
        target_opset={"": OPSET, "ai.onnx.ml": SKL2ONNX_ML_OPSET},
        custom_conversion_functions=dict.fromkeys(kinds, _convert_nested),
        custom_shape_calculators={kind: shapes[hasattr(kind, "predict_proba")] for kind in kinds},
    )


def _convert_nested(scope: Any, operator: Any, container: Any) -> None:
    """Trees inside another estimator, such as a vote, in doubles too; called by skl2onnx."""
    model, outputs = operator.raw_operator, [value.full_name for value in operator.outputs]
    made, prefix = _Graph(), scope.get_unique_variable_name("trees")
    classes = len(model.classes_) if is_classifier(model) else 0
    if classes > 2:
        trees = trees_by_class(model)
    else:
        one = trees_of(model, binary=bool(classes))
        trees = None if one is None else (one,)
    if trees is None:
        raise NotImplementedError(f"no trees in doubles for this {type(model).__name__}")
    given = _add_trees(made, trees, operator.inputs[0].full_name, f"{prefix}/" if classes else outputs[0], prefix)
    if classes == 2:
        made.node("Sub", [made.constant(f"{prefix}/one", 1), given], f"{prefix}/first")
        made.node("Concat", [f"{prefix}/first", given], outputs[1], axis=1)
    elif classes:
        made.node("Identity", [given], outputs[1])
    if classes:
        made.node("ArgMax", [outputs[1]], f"{prefix}/place", axis=1, keepdims=0)
        labels = made.constant(f"{prefix}/labels", model.classes_, np.int64)
        made.node("Gather", [labels, f"{prefix}/place"], outputs[0])
    container.nodes.extend(made.nodes)
    container.initializers.extend(made.constants)
    container.node_domain_version_pair_sets.add(("", OPSET))  # it knows no newer ai.onnx.ml; the whole graph names it


def _add_trees(made: _Graph, ensembles: tuple[Trees, ...], encoded: str, output: str, prefix: str = "trees") -> str:
    """``output`` gets the shape (rows, ensembles); they differ in their trees and their ``base`` only."""
    from onnx import TensorProto

    if ensembles[0].rounded:
        made.node("Cast", [encoded], f"{prefix}/float", to=TensorProto.FLOAT)
        encoded = made.node("Cast", [f"{prefix}/float"], f"{prefix}/rounded", to=TensorProto.DOUBLE)
    # one operator for all of them takes several times as long for many rows as one for each
    sums = [_add_sum(made, one, encoded, f"{prefix}/{place}") for place, one in enumerate(ensembles)]
    together = made.node("Concat", sums, f"{prefix}/sums", axis=1) if len(sums) > 1 else sums[0]
    return made.node(ensembles[0].link, [together], output)


def _add_sum(made: _Graph, ensemble: Trees, encoded: str, prefix: str) -> str:
    from onnx import numpy_helper

    grown = table(ensemble.trees)
    modes, optional = np.full(len(grown.threshold), AT_MOST, np.uint8), {}
    if grown.missing_left.any():
        optional["nodes_missing_value_tracks_true"] = grown.missing_left.astype(int).tolist()
    if grown.members:
        modes[sorted(grown.members)] = MEMBER
        sets = [values for node in sorted(grown.members) for values in (grown.members[node], [np.nan])]
        optional["membership_values"] = numpy_helper.from_array(np.concatenate(sets).astype(float))
    made.node(
        "TreeEnsemble",
        [encoded],
        f"{prefix}/sum",
        aggregate_function=1,  # the sum
        n_targets=1,
        post_transform=0,
        tree_roots=grown.roots.tolist(),
        nodes_featureids=grown.feature.tolist(),
        nodes_splits=numpy_helper.from_array(grown.threshold),
        nodes_modes=numpy_helper.from_array(modes),
        nodes_truenodeids=grown.left.tolist(),
        nodes_trueleafs=grown.left_leaf.astype(int).tolist(),
        nodes_falsenodeids=grown.right.tolist(),
        nodes_falseleafs=grown.right_leaf.astype(int).tolist(),
        leaf_targetids=[0] * len(grown.leaf),
        leaf_weights=numpy_helper.from_array(ensemble.factor * grown.leaf),
        **optional,
    )
    return made.node("Add", [f"{prefix}/sum", made.constant(f"{prefix}/base", ensemble.base)], f"{prefix}/shifted")
