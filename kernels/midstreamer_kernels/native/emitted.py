"""The bridge from emitters to numba: what `emit` writes, called from compiled functions.

An emitted function takes pointers; compiled Python has none, so it is called with addresses:
``array.ctypes.data`` plus what the caller adds, in bytes. Nothing keeps the array alive meanwhile
but the caller's own use of it afterwards, and nothing is checked: callers own the arithmetic.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import extending, types

from midstreamer_kernels.emit.values import Shape

INDEX = ir.IntType(64)  # what `intp` is on every machine that numba supports in 64 bits

Emitter = Callable[[ir.Module, Shape, ir.IntType], ir.Function]

_intrinsic: Any = extending.intrinsic  # its own type does not know the context that it leaves out


@functools.cache
def _typed(emit: Emitter, shape: Shape) -> tuple[str, Any, tuple[Any, ...]]:
    """Return the name, the result and the parameters of the function, as numba calls them."""
    written = emit(ir.Module(), shape, INDEX)
    return (
        written.name,
        _numba_type(written.return_value.type),
        tuple(_numba_type(argument.type) for argument in written.args),
    )


def _numba_type(found: ir.Type) -> Any:
    if isinstance(found, ir.PointerType):
        return types.intp
    if isinstance(found, ir.IntType):
        return types.boolean if found.width == 1 else types.int64
    names = {"float": types.float32, "double": types.float64, "void": types.void}
    return names[str(found)]


def emitted(emit: Emitter, shape: Shape) -> Any:
    """Return what `emit` writes for `shape`, callable inside of functions that `jit` compiles.

    Pointers are given as whole numbers, indices as integers, scalars as floats; numba converts.
    """
    parameters = len(_typed(emit, shape)[2])

    def call(typing_context: Any, *arguments: Any) -> Any:
        return _signature(emit, shape), _call(emit, shape)

    return _named(call, parameters)


def emitted_like(emit: Emitter, shapes: Sequence[Shape]) -> Any:
    """Return what `emit` writes for the first argument's type, an array given beside the others.

    `shapes` has one for each number; the array itself is not passed on.
    """
    by_number = {shape.number.name: shape for shape in shapes}
    parameters = len(_typed(emit, shapes[0])[2])

    def call(typing_context: Any, like: Any, *arguments: Any) -> Any:
        shape = by_number[like.dtype.name]
        signature = _signature(emit, shape)
        write = _call(emit, shape)

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return write(context, builder, signature, arguments[1:])

        return signature.return_type(like, *signature.args), build

    return _named(call, parameters + 1)


def _signature(emit: Emitter, shape: Shape) -> Any:
    _, result, parameters = _typed(emit, shape)
    return result(*parameters)


def _call(emit: Emitter, shape: Shape) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = _typed(emit, shape)[0]
        target = builder.module.globals.get(name) or emit(builder.module, shape, INDEX)
        given = [
            builder.inttoptr(value, argument.type)
            if isinstance(argument.type, ir.PointerType)
            else value
            for value, argument in zip(arguments, target.args, strict=True)
        ]
        result = builder.call(target, given)
        return context.get_dummy_value() if signature.return_type == types.void else result

    return build


def _named(call: Any, parameters: int) -> Any:
    # numba matches a call with the parameters one by one, so each is named.
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ["typing_context", *(f"argument_{place}" for place in range(parameters))]
    call.__signature__ = inspect.Signature([inspect.Parameter(n, positional) for n in names])
    return _intrinsic(call)
