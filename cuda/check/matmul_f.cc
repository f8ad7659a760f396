#include "checks.h"
namespace cria::cuda::check { void check_matmul_f(Checks&){} }
