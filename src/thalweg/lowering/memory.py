"""Memory by address, for the compiled pass: what numba's arrays would cost a microsecond a call for.

A pass is given the addresses of hundreds of arrays in one table. Loads and stores are marked with the lane that
they belong to (0 the parameter, 1 the gradient, 2 and on the slots) by LLVM's scoped alias metadata: lanes never
overlap, which the caller has made sure of, so that loops are vectorized without a check and for any number of
slots. Imported only when something is to be compiled.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload


def _element(context: Any, builder: Any, kind: Any, address: Any, index: Any) -> Any:
    pointer = builder.inttoptr(address, context.get_data_type(kind).as_pointer())
    return builder.gep(pointer, [index], inbounds=True)


def _mark(builder: Any, instruction: Any, lane: int, lanes: int, align: int) -> Any:
    """Say that an access touches its own lane only. Strings name domain and scopes across functions."""
    module = builder.module
    domain = module.add_metadata(["thalweg"])
    scopes = [module.add_metadata([f"thalweg lane {k}", domain]) for k in range(lanes)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[lane]]))
    if lanes > 1:
        instruction.set_metadata("noalias", module.add_metadata([s for k, s in enumerate(scopes) if k != lane]))
    instruction.align = align
    return instruction


def reader(kind: Any, lane: int, lanes: int) -> Any:
    """``read(address, i)``: element i of an array of ``kind`` at an address."""

    @intrinsic
    def read(typingctx: Any, address: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            loaded = builder.load(_element(context, builder, kind, *args))
            return _mark(builder, loaded, lane, lanes, kind.bitwidth // 8)

        return kind(types.int64, types.uint64), codegen

    return read


def writer(kind: Any, lane: int, lanes: int) -> Any:
    """``write(address, i, value)``; another type than ``kind`` is an error, never a conversion."""

    @intrinsic
    def write(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
        if value != kind:
            raise TypingError(f"the new parameter is {value}, not {kind}: a number literal in the text?")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            stored = builder.store(args[2], _element(context, builder, kind, args[0], args[1]))
            _mark(builder, stored, lane, lanes, kind.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.uint64, kind), codegen

    return write


def slot_reader(kind: Any, count: int) -> Any:
    """``load(addresses, i)``: element i of each slot, as a tuple."""
    lanes = count + 2

    @intrinsic
    def load(typingctx: Any, addresses: Any, index: Any) -> Any:
        result = types.UniTuple(kind, count)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = []
            for k in range(count):
                place = _element(context, builder, kind, builder.extract_value(args[0], k), args[1])
                values.append(_mark(builder, builder.load(place), 2 + k, lanes, kind.bitwidth // 8))
            return context.make_tuple(builder, result, values)

        return result(types.UniTuple(types.int64, count), types.uint64), codegen

    return load


def _refuse_short(values: Any) -> None:
    """Refuse a named tuple that was made without all of its fields: numba would leave them out, defaults or not."""
    if isinstance(values, types.BaseNamedTuple) and len(values.types) < len(values.fields):
        missing = ", ".join(values.fields[len(values.types) :])
        raise TypingError(
            f"{values.instance_class.__name__} is made without {missing}: compiled code knows no defaults of a named "
            "tuple, so give all of its fields"
        )


def slot_writer(kind: Any, count: int) -> Any:
    """``store(addresses, i, slots)``; another type than ``kind`` is an error, never a conversion."""
    lanes = count + 2

    @intrinsic
    def store(typingctx: Any, addresses: Any, index: Any, values: Any) -> Any:
        if not isinstance(values, types.BaseTuple):
            raise TypingError(f"the new slots are {values}; return the rule's named tuple of {count}")
        _refuse_short(values)
        if len(values.types) != count:
            raise TypingError(f"the new slots are {len(values.types)}; return the rule's named tuple of {count}")
        if any(value != kind for value in values.types):
            raise TypingError(f"the new slots are {values.types}, not {kind}: a number literal in the text?")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            for k in range(count):
                place = _element(context, builder, kind, builder.extract_value(args[0], k), args[1])
                stored = builder.store(builder.extract_value(args[2], k), place)
                _mark(builder, stored, 2 + k, lanes, kind.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(types.UniTuple(types.int64, count), types.uint64, values), codegen

    return store


@intrinsic
def store_none(typingctx: Any, values: Any) -> Any:
    """``store(slots)`` for a rule that has none."""
    if isinstance(values, types.BaseTuple) and len(values.types):
        raise TypingError(f"the new slots are {len(values.types)}; the rule has none")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.void(values), codegen


def tuple_reader(stored: Any, wanted: Any, count: int) -> Any:
    """``read(address)``: ``count`` numbers of the kind ``stored``, as a tuple of the kind ``wanted``."""

    @intrinsic
    def read(typingctx: Any, address: Any) -> Any:
        result = types.UniTuple(wanted, count)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = []
            for k in range(count):
                place = _element(context, builder, stored, args[0], context.get_constant(types.int64, k))
                values.append(context.cast(builder, builder.load(place), stored, wanted))
            return context.make_tuple(builder, result, values)

        return result(types.int64), codegen

    return read


@intrinsic
def write_reals(typingctx: Any, address: Any, values: Any) -> Any:
    """Write a tuple of numbers to an address, as float64."""
    _refuse_short(values)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for k, kind in enumerate(values.types):
            place = _element(context, builder, types.float64, args[0], context.get_constant(types.int64, k))
            builder.store(context.cast(builder, builder.extract_value(args[1], k), kind, types.float64), place)
        return context.get_dummy_value()

    return types.void(types.int64, values), codegen


@intrinsic
def read_int(typingctx: Any, address: Any, index: Any) -> Any:
    """Element ``index`` of an array of int64 at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_element(context, builder, types.int64, *args))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def read_real(typingctx: Any, address: Any, index: Any) -> Any:
    """Element ``index`` of an array of float64 at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_element(context, builder, types.float64, *args))

    return types.float64(types.int64, types.int64), codegen


def know_taker(take: Any) -> None:
    """Let compiled code call a function that takes some of a tuple's values (``thalweg.rules.declaring.taker``)."""
    begin, end = take.part

    @intrinsic
    def part(typingctx: Any, values: Any) -> Any:
        _refuse_short(values)
        places = range(len(values.types))[begin:end]
        result = types.Tuple(tuple(values.types[k] for k in places))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            parts = [builder.extract_value(args[0], k) for k in places]
            return context.make_tuple(builder, result, parts)

        return result(values), codegen

    overload(take)(lambda values: lambda values: part(values))
