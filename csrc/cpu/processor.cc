#include <cpuid.h>

#include <string>

#include "machine.h"

namespace cria::cpu {

std::string processor_name() {
  // Three times four registers of text, which some makers pad with spaces: Intel's manual, CPUID, "Brand String".
  constexpr unsigned kBrand = 0x80000002;
  unsigned text[3][4];
  for (unsigned i = 0; i < 3; ++i) {
    if (__get_cpuid(kBrand + i, &text[i][0], &text[i][1], &text[i][2], &text[i][3]) == 0) return "x86-64";
  }
  std::string name;
  for (const char letter : std::string(reinterpret_cast<const char*>(text), sizeof(text))) {
    if (letter == '\0') break;
    if (letter != ' ' || (!name.empty() && name.back() != ' ')) name += letter;
  }
  return name.substr(0, name.find_last_not_of(' ') + 1);
}

}  // namespace cria::cpu
