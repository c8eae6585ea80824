// Each file of this folder that adds to the module's exports says so here; module.cc calls them.
#pragma once

#include <napi.h>

namespace vilg::binding {

void define_stop_flag(Napi::Env env, Napi::Object exports);
void define_info(Napi::Env env, Napi::Object exports);
void define_kernels(Napi::Env env, Napi::Object exports);
void define_ceilings(Napi::Env env, Napi::Object exports);
void define_metrics(Napi::Env env, Napi::Object exports);
void define_safetensors(Napi::Env env, Napi::Object exports);
void define_generator(Napi::Env env, Napi::Object exports);
void define_image_tokenizer(Napi::Env env, Napi::Object exports);
void define_matcher(Napi::Env env, Napi::Object exports);
void define_sessions(Napi::Env env, Napi::Object exports);
void define_generator_trainer(Napi::Env env, Napi::Object exports);
void define_tokenizer_trainers(Napi::Env env, Napi::Object exports);
void define_matcher_trainer(Napi::Env env, Napi::Object exports);

}  // namespace vilg::binding
