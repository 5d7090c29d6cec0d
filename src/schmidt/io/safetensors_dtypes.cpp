#include "schmidt/io/safetensors_dtypes.h"

#include <algorithm>
#include <iterator>

namespace schmidt::io {
namespace {

using c10::ScalarType;

constexpr SafetensorsDtype kDtypes[] = {
    {"BOOL", ScalarType::Bool, 0},
    {"U8", ScalarType::Byte, 1},
    {"I8", ScalarType::Char, 2},
    {"F8_E5M2", ScalarType::Float8_e5m2, 3},
    {"F8_E4M3", ScalarType::Float8_e4m3fn, 4},
    {"F8_E8M0", ScalarType::Float8_e8m0fnu, 5},
    {"I16", ScalarType::Short, 6},
    {"U16", ScalarType::UInt16, 7},
    {"F16", ScalarType::Half, 8},
    {"BF16", ScalarType::BFloat16, 9},
    {"I32", ScalarType::Int, 10},
    {"U32", ScalarType::UInt32, 11},
    {"F32", ScalarType::Float, 12},
    {"C64", ScalarType::ComplexFloat, 13},
    {"F64", ScalarType::Double, 14},
    {"I64", ScalarType::Long, 15},
    {"U64", ScalarType::UInt64, 16},
};

template <class Key, class Projection>
const SafetensorsDtype* find(const Key& key, Projection projection) {
  const auto* found = std::ranges::find(kDtypes, key, projection);
  return found == std::end(kDtypes) ? nullptr : found;
}

}  // namespace

const SafetensorsDtype* find_safetensors_dtype(std::string_view name) {
  return find(name, &SafetensorsDtype::name);
}

const SafetensorsDtype* find_safetensors_dtype(ScalarType dtype) {
  return find(dtype, &SafetensorsDtype::dtype);
}

}  // namespace schmidt::io
