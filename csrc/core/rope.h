// The angles of rotary position embedding (Su et al. 2021, section 3.2.2), whatever they were scaled by.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "../cria.h"

namespace cria {

// Of one kind of RoPE; a program has few, often one. Two that give the same angles are equal.
struct RopeAngles {
  std::vector<double> frequencies;  // [rotary_dim / 2]: what a position is multiplied by to give pair i's angle
  double magnitude;                 // of what was turned, to what it was before

  std::size_t pairs() const { return frequencies.size(); }
  bool operator==(const RopeAngles&) const = default;
};

// Of options that check_rotation has passed: theirs, or theta^(-2i / rotary_dim) / scale.
RopeAngles rope_angles(const cria_rope_options& options);

// Throws CRIA_ERROR_ARGUMENT, naming the options `name`, where they do not say how a head of that size is turned.
void check_rotation(const cria_rope_options& options, std::size_t head_dim, const std::string& name);

}  // namespace cria
