#pragma once

// For functions that host and device code share.
#if defined(__CUDACC__)
#define VILG_HOST_DEVICE __host__ __device__
#else
#define VILG_HOST_DEVICE
#endif
