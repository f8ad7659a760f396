// What this machine does at most: loops that do one thing and nothing else, and their timing. They are the denominators
// of every share that a benchmark prints, so they must be out of a compiler's reach: the instructions of the peaks are
// inline assembly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../cria.h"

namespace cria::cpu {

// Measures a limit on `threads` threads for each of `rates`: in bytes or operations a second. Throws
// CRIA_ERROR_UNSUPPORTED where the processor or the instruction set `isa` lacks it, CRIA_ERROR_MEMORY.
void measure_limit(cria_isa isa, cria_limit limit, unsigned threads, std::span<double> rates);

// The instructions in one turn of a peak's loop: each adds to a register of its own. Two pipelines of 4 or 5 cycles'
// latency are full with 10.
constexpr std::size_t kChains = 12;

namespace scalar {
// Reads `lines` cache lines. The sum is for the caller to use, so that no compiler leaves the reading out.
std::uint64_t read(const std::uint8_t* data, std::size_t lines);
void copy(const std::uint8_t* from, std::uint8_t* to, std::size_t lines);
}  // namespace scalar

namespace avx2 {
std::uint64_t read(const std::uint8_t* data, std::size_t lines);
void copy(const std::uint8_t* from, std::uint8_t* to, std::size_t lines);
// `turns` times kChains of vfmadd231ps, and of vpmaddubsw with vpaddw, 256 bits wide.
void fma(std::size_t turns);
void maddubs(std::size_t turns);
}  // namespace avx2

namespace avx512 {
// `turns` times kChains of vfmadd231ps, vpdpbusd and vdpbf16ps, 512 bits wide.
void fma(std::size_t turns);
void dpbusd(std::size_t turns);
void bf16dot(std::size_t turns);  // the processor needs AVX512_BF16
}  // namespace avx512

}  // namespace cria::cpu
