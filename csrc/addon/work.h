// Work on a thread of the libuv pool that ends as a promise. The work touches no JavaScript value.
#pragma once

#include <napi.h>

#include <new>
#include <string>
#include <utility>

#include "errors.h"

namespace cria::addon {

// Job: { cria_status run() on the worker thread; Napi::Value result(Napi::Env) back on JavaScript's. }
template <class Job>
class Work final : public Napi::AsyncWorker {
 public:
  static Napi::Promise start(Napi::Env env, Job job) {
    auto* work = new Work(env, std::move(job));  // deletes itself when it is done
    const Napi::Promise promise = work->deferred_.Promise();
    work->Queue();
    return promise;
  }

 private:
  Work(Napi::Env env, Job job) : Napi::AsyncWorker(env), job_(std::move(job)), deferred_(env) {}

  void Execute() override {
    status_ = job_.run();
    if (status_ != CRIA_OK) message_ = cria_last_error();  // of this thread
  }

  // Whatever goes wrong while the result is made, the promise is settled.
  void OnOK() override {
    try {
      if (status_ != CRIA_OK) throw status_error(Env(), status_, message_);
      deferred_.Resolve(job_.result(Env()));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (const std::bad_alloc&) {
      deferred_.Reject(memory_error(Env()).Value());
    }
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Job job_;
  Napi::Promise::Deferred deferred_;
  cria_status status_ = CRIA_OK;
  std::string message_;
};

}  // namespace cria::addon
