#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "core/dtype.h"
#include "core/error.h"
#include "core/memory.h"

namespace vilg {

// Up to five dimensions, row-major.
class Shape {
 public:
  static constexpr int kMaxRank = 5;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    VILG_CHECK(dims.size() <= kMaxRank, kInternal, "rank %zu", dims.size());
    for (int64_t dim : dims) push_back(dim);
  }
  void push_back(int64_t dim) {
    VILG_CHECK(rank_ < kMaxRank && dim >= 0, kShapeMismatch,
               "Expected at most %d non-negative dimensions, received one of %lld", kMaxRank,
               static_cast<long long>(dim));
    dims_[static_cast<size_t>(rank_++)] = dim;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? rank_ + i : i)]; }
  int64_t num_elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= (*this)[i];
    return n;
  }
  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i) {
      if ((*this)[i] != other[i]) return false;
    }
    return true;
  }
  std::string to_string() const {
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string((*this)[i]);
    return text + "]";
  }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// A contiguous array and a share in the memory it lies in: copies alias, clone() does not exist on
// purpose (ops copy). Memory that something else owns (a file map, a typed array) is wrapped with
// an owner that keeps it alive.
class Tensor {
 public:
  Tensor() = default;

  static Tensor empty(Allocator& allocator, DType dtype, const Shape& shape) {
    const size_t size = static_cast<size_t>(shape.num_elements()) * dtype_size(dtype);
    void* block = allocator.allocate(size ? size : 1);
    Tensor tensor;
    tensor.dtype_ = dtype;
    tensor.shape_ = shape;
    tensor.data_ = block;
    tensor.owner_ =
        std::shared_ptr<void>(block, [&allocator](void* p) { allocator.deallocate(p); });
    return tensor;
  }
  static Tensor wrap(void* data, DType dtype, const Shape& shape,
                     std::shared_ptr<void> owner = nullptr) {
    Tensor tensor;
    tensor.data_ = data;
    tensor.dtype_ = dtype;
    tensor.shape_ = shape;
    tensor.owner_ = std::move(owner);
    return tensor;
  }

  bool defined() const { return data_ != nullptr; }
  explicit operator bool() const { return defined(); }
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  float* f32() const {
    VILG_CHECK(dtype_ == DType::kFloat32, kInternal, "expected float32, have %s",
               dtype_name(dtype_));
    return static_cast<float*>(data_);
  }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t num_elements() const { return shape_.num_elements(); }
  size_t size_bytes() const { return static_cast<size_t>(num_elements()) * dtype_size(dtype_); }

  // The same memory under another shape.
  Tensor view(const Shape& shape) const {
    VILG_CHECK(shape.num_elements() == num_elements(), kShapeMismatch, "cannot view %s as %s",
               shape_.to_string().c_str(), shape.to_string().c_str());
    Tensor tensor = *this;
    tensor.shape_ = shape;
    return tensor;
  }

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  Shape shape_;
  std::shared_ptr<void> owner_;
};

}  // namespace vilg
