#include "errors.h"

#include <cctype>

namespace cria::addon {
namespace {

template <class Error>
Error with_code(Error error) {
  error.Set("code", "ERR_CRIA_ARGUMENT");
  return error;
}

// The names of cria.h as bindings.d.ts has them: rotary_dim is rotaryDim there.
std::string camel_case(const std::string& message) {
  std::string result;
  for (std::size_t i = 0; i < message.size(); ++i) {
    const bool joint = message[i] == '_' && i + 1 < message.size() && std::islower(message[i + 1]);
    result += joint ? static_cast<char>(std::toupper(message[++i])) : message[i];
  }
  return result;
}

const char* code_of(cria_status status) {
  switch (status) {
    case CRIA_ERROR_MEMORY:
      return "ERR_CRIA_MEMORY";
    case CRIA_ERROR_FILE:
      return "ERR_CRIA_FILE";
    case CRIA_ERROR_UNSUPPORTED:
      return "ERR_CRIA_UNSUPPORTED";
    case CRIA_ERROR_DEVICE:
      return "ERR_CRIA_DEVICE";
    case CRIA_ERROR_NUMBERS:
      return "ERR_CRIA_NUMBERS";
    case CRIA_ERROR_ABORTED:
      return "ERR_CRIA_ABORTED";
    default:
      return "ERR_CRIA_INTERNAL";
  }
}

}  // namespace

Napi::Error type_error(Napi::Env env, const std::string& message) {
  return with_code(Napi::TypeError::New(env, message));
}

Napi::Error range_error(Napi::Env env, const std::string& message) {
  return with_code(Napi::RangeError::New(env, message));
}

Napi::Error cria_error(Napi::Env env, const char* code, const std::string& message) {
  const auto* instance = env.GetInstanceData<Instance>();
  if (instance != nullptr && !instance->error_class.IsEmpty()) {
    const Napi::Value error =
        instance->error_class.New({Napi::String::New(env, code), Napi::String::New(env, message)});
    return Napi::Error(env, error);
  }
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", code);
  return error;
}

Napi::Error memory_error(Napi::Env env) {
  return cria_error(env, "ERR_CRIA_MEMORY", "the system has no memory to give");
}

Napi::Error status_error(Napi::Env env, cria_status status, const std::string& message) {
  if (status == CRIA_ERROR_ARGUMENT) return range_error(env, camel_case(message));
  return cria_error(env, code_of(status), message);
}

void check(Napi::Env env, cria_status status) {
  if (status != CRIA_OK) throw status_error(env, status, cria_last_error());
}

void check(Napi::Env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

}  // namespace cria::addon
