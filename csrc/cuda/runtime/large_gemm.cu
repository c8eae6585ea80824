// Large products by cuBLASLt. What it sees: c is column-major there, so it computes the transposed
// product, whose first operand is our b. Epilogues that it shares with us are a bias and one
// addend; the others are a pass of ours over its result (finish()).
#include "cuda/large_gemm.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "core/error.h"
#include "cuda/launch.h"
#include "cuda/runtime/cublaslt.h"

namespace vilg::cuda {
namespace {

using namespace cublaslt;

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

// What the library writes: d = alpha * op(a) . op(b) + bias + addend.
struct Target {
  void* d;
  const void* addend;  // laid out as d; may be null, may be d
  const float* bias;   // float32 d only; may be null
  int64_t ld, batch_stride;
  float alpha;
  bool half;
};

int64_t alignment(const void* pointer, int64_t ld, int64_t stride, int64_t element_bytes) {
  int64_t bytes = 16;
  while (reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) != 0 ||
         ld * element_bytes % bytes != 0 || stride * element_bytes % bytes != 0) {
    bytes /= 2;
  }
  return bytes;
}

// The library's objects for products of one shape, and the algorithm that is used for all of them.
class Plan {
 public:
  Plan(const Functions& lt, void* handle, const Product& p, const Target& t) : lt_(lt) {
    usable_ = describe(p, t) && choose(handle, t);
  }
  ~Plan() {
    if (description_) lt_.MatmulDescDestroy(description_);
    for (void* layout : {a_, b_, d_}) {
      if (layout) lt_.MatrixLayoutDestroy(layout);
    }
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  bool usable() const { return usable_; }
  size_t workspace_bytes() const { return workspace_bytes_; }

  int run(void* handle, const Product& p, const Target& t, void* workspace, void* stream) {
    if (t.bias) {
      const int status =
          lt_.MatmulDescSetAttribute(description_, kBiasPointer, &t.bias, sizeof t.bias);
      if (status != 0) return status;
    }
    const float beta = t.addend ? 1.0f : 0.0f;
    return lt_.Matmul(handle, description_, &t.alpha, p.b.data, b_, p.a.data, a_, &beta,
                      t.addend ? t.addend : t.d, d_, t.d, d_, &algorithm_, workspace,
                      workspace_bytes_, stream);
  }

 private:
  template <typename T>
  bool set(const T& value, int attribute) {
    return lt_.MatmulDescSetAttribute(description_, attribute, &value, sizeof value) == 0;
  }
  bool make_layout(void*& layout, int32_t type, int64_t rows, int64_t columns, int64_t ld,
                   int64_t stride, int32_t batch) {
    return lt_.MatrixLayoutCreate(&layout, type, static_cast<uint64_t>(rows),
                                  static_cast<uint64_t>(columns), ld) == 0 &&
           lt_.MatrixLayoutSetAttribute(layout, kBatchCount, &batch, sizeof batch) == 0 &&
           lt_.MatrixLayoutSetAttribute(layout, kStridedBatchOffset, &stride, sizeof stride) == 0;
  }
  // An operand's memory, column-major: K down the columns where K is contiguous.
  bool make_operand(void*& layout, const Operand& o, int64_t rows, const Product& p) {
    return make_layout(layout, kReal16BF, o.along_k ? p.k : rows, o.along_k ? rows : p.k, o.ld,
                       o.batch_stride, p.batch);
  }
  bool describe(const Product& p, const Target& t) {
    // wanted are b as N x K and a as K x M
    const int32_t trans_b = p.b.along_k ? kTransposed : kPlain;
    const int32_t trans_a = p.a.along_k ? kPlain : kTransposed;
    const int32_t epilogue = t.bias ? kEpilogueBias : kEpilogueDefault;
    return lt_.MatmulDescCreate(&description_, kCompute32F, kReal32F) == 0 &&
           set(trans_b, kTransA) && set(trans_a, kTransB) && set(epilogue, kEpilogue) &&
           (!t.bias || set(t.bias, kBiasPointer)) && make_operand(b_, p.b, p.n, p) &&
           make_operand(a_, p.a, p.m, p) &&
           make_layout(d_, t.half ? kReal16BF : kReal32F, p.n, p.m, t.ld, t.batch_stride, p.batch);
  }
  bool choose(void* handle, const Target& t) {
    void* preference = nullptr;
    if (lt_.MatmulPreferenceCreate(&preference) != 0) return false;
    const auto prefer = [&](int attribute, auto value) {
      return lt_.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) == 0;
    };
    const int64_t element_bytes = t.half ? 2 : 4;
    const auto of_d = static_cast<uint32_t>(alignment(t.d, t.ld, t.batch_stride, element_bytes));
    const auto of_c = static_cast<uint32_t>(
        alignment(t.addend ? t.addend : t.d, t.ld, t.batch_stride, element_bytes));
    Heuristic found{};
    int count = 0;
    const bool chosen = prefer(kMaxWorkspaceBytes, uint64_t{kWorkspaceBytes}) &&
                        prefer(kReductionSchemeMask, kReduceInComputeType) &&
                        prefer(kMinAlignmentA, uint32_t{16}) &&
                        prefer(kMinAlignmentB, uint32_t{16}) && prefer(kMinAlignmentC, of_c) &&
                        prefer(kMinAlignmentD, of_d) &&
                        lt_.MatmulAlgoGetHeuristic(handle, description_, b_, a_, d_, d_, preference,
                                                   1, &found, &count) == 0 &&
                        count == 1 && found.state == 0 && found.workspace_bytes <= kWorkspaceBytes;
    lt_.MatmulPreferenceDestroy(preference);
    algorithm_ = found.algorithm;
    workspace_bytes_ = found.workspace_bytes;
    return chosen;
  }

