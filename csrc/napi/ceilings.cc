// What the machine can do at most: what the kernels' times are held against.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "core/philox.h"
#include "kernels/ceilings.h"
#include "napi/arguments.h"
#include "napi/async_task.h"
#include "napi/definitions.h"
#include "napi/errors.h"
#include "napi/kernel_job.h"

namespace vilg::binding {
namespace {

// ceilings({ threads, milliseconds }, control) -> { float32Flops, bfloat16Flops, readBytes,
// sustainedReadBytes }
Napi::Value ceilings(const Napi::CallbackInfo& info) {
  const Argument options(info, 0, "options");
  const int threads = static_cast<int>(options["threads"].integer(0, 1024));
  const double milliseconds = options["milliseconds"].number(0, 1e6);
  return start_task(
      info.Env(), Argument(info, 1, "control").task_options(),
      [threads, milliseconds](TaskContext& task) {
        HostArena arena;
        std::optional<ThreadPool> own_pool;
        if (threads > 0) own_pool.emplace(threads);
        OpContext context{.pool = own_pool ? &*own_pool : &ThreadPool::shared(),
                          .allocator = &arena,
                          .stop = &task.stop};
        return measure_cpu_ceilings(milliseconds, context);
      },
      [](Napi::Env env, const CpuCeilings& measured) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("float32Flops", measured.float32_flops);
        result.Set("bfloat16Flops", measured.bfloat16_flops);
        result.Set("readBytes", measured.read_bytes);
        result.Set("sustainedReadBytes", measured.sustained_read_bytes);
        return result;
      });
}

// Numbers without a pattern, since some devices move zeros faster than anything else: one block of
// them, again and again until `memory` is full.
std::vector<uint32_t> fill_with_noise(Backend& backend, const Tensor& memory) {
  constexpr size_t kBlockWords = size_t{4} << 20;
  const size_t size = memory.size_bytes();
  std::vector<uint32_t> block(std::min(kBlockWords, (size + 3) / 4));
  for (size_t i = 0; i < block.size(); ++i) {
    block[i] = philox({static_cast<uint32_t>(i), 0, 0, 0}, {0, 0})[0];
  }
  size_t filled = std::min(size, block.size() * 4);
  backend.copy_in(memory.data(), block.data(), filled);
  while (filled < size) {
    const size_t more = std::min(filled, size - filled);
    backend.copy(memory.as<char>() + filled, memory.data(), more);
    filled += more;
  }
  return block;
}

// Whether the end of `memory`, which was copied last, is what fill_with_noise() wrote.
bool ends_with_noise(Backend& backend, const Tensor& memory, const std::vector<uint32_t>& block) {
  const size_t size = memory.size_bytes(), block_bytes = block.size() * 4;
  const size_t tail = std::min(size, block_bytes), begin = size - tail;
  std::vector<unsigned char> found(tail);
  backend.copy_out(found.data(), memory.as<char>() + begin, tail);
  const auto* expected = reinterpret_cast<const unsigned char*>(block.data());
  for (size_t i = 0; i < tail; ++i) {
    if (found[i] != expected[(begin + i) % block_bytes]) return false;
  }
  return true;
}

// copy(bytes, options, control) -> { milliseconds }
Napi::Value copy(const Napi::CallbackInfo& info) {
  const int64_t bytes = Argument(info, 0, "bytes").integer(1, int64_t{1} << 40);
  auto job = std::make_shared<Job>(RunOptions(Argument(info, 1, "options")));
  return start_task(
      info.Env(), Argument(info, 2, "control").task_options(),
      [job, bytes](TaskContext& task) {
        job->begin(task);
        const Tensor from = job->empty(DType::kUInt8, bytes), to = job->empty(DType::kUInt8, bytes);
        Backend& backend = job->backend();
        const std::vector<uint32_t> noise = fill_with_noise(backend, from);
        backend.fill_zero(to.data(), to.size_bytes());  // an earlier call may have left the same
        job->measure(task, [&] { backend.copy(to.data(), from.data(), to.size_bytes()); });
        VILG_CHECK(ends_with_noise(backend, to, noise), kInternal,
                   "a copy of %lld bytes is not what it was made from",
                   static_cast<long long>(bytes));
        return job->milliseconds();
      },
      [](Napi::Env env, const std::vector<double>& milliseconds) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        result.Set("milliseconds", to_typed_array(env, milliseconds));
        return result;
      });
}

}  // namespace

void define_ceilings(Napi::Env, Napi::Object exports) {
  export_function<&ceilings>(exports, "ceilings");
  export_function<&copy>(exports, "copy");
}

}  // namespace vilg::binding
