"""What stands in a lowered program: fused attention, matrix products, arithmetic in 16 bits."""

import collections
import math
from typing import Any, NamedTuple

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"
# What only moves numbers, or changes their type. (A scatter may add: that stands in its body.)
_MOVES = frozenset(
    f"stablehlo.{name}"
    for name in (
        "all_gather", "all_to_all", "broadcast_in_dim", "case", "collective_permute",
        "concatenate", "constant", "convert", "custom_call", "dot_general", "dynamic_slice",
        "dynamic_update_slice", "gather", "if", "optimization_barrier", "pad", "reshape", "return",
        "reverse", "scatter", "select", "slice", "transpose", "while",
    )
) | {
    "func.func", "func.call", "func.return", "builtin.module", "sdy.sharding_constraint",
}  # fmt: skip


class Product(NamedTuple):
    """A matrix product. operands: names of their element types. operations: of one run of it."""

    operands: tuple[str, str]
    result: str
    operations: int
    shapes: str


class Contents(NamedTuple):
    """Of a whole program; the body of a loop counts once, a function once for each call.

    forward, backward: calls of cuDNN's attention. products: matrix products. narrow: operations
    that compute in 16 bits, other than those.
    """

    forward: int
    backward: int
    products: list[Product]
    narrow: collections.Counter[str]


def read(module: ir.Module) -> Contents:
    """Reads StableHLO, as `Lowered.compiler_ir("stablehlo")` gives it."""
    with module.context:
        functions = {
            ir.StringAttr(op.attributes["sym_name"]).value: op.operation for op in module.body
        }
        read_before: dict[str, Contents] = {}

        def contents(name: str) -> Contents:
            if name not in read_before:
                read_before[name] = _of_function(functions[name], contents)
            return read_before[name]

        return contents("main")


def _of_function(function: Any, callee: Any) -> Contents:
    forward = backward = 0
    products: list[Product] = []
    narrow: collections.Counter[str] = collections.Counter()

    def visit(op: Any) -> ir.WalkResult:
        nonlocal forward, backward
        if op.name == "func.call":
            called = callee(ir.FlatSymbolRefAttr(op.attributes["callee"]).value)
            forward += called.forward
            backward += called.backward
            products.extend(called.products)
            narrow.update(called.narrow)
        elif op.name == "stablehlo.custom_call":
            target = ir.StringAttr(op.attributes["call_target_name"]).value
            forward += target == FORWARD
            backward += target == BACKWARD
        elif op.name == "stablehlo.dot_general":
            products.append(_product(op))
        elif op.name not in _MOVES and _is_narrow([x.type for x in (*op.operands, *op.results)]):
            narrow[op.name] += 1
        return ir.WalkResult.ADVANCE

    function.walk(visit)
    return Contents(forward, backward, products, narrow)


def _product(op: Any) -> Product:
    left, right, result = (x.type for x in (*op.operands, *op.results))
    numbers = stablehlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
    left, right, result = (ir.RankedTensorType(x) for x in (left, right, result))
    inner = math.prod(left.shape[axis] for axis in numbers.lhs_contracting_dimensions)
    return Product(
        operands=(str(left.element_type), str(right.element_type)),
        result=str(result.element_type),
        operations=2 * inner * math.prod(result.shape),
        shapes=f"{left} x {right}",
    )


def _is_narrow(types: list[Any]) -> bool:
    kinds = {
        str(ir.RankedTensorType(x).element_type)
        for x in types
        if isinstance(x, ir.RankedTensorType)
    }
    return bool(kinds & {"bf16", "f16"})