  const Functions& lt_;
  void *description_ = nullptr, *a_ = nullptr, *b_ = nullptr, *d_ = nullptr;
  Algorithm algorithm_{};
  size_t workspace_bytes_ = 0;
  bool usable_ = false;
};

// The library on one device.
class Engine {
 public:
  // False where the library does not take the product; nothing has happened then.
  bool run(const Functions& lt, const Product& p, const Target& t, Queue& queue) {
    std::lock_guard lock(mutex_);
    if (!handle_ && lt.Create(&handle_) != 0) {
      give_up("cublasLtCreate failed");
      return false;
    }
    std::unique_ptr<Plan>& plan = plans_[key(p, t)];
    if (!plan) plan = std::make_unique<Plan>(lt, handle_, p, t);
    if (!plan->usable()) return false;
    const Workspace workspace(queue.allocator(), plan->workspace_bytes());
    const int status = plan->run(handle_, p, t, workspace.data(), stream_of(queue));
    if (status != 0) give_up(format("cublasLtMatmul failed with status %d", status));
    return status == 0;
  }
  bool& tested() { return tested_; }

 private:
  using Key = std::array<int64_t, 17>;
  // All that the choice of an algorithm may look at.
  static Key key(const Product& p, const Target& t) {
    const int64_t element_bytes = t.half ? 2 : 4;
    return {p.m,
            p.n,
            p.k,
            p.batch,
            p.a.ld,
            p.a.batch_stride,
            p.a.along_k,
            p.b.ld,
            p.b.batch_stride,
            p.b.along_k,
            t.ld,
            t.batch_stride,
            t.half,
            t.bias != nullptr,
            t.addend != nullptr,
            alignment(t.d, t.ld, t.batch_stride, element_bytes),
            t.addend ? alignment(t.addend, t.ld, t.batch_stride, element_bytes) : 0};
  }

