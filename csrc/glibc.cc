// Lets what is built on a newer Linux run on any with glibc 2.28 (RHEL 8, Debian 10) or later. It is linked into every
// library that travels in the package; scripts/check-binaries.mjs finds what it lacks.
//
// A linker binds a function to its newest version in the glibc at hand. Each of these has a version younger than 2.28
// and one of 2002, GLIBC_2.2.5, the first on x86-64, which no glibc will drop. Here each is defined and calls its first
// version; so all objects of the library do, those of the static C++ library too. Nobody else sees these definitions,
// for what a library exports is listed. Until 2.34 some were in libraries of their own: CMakeLists.txt has libdl and
// libpthread loaded even where they are empty.
#include <cstdlib>  // __GLIBC__

#ifdef __GLIBC__
#include <dlfcn.h>
#include <pthread.h>
#include <sys/stat.h>

#define FIRST_VERSION(function) __asm__(".symver first_" #function "," #function "@GLIBC_2.2.5")

extern "C" {
// 2.34 is when they moved into libc: the code is the same.
FIRST_VERSION(dladdr);
FIRST_VERSION(dlerror);
FIRST_VERSION(dlopen);
FIRST_VERSION(dlsym);
FIRST_VERSION(pthread_create);
FIRST_VERSION(pthread_detach);
decltype(dladdr) first_dladdr;
decltype(dlerror) first_dlerror;
decltype(dlopen) first_dlopen;
decltype(dlsym) first_dlsym;
decltype(pthread_create) first_pthread_create;
decltype(pthread_detach) first_pthread_detach;

int dladdr(const void* address, Dl_info* info) noexcept { return first_dladdr(address, info); }
char* dlerror() noexcept { return first_dlerror(); }
void* dlopen(const char* file, int mode) noexcept { return first_dlopen(file, mode); }
void* dlsym(void* library, const char* name) noexcept { return first_dlsym(library, name); }
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) noexcept {
  return first_pthread_create(thread, attributes, run, argument);
}
int pthread_detach(pthread_t thread) noexcept { return first_pthread_detach(thread); }

// 2.29 dropped the handler of errors that System V had called; the numbers are the same.
FIRST_VERSION(pow);
double first_pow(double base, double exponent) noexcept;
double pow(double base, double exponent) noexcept { return first_pow(base, exponent); }

// Until 2.33 fstat was inline over this, whose first argument is the version of the struct: 1 on x86-64.
FIRST_VERSION(__fxstat);
int first___fxstat(int version, int file, struct stat* status) noexcept;
int fstat(int file, struct stat* status) noexcept { return first___fxstat(1, file, status); }

// Since 2.32 a variable, which says that reference counts need no atomic instructions; "no" is always right.
char __libc_single_threaded = 0;
}
#endif
