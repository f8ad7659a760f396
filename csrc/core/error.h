// Failures inside the core are exceptions of this one type; capi.cc turns them into the status codes of cria.h.
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <type_traits>
#include <utility>

#include "../cria.h"

namespace cria {

class Error : public std::exception {
 public:
  Error(cria_status status, std::string message) : status_(status), message_(std::move(message)) {}
  cria_status status() const { return status_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  cria_status status_;
  std::string message_;
};

// A number as a person writes it: 0.5, not 0.500000.
template <class T>
std::string show(T number) {
  if constexpr (std::is_integral_v<T>) return std::to_string(number);
  char text[32];
  std::snprintf(text, sizeof(text), "%g", static_cast<double>(number));
  return text;
}

// Throws "NAME: must be EXPECTED, not ACTUAL" unless `ok`.
template <class T>
void require(bool ok, const char* name, const std::string& expected, T actual) {
  if (ok) return;
  throw Error(CRIA_ERROR_ARGUMENT, std::string(name) + ": must be " + expected + ", not " + show(actual));
}

inline void require_pointer(const void* p, const char* name) {
  if (p == nullptr) throw Error(CRIA_ERROR_ARGUMENT, std::string(name) + ": must not be null");
}

}  // namespace cria
