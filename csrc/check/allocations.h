// The system's memory and threads as the process asks for them, counted, and refused at will.
#pragma once

namespace cria::check {

enum class Refuse {
  kOnce,  // one request
  kOn     // it, and all that follow
};

// Refuses the request that is the `nth` from here on, counted from 1: of malloc and its kin, mmap and pthread_create.
void refuse(long nth, Refuse how);
// Grants all. Returns the requests since refuse().
long grant();

// Blocks and mappings that were taken and not given back.
long living();

}  // namespace cria::check