  std::mutex mutex_;
  void* handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
  bool tested_ = false;
};

Engine& engine_of(Queue& queue) {
  static auto& mutex = *new std::mutex;
  static auto& engines = *new std::map<int, Engine>;
  (void)stream_of(queue);  // makes its device the current one
  int device = 0;
  check_runtime(cudaGetDevice(&device), "asking for the current device");
  std::lock_guard lock(mutex);
  return engines[device];
}

// Products of small integers, which have no rounding in any order: in every layout, a batch, gaps
// between the rows of c, a bias and an addend. Throws where the library and our kernel differ.
void self_test(const Functions& lt, Engine& engine, Queue& queue) {
  constexpr int64_t kM = 72, kN = 136, kK = 96, kBatch = 2, kLd = 144,
                    kElements = kBatch * 160 * kLd;
  const auto pattern = [](int64_t i, int64_t step) {
    return static_cast<float>(i * step % 17 - 8);
  };
  std::vector<bf16> a(kElements), b(kElements);
  std::vector<float> c(kElements), bias(kN), expected(kElements), actual(kElements);
  for (int64_t i = 0; i < kElements; ++i) {
    const auto at = static_cast<size_t>(i);
    a[at] = float_to_bf16(pattern(i, 7)), b[at] = float_to_bf16(pattern(i, 11));
    c[at] = pattern(i, 5);
  }
  for (int64_t i = 0; i < kN; ++i) bias[static_cast<size_t>(i)] = pattern(i, 3);
  const size_t operand_bytes = a.size() * sizeof(bf16), result_bytes = c.size() * sizeof(float);
  const Workspace device_a(queue.allocator(), operand_bytes),
      device_b(queue.allocator(), operand_bytes);
  const Workspace device_c(queue.allocator(), result_bytes),
      device_bias(queue.allocator(), bias.size() * sizeof(float));
  queue.copy_in(device_a.data(), a.data(), operand_bytes);
  queue.copy_in(device_b.data(), b.data(), operand_bytes);
  queue.copy_in(device_bias.data(), bias.data(), bias.size() * sizeof(float));
  for (int layout = 0; layout < 4; ++layout) {
    Product p{{device_a.data(), kLd, 160 * kLd, true, (layout & 1) != 0, true},
              {device_b.data(), kLd, 160 * kLd, true, (layout & 2) != 0, true},
              kM,
              kN,
              kK,
              kBatch};
    Output out{};
    out.c = device_c.data(), out.bias = device_bias.as<float>();
    out.ldc = kLd, out.batch_stride = 80 * kLd;
    out.alpha = 2.0f, out.accumulate = true;
    queue.copy_in(device_c.data(), c.data(), result_bytes);
    gemm_bf16(p, out, queue);
    queue.copy_out(expected.data(), device_c.data(), result_bytes);
    queue.copy_in(device_c.data(), c.data(), result_bytes);
    const Target target{out.c, out.c, out.bias, out.ldc, out.batch_stride, out.alpha, false};
    VILG_CHECK(engine.run(lt, p, target, queue), kInternal, "it does not take a product of %d x %d",
               p.m, p.n);
    queue.copy_out(actual.data(), device_c.data(), result_bytes);
    VILG_CHECK(actual == expected, kInternal, "its result of a test product is wrong (layout %d)",
               layout);
  }
}

// Null where there is no library for this queue's device now.
Engine* ready_engine(const Functions& lt, Queue& queue) {
  Engine& engine = engine_of(queue);
  static auto& mutex = *new std::mutex;
  std::lock_guard lock(mutex);
  if (engine.tested()) return &engine;
  if (queue.recording()) return nullptr;  // a test reads results, which a recording has none of
  try {
    self_test(lt, engine, queue);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kDeviceLost) throw;
    if (functions()) give_up(error.what());
    return nullptr;
  }
  engine.tested() = true;
  return &engine;
}

}  // namespace

bool large_gemm(const Product& p, const Output& out, Queue& queue) {
  const Functions* lt = functions();
  Engine* engine = lt ? ready_engine(*lt, queue) : nullptr;
  if (!engine) return false;
  const bool plain = out.epilogue == Epilogue::kNone && !(out.residual && out.accumulate) &&
                     !(out.bias && out.half);
  if (plain) {
    const Target target{out.c,
                        out.accumulate ? out.c : out.residual,
                        out.bias,
                        out.ldc,
                        out.batch_stride,
                        out.alpha,
                        out.half};
    return engine->run(*lt, p, target, queue);
  }
  if (out.epilogue == Epilogue::kGelu && out.pre_activation && !out.half) {
    const Target target{out.pre_activation, nullptr,   out.bias, out.ldc,
                        out.batch_stride,   out.alpha, false};
    if (!engine->run(*lt, p, target, queue)) return false;
    Output rest = out;
    rest.pre_activation = nullptr, rest.bias = nullptr, rest.alpha = 1.0f;
    finish({static_cast<const float*>(out.pre_activation), out.ldc, out.batch_stride, 0, 1}, rest,
           p.m, p.n, p.batch, queue);
    return true;
  }
  // the sums go to c itself where nothing of c is needed later
  if (!out.half && !out.accumulate && out.residual != out.c) {
    const Target target{out.c, nullptr, nullptr, out.ldc, out.batch_stride, 1.0f, false};
    if (!engine->run(*lt, p, target, queue)) return false;
    finish({static_cast<const float*>(out.c), out.ldc, out.batch_stride, 0, 1}, out, p.m, p.n,
           p.batch, queue);
    return true;
  }
  const SumsWorkspace workspace(1, p.batch, p.m, p.n, queue);
  const Output sums = workspace.output();
  if (!engine->run(*lt, p, {sums.c, nullptr, nullptr, sums.ldc, sums.batch_stride, 1.0f, false},
                   queue)) {
    return false;
  }
  finish(workspace.sums(), out, p.m, p.n, p.batch, queue);
  return true;
}

}  // namespace vilg::cuda
