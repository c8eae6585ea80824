#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/stop_flag.h"
#include "train/optimizer.h"

namespace vilg {

// What a training run keeps besides weights, moments and the number of updates.
struct TrainingExtras {
  std::string kind;  // "generator": a file of another kind is refused
  std::map<std::string, std::vector<int32_t>> arrays;
  std::map<std::string, std::vector<float>> averages;
};

// A model in training; of all but the first, whose prefix is empty, names begin with the prefix.
struct TrainedPart {
  std::string prefix;
  Optimizer* optimizer;
};

// One safetensors file from which a run goes on bit for bit: every weight in float32 under its name
// and in the layout of checkpoints, its moments as m.<name> and v.<name> in the order in which the
// optimizer holds them, extras as tensors state.<name>, numbers of updates in the metadata.
// Gradients that were gathered since the last update are not part of it. Atomic.
void save_training_state(const std::string& path, const std::vector<TrainedPart>& parts,
                         const TrainingExtras& extras, const StopFlag* stop);

// Puts such a file into the models and the optimizers. `extras` says what to expect (kind, names
// and lengths of the arrays) and receives it. Everything is checked before anything is changed:
// kCheckpointIncompatible names the tensor, what was expected and what was found.
void load_training_state(const std::string& path, const std::vector<TrainedPart>& parts,
                         TrainingExtras& extras, const StopFlag* stop);

}  // namespace vilg
