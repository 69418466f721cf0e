"""One vector instruction for numba, which does not turn a loop over four neighbouring numbers into one by itself."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 4


@intrinsic
def add_smaller(typing_context, total, row, weight, others, entry):
    """total[row] += minimum(weight, others[entry]), both rows of LANES floats in C order; indices are not checked."""
    signature = types.void(total, types.uintp, total.dtype, others, types.uintp)

    def generate(context, builder, signature, arguments):
        number = context.get_value_type(signature.args[2])
        vector = ir.VectorType(number, LANES)

        def pointer(position: int, index):
            array = context.make_array(signature.args[position])(context, builder, arguments[position])
            first = builder.mul(index, ir.Constant(index.type, LANES))
            return builder.bitcast(builder.gep(array.data, [first]), vector.as_pointer())

        def spread(value):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            nowhere = ir.Constant(vector, ir.Undefined)
            return builder.shuffle_vector(one, nowhere, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

        size = context.get_abi_sizeof(number)  # rows are aligned like single numbers
        target = pointer(0, arguments[1])
        other, weight = builder.load(pointer(3, arguments[4]), align=size), spread(arguments[2])
        smaller = builder.select(builder.fcmp_ordered("<", weight, other), weight, other)
        builder.store(builder.fadd(builder.load(target, align=size), smaller), target, align=size)
        return context.get_dummy_value()

    return signature, generate
