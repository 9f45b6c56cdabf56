"""Calls of emitted LLVM functions (see `emit`) from functions that numba compiles.

An emitted function takes pointers. Compiled Python has no pointers, so the caller passes addresses:
``array.ctypes.data`` plus an offset in bytes. Nothing is checked: the caller is responsible for the
offsets. The address does not keep the array alive, so the caller must use the array after the call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import extending, types

from midstreamer_kernels.emit.vector_operations import Shape

INDEX = ir.IntType(64)  # numba's `intp` on 64-bit machines

Emitter = Callable[[ir.Module, Shape, ir.IntType], ir.Function]

# The type is Any, because numba's annotation wrongly demands its typing context in every call.
_intrinsic: Any = extending.intrinsic


@functools.cache
def _typed(emit: Emitter, shape: Shape) -> tuple[str, Any, tuple[Any, ...]]:
    """Return the function's name, and numba's types of its result and its parameters."""
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
    """Return the function that `emit` emits for `shape`, for calls in functions compiled by `jit`.

    Pointers are passed as integer addresses, indices as integers and scalars as floats; numba
    converts them to the types of the function.
    """
    parameters = len(_typed(emit, shape)[2])

    def call(typing_context: Any, *arguments: Any) -> Any:
        return _signature(emit, shape), _call(emit, shape)

    return _named(call, parameters)


def emitted_like(emit: Emitter, shapes: Sequence[Shape]) -> Any:
    """Return a function that calls the emitted function for the number type of an array.

    A call of the returned function passes that array first, then the arguments of the emitted
    function. The array only selects the number type and is not passed on. `shapes` has one `Shape`
    for each number type.
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
    # numba reads the signature of `call` to match the arguments with parameters. So `call` gets a
    # signature in which each parameter has a name, in place of its ``*arguments``.
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ["typing_context", *(f"argument_{place}" for place in range(parameters))]
    call.__signature__ = inspect.Signature([inspect.Parameter(n, positional) for n in names])
    return _intrinsic(call)
