// The emulation's own tests: `ok NAME` or `not ok NAME why` for each case; with arguments, only the cases they begin.
#include <cstdio>
#include <cstring>

#include "test.h"

namespace cria::cuda::emulation::test {

static std::vector<Case>& cases() {
  static std::vector<Case> list;
  return list;
}

Cases::Cases(std::initializer_list<Case> more) { cases().insert(cases().end(), more); }
const std::vector<Case>& all_cases() { return cases(); }

static bool chosen(const char* name, int count, char** prefixes) {
  if (count == 0) return true;
  for (int i = 0; i < count; ++i) {
    if (std::strncmp(name, prefixes[i], std::strlen(prefixes[i])) == 0) return true;
  }
  return false;
}

static bool passes(const Case& test) {
  schedule(Order::kForward);
  cudaDeviceReset();
  try {
    test.run();
    std::printf("ok %s\n", test.name);
    return true;
  } catch (const std::exception& error) {
    std::printf("not ok %s %s\n", test.name, error.what());
    return false;
  }
}

}  // namespace cria::cuda::emulation::test

int main(int count, char** arguments) {
  using namespace cria::cuda::emulation;
  quiet(true);  // faults are what is tested
  int failed = 0;
  for (const test::Case& test : test::all_cases()) {
    if (test::chosen(test.name, count - 1, arguments + 1)) failed += !test::passes(test);
  }
  return failed != 0;
}
