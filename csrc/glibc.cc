// Lets what is built on a newer Linux run on any with glibc 2.28 (RHEL 8, Debian 10) or later. It is linked into every
// library that travels in the package; scripts/check-binaries.mjs finds what it lacks.
//
// A linker binds a function to its newest version in the glibc at hand. Each of these has a version younger than 2.28
// and a first one, which no glibc will drop: GLIBC_2.2.5, of 2002, is the first on x86-64. Here each is defined, as a
// jump to its first version; so all objects of the library call that, those of the static C++ library and of the static
// CUDA runtime too. Nobody else sees these definitions, for what a library exports is listed; and those that it does
// not call are dropped (--gc-sections), with what they name.
#include <sys/stat.h>

__asm__(R"(
  .macro first_version version, functions:vararg
    .irp function, \functions
      .section .text.\function, "ax", @progbits
      .globl \function
      .type \function, @function
      \function: jmp first_\function@plt
      .size \function, . - \function
      .symver first_\function, \function@\version
    .endr
  .endm

  # 2.34 (2.32 of pthread_sigmask) is when they moved into libc, unchanged, from libdl, libpthread and librt: CMakeLists.txt has those loaded even
  # where they are empty.
  first_version GLIBC_2.2.5, dladdr, dlclose, dlerror, dlopen, dlsym, dlvsym
  first_version GLIBC_2.3.4, dlmopen
  first_version GLIBC_2.2.5, pthread_create, pthread_detach, pthread_join, pthread_kill, pthread_once
  first_version GLIBC_2.2.5, pthread_key_create, pthread_key_delete, pthread_getspecific, pthread_setspecific
  first_version GLIBC_2.2.5, pthread_condattr_setpshared, pthread_mutex_trylock
  first_version GLIBC_2.2.5, pthread_mutexattr_init, pthread_mutexattr_destroy
  first_version GLIBC_2.2.5, pthread_mutexattr_settype, pthread_mutexattr_setpshared
  first_version GLIBC_2.2.5, pthread_rwlock_init, pthread_rwlock_destroy, pthread_rwlock_unlock
  first_version GLIBC_2.2.5, pthread_rwlock_rdlock, pthread_rwlock_tryrdlock, pthread_rwlock_timedrdlock
  first_version GLIBC_2.2.5, pthread_rwlock_wrlock, pthread_rwlock_trywrlock, pthread_rwlock_timedwrlock
  first_version GLIBC_2.2.5, pthread_rwlockattr_init, pthread_rwlockattr_destroy, pthread_rwlockattr_setpshared
  first_version GLIBC_2.2.5, pthread_spin_init, pthread_spin_destroy
  first_version GLIBC_2.2.5, pthread_spin_lock, pthread_spin_trylock, pthread_spin_unlock
  first_version GLIBC_2.2.5, pthread_sigmask
  first_version GLIBC_2.2.5, sem_init, sem_destroy, sem_post, sem_wait, sem_timedwait, sem_trywait
  first_version GLIBC_2.2.5, shm_open, shm_unlink

  # 2.29 dropped the handler of errors that System V had it call; the numbers are the same.
  first_version GLIBC_2.2.5, pow
  .text
)");

extern "C" {
// Until 2.33 fstat was inline over this, whose first argument is the version of the struct: 1 on x86-64.
int __fxstat(int version, int file, struct stat* status) noexcept;
int fstat(int file, struct stat* status) noexcept { return __fxstat(1, file, status); }

// Since 2.32 a variable, which says that reference counts need no atomic instructions. "No" is always right.
char __libc_single_threaded = 0;
}
