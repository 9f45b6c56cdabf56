"""A look at the flag that ends a search: one byte, which another thread may write at any time.

The load is atomic. An ordinary one would be moved out of the loop, since nothing in the loop
writes to the flag.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.values import Shape, function

FLAG = ir.PointerType(ir.IntType(8))


def emit_stopped(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit whether the flag at an address is set; there is none at the address 0."""
    emitted, builder = function(module, "stopped", ir.IntType(1), flag=FLAG)
    builder.ret(is_set(builder, readable(builder, emitted.args[0])))
    return emitted


def readable(builder: ir.IRBuilder, flag: ir.Value) -> ir.Value:
    """Return the address of a flag, or of one that is never set when `flag` is 0."""
    never = builder.alloca(ir.IntType(8))
    builder.store(ir.IntType(8)(0), never)
    none = builder.icmp_unsigned("==", flag, ir.Constant(FLAG, None))
    return builder.select(none, never, flag)


def is_set(builder: ir.IRBuilder, flag: ir.Value) -> ir.Value:
    """Return whether the flag at a readable address is set, as one bit."""
    seen = builder.load_atomic(flag, "monotonic", 1)
    return builder.icmp_unsigned("!=", seen, ir.IntType(8)(0))
