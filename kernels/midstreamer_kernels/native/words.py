"""The few instructions on machine words that numba has no name for.

A row of a bit-parallel algorithm is a long number. Its words are added by one chain of
add-with-carry instructions, which the compiler makes of an addition of wide integers on every
processor; from additions of single words it would not.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types

WORD_BITS = 64
WORDS = 4  # of a strip: with their sums and masks as many as fit into sixteen registers

intrinsic: Any = extending.intrinsic  # its own type does not know the context that it leaves out

_WORD = ir.IntType(WORD_BITS)
_WIDE = ir.IntType(WORD_BITS * (WORDS + 1))


def _joined(builder: Any, words: Any) -> Any:
    wide = builder.zext(words[0], _WIDE)
    for place, word in enumerate(words[1:], 1):
        shifted = builder.shl(builder.zext(word, _WIDE), _WIDE(WORD_BITS * place))
        wide = builder.or_(wide, shifted)
    return wide


@intrinsic
def add_words(
    typing_context: Any,
    a0: Any, a1: Any, a2: Any, a3: Any,
    b0: Any, b1: Any, b2: Any, b3: Any,
    carry: Any,
) -> Any:  # fmt: skip
    """Return the four words of ``a + b + carry``, the lowest first, and the carry out of it."""
    word = types.uint64
    several: Any = types.UniTuple(word, WORDS + 1)  # type: ignore[no-untyped-call]
    signature = several(*[word] * (2 * WORDS + 1))

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # A lowest word more, of all ones on one side: there the carry of 0 or 1 makes its own.
        left = _joined(builder, [_WORD(2**WORD_BITS - 1), *arguments[:WORDS]])
        right = _joined(builder, [arguments[-1], *arguments[WORDS : 2 * WORDS]])
        added = builder.uadd_with_overflow(left, right)
        total, over = (builder.extract_value(added, part) for part in (0, 1))
        words = [
            builder.trunc(builder.lshr(total, _WIDE(WORD_BITS * place)), _WORD)
            for place in range(1, WORDS + 1)
        ]
        words.append(builder.zext(over, _WORD))
        return context.make_tuple(builder, signature.return_type, words)

    return signature, emit


@intrinsic
def count_ones(typing_context: Any, word: Any) -> Any:
    """Return how many bits of a word are set."""
    return types.int64(types.uint64), lambda _, builder, __, arguments: builder.ctpop(arguments[0])


@intrinsic
def chosen(typing_context: Any, condition: Any, when_true: Any, when_false: Any) -> Any:
    """Choose without a branch: for a condition that no processor could predict."""
    signature = when_true(types.boolean, when_true, when_true)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        condition, when_true, when_false = arguments
        choice = builder.select(builder.trunc(condition, ir.IntType(1)), when_true, when_false)
        choice.set_metadata("unpredictable", builder.module.add_metadata([]))
        return choice

    return signature, emit
