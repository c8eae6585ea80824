#pragma once

#include <cstdint>
#include <vector>

#include "autograd/tape.h"

namespace vilg {

// Which pairs of a batch show the same picture, and which have the same caption: those have the
// same number. A pair is no negative of one that it shares picture or caption with.
struct PairGroups {
  std::vector<int32_t> image, text;
  bool opposed(size_t i, size_t j) const { return image[i] != image[j] && text[i] != text[j]; }
};

struct InfoNce {
  double loss = 0;  // mean over both directions
  // Shares of the pictures (captions) of the batch whose own caption (picture) is the nearest, and
  // nearer than any negative.
  double image_to_text = 0, text_to_image = 0;
};

// The most pairs that are compared with each other: their similarities are held in memory.
inline constexpr int64_t kMaxPairs = 8192;

// The symmetric cross-entropy of InfoNCE (Radford et al. 2021, "Learning Transferable Visual Models
// From Natural Language Supervision", figure 3): cosines of images and texts, each (B, .., dim),
// times exp(logit_scale), are logits among which each row and each column has to find its own pair,
//
//   loss = mean_i (-log softmax_j(l_ij)[i] - log softmax_j(l_ji)[i]) / 2
//
// where j runs over i and its negatives. `weight` times the gradient goes into images, texts and
// logit_scale where the tape records.
InfoNce info_nce(Tape& tape, const Value& images, const Value& texts, Parameter& logit_scale,
                 const PairGroups& groups, float weight);

// Rows (.., dim) divided by their Euclidean norms, in host memory.
std::vector<float> unit_rows(Backend& backend, const Tensor& rows);

}  // namespace vilg
