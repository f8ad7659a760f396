// Structs of cria.h as callers were compiled with them: shorter or longer than this library's own.
//
// Within a version of the ABI a struct grows at its end alone, and 0 in a new field means what its absence meant. So an
// older caller's struct is filled up with zeros, and a newer one is taken where what this library does not know is 0:
// the rule of Linux's copy_struct_from_user.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "error.h"

namespace cria {

// The size of a struct in version 1, which no caller's is below. None ends in padding, and none may when it grows: a
// newer caller's would be taken for a field that is set.
template <class Struct>
inline constexpr std::size_t kFirstSize = 0;
template <>
inline constexpr std::size_t kFirstSize<cria_device_info> = 648;
template <>
inline constexpr std::size_t kFirstSize<cria_device_options> = 16;
template <>
inline constexpr std::size_t kFirstSize<cria_cache_options> = 48;
template <>
inline constexpr std::size_t kFirstSize<cria_rope_options> = 48;
template <>
inline constexpr std::size_t kFirstSize<cria_batch> = 96;
template <>
inline constexpr std::size_t kFirstSize<cria_sampling> = 24;
template <>
inline constexpr std::size_t kFirstSize<cria_kv_layer> = 56;
template <>
inline constexpr std::size_t kFirstSize<cria_int4> = 80;

// What a struct_size that was never set would seldom be below: no struct comes near, and no page after it is read.
inline constexpr std::size_t kLargestStruct = 4096;

// Throws CRIA_ERROR_ARGUMENT unless `s` is there and says a size that one of `Struct` can have.
template <class Struct>
void require_struct(const Struct* s, const std::string& name) {
  static_assert(kFirstSize<Struct> > 0 && sizeof(Struct) >= kFirstSize<Struct>, "structs grow at their end");
  require_pointer(s, name.c_str());
  // A size that is none of a compiler's would cut a field in two: of a pointer its half is a place anywhere.
  const bool known =
      s->struct_size >= kFirstSize<Struct> && s->struct_size <= kLargestStruct && s->struct_size % alignof(Struct) == 0;
  require(known, (name + ".struct_size").c_str(),
          "a multiple of " + std::to_string(alignof(Struct)) + " from " + std::to_string(kFirstSize<Struct>) + " to " +
              std::to_string(kLargestStruct),
          s->struct_size);
}

// The caller's struct as this library has it. Throws CRIA_ERROR_UNSUPPORTED where it asks for more than that can say.
template <class Struct>
Struct read_struct(const Struct* s, const std::string& name) {
  require_struct(s, name);
  Struct read{};
  std::memcpy(&read, s, std::min<std::size_t>(s->struct_size, sizeof(Struct)));
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(s);
  if (s->struct_size > sizeof(Struct) &&
      std::any_of(bytes + sizeof(Struct), bytes + s->struct_size, [](std::uint8_t byte) { return byte != 0; })) {
    throw Error(CRIA_ERROR_UNSUPPORTED, name + ": sets a field that this version of cria does not have");
  }
  read.struct_size = sizeof(Struct);
  return read;
}

// An array of them, which lie as far apart as the first says that it is long.
template <class Struct>
std::vector<Struct> read_structs(const Struct* first, std::size_t count, const std::string& name) {
  std::vector<Struct> read;
  if (count == 0) return read;
  require_struct(first, name);
  const std::size_t size = first->struct_size;
  read.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto* s = reinterpret_cast<const Struct*>(reinterpret_cast<const std::uint8_t*>(first) + i * size);
    require(s->struct_size == size, (name + ".struct_size").c_str(), std::to_string(size) + ", the first one's",
            s->struct_size);
    read.push_back(read_struct(s, name));
  }
  return read;
}

// Fills the caller's struct, which passed require_struct, with as much of `value` as it has, and what is newer with 0.
template <class Struct>
void write_struct(const Struct& value, Struct* s) {
  const std::uint32_t size = s->struct_size;
  std::memset(s, 0, size);
  std::memcpy(s, &value, std::min<std::size_t>(size, sizeof(Struct)));
  s->struct_size = size;
}

}  // namespace cria
