// A step on the pool whose function may throw.
#pragma once

#include <cstddef>
#include <exception>
#include <mutex>

#include "pool.h"

namespace cria::cpu {

// Pool::parallel_for: when all is done, the exception of the lowest units that had one is thrown here. So it is the
// same one whatever the threads, where `function` goes through its units in ascending order.
template <class Function>
void parallel_for(std::size_t units, std::size_t grain, unsigned threads, const Function& function) {
  std::mutex lock;
  std::exception_ptr failure;
  std::size_t failed = units;
  Pool::instance().parallel_for(units, grain, threads, [&](std::size_t begin, std::size_t end) {
    try {
      function(begin, end);
    } catch (...) {
      const std::lock_guard guard(lock);
      if (begin >= failed) return;
      failed = begin;
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace cria::cpu
