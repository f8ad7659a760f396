// Text in the fixed arrays of cria.h's structs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace cria {

// As much of `text` as there is room for, and a zero behind it.
template <std::size_t room>
void put_text(char (&out)[room], std::string_view text) {
  const std::size_t length = std::min(text.size(), room - 1);
  *std::copy_n(text.begin(), length, out) = '\0';
}

}  // namespace cria
