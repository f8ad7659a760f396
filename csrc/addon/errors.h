// JavaScript errors: TypeErrors and RangeErrors for arguments, CriaErrors for the rest, all with a code.
#pragma once

#include <napi.h>

#include <string>

#include "../cria.h"

namespace cria::addon {

// What this instance of the addon, one in each JavaScript environment, keeps.
struct Instance {
  Napi::FunctionReference error_class;
};

Napi::Error type_error(Napi::Env env, const std::string& message);
Napi::Error range_error(Napi::Env env, const std::string& message);
Napi::Error cria_error(Napi::Env env, const char* code, const std::string& message);

// For std::bad_alloc.
Napi::Error memory_error(Napi::Env env);

// The error that a failed call of cria.h stands for.
Napi::Error status_error(Napi::Env env, cria_status status, const std::string& message);

// Throws where `status` is not CRIA_OK; on the thread that made the call.
void check(Napi::Env env, cria_status status);

// Throws the pending exception where a call of Node-API failed.
void check(Napi::Env env, napi_status status);

}  // namespace cria::addon
