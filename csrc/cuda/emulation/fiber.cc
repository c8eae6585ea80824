#include "cuda/emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

// This file is never compiled with -fsanitize=thread, so it is told what the others are built with.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define VILG_ADDRESS_SANITIZER 1
#else
#define VILG_ADDRESS_SANITIZER 0
#endif
#if defined(VILG_RACE_CHECK)
#include <sanitizer/tsan_interface.h>
// exported by the run-time library, declared by no header of GCC 12
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

namespace vilg::cuda::emulation {
namespace {

#if defined(__x86_64__)

// The six registers that a callee keeps, and the stack pointer.
asm(R"(
.text
.p2align 4
.type vilg_switch_stack, @function
vilg_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size vilg_switch_stack, .-vilg_switch_stack
)");
extern "C" void vilg_switch_stack(void** save, void* load) asm("vilg_switch_stack");

void* first_frame(char* top, void (*entry)()) {
  // as if `entry` had been called: the stack is 16-byte aligned less the return address
  auto** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // the return address that entry never uses
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--slot = nullptr;
  return slot;
}

void change_stack(void** save, void* load) { vilg_switch_stack(save, load); }

#else

void* first_frame(char* top, void (*entry)()) {
  // the context lies at the top of the stack that it describes
  auto* context = reinterpret_cast<ucontext_t*>(
      (reinterpret_cast<uintptr_t>(top) - sizeof(ucontext_t)) & ~uintptr_t{63});
  getcontext(context);
  char* low = top - Fiber::kStackBytes;
  context->uc_stack.ss_sp = low;
  context->uc_stack.ss_size = static_cast<size_t>(reinterpret_cast<char*>(context) - low);
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}

void change_stack(void** save, void* load) {
  ucontext_t own;
  *save = &own;
  swapcontext(&own, static_cast<ucontext_t*>(load));
}

#endif

size_t page_bytes() {
  static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

Fiber::Fiber() : size_(kStackBytes), own_stack_(true) {
  const size_t page = page_bytes();
  void* mapped = mmap(nullptr, page + size_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  if (mprotect(mapped, page, PROT_NONE) != 0) {
    munmap(mapped, page + size_);
    throw std::bad_alloc();
  }
  stack_ = static_cast<char*>(mapped) + page;
}

Fiber::Fiber(CurrentThread) {
#if defined(VILG_RACE_CHECK)
  thread_race_ = __tsan_get_current_fiber();
#endif
}

Fiber::~Fiber() {
  if (!own_stack_) return;
#if defined(VILG_RACE_CHECK)
  if (thread_race_) __tsan_destroy_fiber(thread_race_);
#endif
#if VILG_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(stack_, size_);
#endif
  munmap(static_cast<char*>(stack_) - page_bytes(), page_bytes() + size_);
}

void Fiber::prepare(void (*entry)()) {
#if VILG_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(stack_, size_);
#endif
#if defined(VILG_RACE_CHECK)
  if (!thread_race_) thread_race_ = __tsan_create_fiber(0);  // takes long, so it is kept
#endif
  fake_stack_ = nullptr;
  stack_pointer_ = first_frame(static_cast<char*>(stack_) + size_, entry);
}

void Fiber::switch_to(Fiber& from, Fiber& to, [[maybe_unused]] bool from_ends) {
#if VILG_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack_, to.stack_, to.size_);
#endif
#if defined(VILG_RACE_CHECK)
  __tsan_switch_to_fiber(to.thread_race_, __tsan_switch_to_fiber_no_sync);
#endif
  change_stack(&from.stack_pointer_, to.stack_pointer_);
#if VILG_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::entered([[maybe_unused]] Fiber& previous) {
#if VILG_ADDRESS_SANITIZER
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!previous.own_stack_) {  // the thread's own stack, where this one will go back to
    previous.stack_ = const_cast<void*>(bottom);
    previous.size_ = size;
  }
#endif
}

void race_release([[maybe_unused]] void* object) {
#if defined(VILG_RACE_CHECK)
  __tsan_release(object);
#endif
}

void race_acquire([[maybe_unused]] void* object) {
#if defined(VILG_RACE_CHECK)
  __tsan_acquire(object);
#endif
}

RaceIgnored::RaceIgnored() {
#if defined(VILG_RACE_CHECK)
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
}

RaceIgnored::~RaceIgnored() {
#if defined(VILG_RACE_CHECK)
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

}  // namespace vilg::cuda::emulation
