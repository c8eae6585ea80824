#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

// cuBLASLt as it is found at run time: its header is not needed to build. Names, numbers and
// layouts are those of its C interface, the same from CUDA 11.4 to 13.2; only versions 12 and 13
// are taken, and only after a product that is compared with ours (large_gemm.cu).
namespace vilg::cuda::cublaslt {

enum DataType : int32_t { kReal32F = 0, kReal16BF = 14 };
enum ComputeType : int32_t { kCompute32F = 68 };
enum Operation : int32_t { kPlain = 0, kTransposed = 1 };
enum DescriptionAttribute : int32_t {
  kTransA = 3,
  kTransB = 4,
  kEpilogue = 7,
  kBiasPointer = 8,
};
enum EpilogueKind : int32_t { kEpilogueDefault = 1, kEpilogueBias = 4 };
enum LayoutAttribute : int32_t {
  kBatchCount = 5,          // int32_t
  kStridedBatchOffset = 6,  // int64_t, elements
};
enum PreferenceAttribute : int32_t {
  kMaxWorkspaceBytes = 1,    // uint64_t
  kReductionSchemeMask = 3,  // uint32_t
  kMinAlignmentA = 5,        // uint32_t, bytes; and so on for B, C and D
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8,
};
// Parts of a K that was cut are added by a pass of their own, in the type of the computation.
inline constexpr uint32_t kReduceInComputeType = 2;

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int32_t state;  // 0: the algorithm can be used
  float waves;
  int32_t reserved[4];
};
static_assert(sizeof(Algorithm) == 64 && sizeof(Heuristic) == 96);
static_assert(offsetof(Heuristic, workspace_bytes) == 64 && offsetof(Heuristic, state) == 72);

// Handles, descriptions, layouts and preferences are opaque pointers; what returns int is 0 when
// all is well.
#define VILG_CUBLASLT_FUNCTIONS(FUNCTION)                                                          \
  FUNCTION(size_t, GetVersion, ())                                                                 \
  FUNCTION(int, Create, (void** handle))                                                           \
  FUNCTION(int, MatmulDescCreate, (void** description, int compute_type, int scale_type))          \
  FUNCTION(int, MatmulDescSetAttribute,                                                            \
           (void* description, int attribute, const void* value, size_t size))                     \
  FUNCTION(int, MatmulDescDestroy, (void* description))                                            \
  FUNCTION(int, MatrixLayoutCreate,                                                                \
           (void** layout, int type, uint64_t rows, uint64_t columns, int64_t ld))                 \
  FUNCTION(int, MatrixLayoutSetAttribute,                                                          \
           (void* layout, int attribute, const void* value, size_t size))                          \
  FUNCTION(int, MatrixLayoutDestroy, (void* layout))                                               \
  FUNCTION(int, MatmulPreferenceCreate, (void** preference))                                       \
  FUNCTION(int, MatmulPreferenceSetAttribute,                                                      \
           (void* preference, int attribute, const void* value, size_t size))                      \
  FUNCTION(int, MatmulPreferenceDestroy, (void* preference))                                       \
  FUNCTION(int, MatmulAlgoGetHeuristic,                                                            \
           (void* handle, void* description, void* a, void* b, void* c, void* d, void* preference, \
            int wanted, Heuristic* found, int* count))                                             \
  FUNCTION(int, Matmul,                                                                            \
           (void* handle, void* description, const void* alpha, const void* a, void* a_layout,     \
            const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,        \
            void* d, void* d_layout, const Algorithm* algorithm, void* workspace,                  \
            size_t workspace_bytes, void* stream))

struct Functions {
#define VILG_CUBLASLT_FUNCTION(Result, name, Parameters) Result(*name) Parameters = nullptr;
  VILG_CUBLASLT_FUNCTIONS(VILG_CUBLASLT_FUNCTION)
#undef VILG_CUBLASLT_FUNCTION
};

// Null where there is no library, or where it was given up. Looks for it once: the environment
// variable VILG_CUBLASLT (a file, a folder, or "off") and nothing else where it is set; what the
// process has loaded already; the system's search path; $CUDA_HOME/lib64, /usr/local/cuda/lib64.
const Functions* functions();

// Never asks it again; libraries_json() says why.
void give_up(const std::string& reason);

}  // namespace vilg::cuda::cublaslt
