#include "fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace cria::cuda::emulation {

asm(R"(
.text
.globl cria_fibre_switch
.hidden cria_fibre_switch
.type cria_fibre_switch, @function
cria_fibre_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
.globl cria_fibre_resume
.hidden cria_fibre_resume
.type cria_fibre_resume, @function
cria_fibre_resume:
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size cria_fibre_switch, .-cria_fibre_switch
)");

// A lane holds its registers here, at most 255 * 4 bytes on a GPU, and the frames of the emulation's own calls. Pages
// are taken only when touched.
constexpr std::size_t kStackBytes = 64 << 10;
constexpr std::size_t kGuardBytes = 4 << 10;

FibreStack::FibreStack(int index) {
  void* mapping =
      mmap(nullptr, kGuardBytes + kStackBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<char*>(mapping);
  if (mprotect(mapping_ + kGuardBytes, kStackBytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  // Stacks begin two cache lines apart modulo a page: at the same place all 32 of a warp would share one set of the L1
  // cache, which holds 8 or 12 lines.
  top_ = mapping_ + kGuardBytes + kStackBytes - index % 32 * 128;
}

FibreStack::~FibreStack() { munmap(mapping_, kGuardBytes + kStackBytes); }

void* FibreStack::begin(void (*entry)()) const {
  // Six registers, the address to go to, and a null return address: entry sees the stack as after a call.
  auto top = reinterpret_cast<std::uintptr_t*>(top_) - 8;
  for (int i = 0; i < 8; ++i) top[i] = 0;
  top[6] = reinterpret_cast<std::uintptr_t>(entry);
  return top;
}

}  // namespace cria::cuda::emulation
