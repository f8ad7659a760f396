// Where in a kernel's source an emulated instruction stands, for reports.
#pragma once

#include <cstring>

namespace cria::cuda::emulation {

struct Site {
  const char* file;
  int line;
  // As a default argument it is evaluated where the instruction is called.
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

inline bool same(Site a, Site b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

}  // namespace cria::cuda::emulation
