// How a family of SIMD kernels is written once and compiled for every instruction set.
//
//   simd/<family>.h    a struct of function pointers over plain pointers and sizes, then
//   VILG_DECLARE_SIMD(Struct, family) simd/<family>.cc   everything in an anonymous namespace, then
//                      VILG_SIMD_ENTRY(Struct, family) { static const Struct table = {...}; return
//                      &table; }
//   <family>.cc        baseline code: checks, blocking, threads; calls
//   VILG_SIMD(family)->kernel(...)
//                      where families share a layout, all of one active_isa(), which another thread
//                      may change in between:
//   VILG_SIMD_OF(isa, family)
//
// A .cc of this folder may include only C headers, intrinsics and headers of this folder: a
// non-inlined inline function of any other header would be merged by the linker with the baseline's
// copy and could bring AVX-512 to a machine without it. cmake/check_isa.cmake stops the build when
// a variant's object defines a weak symbol.
#pragma once

#define VILG_JOIN3_(a, b, c) a##b##c
#define VILG_JOIN3(a, b, c) VILG_JOIN3_(a, b, c)
#define VILG_SIMD_NAME(family, variant) VILG_JOIN3(vilg_simd_, family##_, variant)

#define VILG_SIMD_ENTRY(Struct, family) \
  extern "C" const Struct* VILG_SIMD_NAME(family, VILG_VARIANT)(void)

#if defined(__x86_64__)
#define VILG_DECLARE_SIMD(Struct, family)                    \
  extern "C" const Struct* VILG_SIMD_NAME(family, v2)(void); \
  extern "C" const Struct* VILG_SIMD_NAME(family, v3)(void); \
  extern "C" const Struct* VILG_SIMD_NAME(family, v4)(void); \
  extern "C" const Struct* VILG_SIMD_NAME(family, v4bf16)(void);
#define VILG_SIMD_OF(isa, family)                                        \
  ((isa) == ::vilg::cpu::Isa::kV4Bf16 ? VILG_SIMD_NAME(family, v4bf16)() \
   : (isa) == ::vilg::cpu::Isa::kV4   ? VILG_SIMD_NAME(family, v4)()     \
   : (isa) == ::vilg::cpu::Isa::kV3   ? VILG_SIMD_NAME(family, v3)()     \
                                      : VILG_SIMD_NAME(family, v2)())
#else
#define VILG_DECLARE_SIMD(Struct, family) \
  extern "C" const Struct* VILG_SIMD_NAME(family, neon)(void);
#define VILG_SIMD_OF(isa, family) ((void)(isa), VILG_SIMD_NAME(family, neon)())
#endif
#define VILG_SIMD(family) VILG_SIMD_OF(::vilg::cpu::active_isa(), family)
