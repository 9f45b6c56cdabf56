"""Check of the flag that cancels a search: one byte that another thread may set at any time.

The load is atomic, because the compiler would move an ordinary load out of the loop: nothing in the
loop writes to the flag.
"""

from __future__ import annotations

from llvmlite import ir

from midstreamer_kernels.emit.vector_operations import Shape, function

FLAG = ir.PointerType(ir.IntType(8))


def emit_stopped(module: ir.Module, shape: Shape, index: ir.IntType) -> ir.Function:
    """Emit a function that returns whether the flag at an address is set; false for address 0."""
    emitted, builder = function(module, "stopped", ir.IntType(1), flag=FLAG)
    builder.ret(is_set(builder, readable(builder, emitted.args[0])))
    return emitted


def readable(builder: ir.IRBuilder, flag: ir.Value) -> ir.Value:
    """Return the address `flag`, or if it is 0 the address of a byte that is never set."""
    never = builder.alloca(ir.IntType(8))
    builder.store(ir.IntType(8)(0), never)
    none = builder.icmp_unsigned("==", flag, ir.Constant(FLAG, None))
    return builder.select(none, never, flag)


def is_set(builder: ir.IRBuilder, flag: ir.Value) -> ir.Value:
    """Return one bit: whether the flag at an address from `readable` is set."""
    seen = builder.load_atomic(flag, "monotonic", 1)
    return builder.icmp_unsigned("!=", seen, ir.IntType(8)(0))
