// Fibres: each lane of a block runs on a stack of its own, and gives way only where it waits.
//
// A switch stores the six registers that a callee must keep and the stack pointer: about 2 ns, where swapcontext's
// two system calls would take 300. x86-64, System V ABI.
#pragma once

#include <cstddef>

namespace cria::cuda::emulation {

// Stores the caller's registers on its stack and the stack's pointer in *from; goes on where `to` stopped.
extern "C" void cria_fibre_switch(void** from, void* to);
// The second half of a switch: with the stack pointer at a stopped fibre's, goes on there. For a signal handler.
extern "C" void cria_fibre_resume();

/// A stack whose overflow meets an unmapped page.
class FibreStack {
 public:
  /// `index` among the stacks that run by turns.
  explicit FibreStack(int index);
  ~FibreStack();
  FibreStack(const FibreStack&) = delete;
  FibreStack& operator=(const FibreStack&) = delete;

  /// What to switch to so that `entry` begins on this stack. It must never return.
  void* begin(void (*entry)()) const;

 private:
  char* mapping_;
  char* top_;
};

}  // namespace cria::cuda::emulation
