"""Instructions on 64-bit words that numba does not offer, as intrinsics.

A row of the bit-parallel LCSS algorithm is a long integer. Its words are added by a chain of
add-with-carry instructions. The compiler generates such a chain for an addition of wide integers on
every processor, but not for additions of single words.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types

WORD_BITS = 64
# Number of 64-bit words that are added at once. With more words, the words, their sums and their
# masks would not fit the processor's 16 registers.
WORDS = 4

# The type is Any, because numba's annotation wrongly demands its typing context in every call.
intrinsic: Any = extending.intrinsic

_WORD = ir.IntType(WORD_BITS)
_WIDE = ir.IntType(WORD_BITS * (WORDS + 1))


def _joined(builder: Any, words: Any) -> Any:
    wide = builder.zext(words[0], _WIDE)
    for place, word in enumerate(words[1:], 1):
        shifted = builder.shl(builder.zext(word, _WIDE), _WIDE(WORD_BITS * place))
        wide = builder.or_(wide, shifted)
    return wide


@intrinsic
def add_words(typing_context: Any, a: Any, b: Any, carry: Any) -> Any:
    """Return the four words of ``a + b + carry``, the lowest first, and then the carry out.

    `a` and `b` are tuples of four 64-bit words, the lowest first; `carry` is 0 or 1.
    """
    word = types.uint64
    four, five = (types.UniTuple(word, count) for count in (WORDS, WORDS + 1))  # type: ignore[no-untyped-call]
    signature = five(four, four, word)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b = (
            [builder.extract_value(argument, place) for place in range(WORDS)]
            for argument in arguments[:2]
        )
        # Put one more word below the lowest word of both numbers: all ones in `left`, `carry` in
        # `right`. If `carry` is 1, the sum of these two words overflows into the lowest word.
        left = _joined(builder, [_WORD(2**WORD_BITS - 1), *a])
        right = _joined(builder, [arguments[2], *b])
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
    """Return the number of set bits of a 64-bit word."""
    return types.int64(types.uint64), lambda _, builder, __, arguments: builder.ctpop(arguments[0])


@intrinsic
def chosen(typing_context: Any, condition: Any, when_true: Any, when_false: Any) -> Any:
    """Return `when_true` if `condition`, else `when_false`, without a branch.

    Use this function for conditions that the processor's branch prediction cannot predict.
    """
    signature = when_true(types.boolean, when_true, when_true)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        condition, when_true, when_false = arguments
        choice = builder.select(builder.trunc(condition, ir.IntType(1)), when_true, when_false)
        choice.set_metadata("unpredictable", builder.module.add_metadata([]))
        return choice

    return signature, emit
